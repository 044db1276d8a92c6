// Buttons about packs, in lists that are drawn anew while somebody works in them: what was focused stays focused.
let focused = null;
const drafts = {};  // what was typed over a sentence: it is there again when it could not be saved

const like = button => [...element.querySelectorAll('button')].find(other =>
  ['act', 'pack', 'document', 'sentences', 'page'].every(name => other.dataset[name] === button[name]));

element.addEventListener('click', async event => {
  const button = event.target.closest('button');
  if (!button) return;
  const {act, pack, document: named, sentences, page} = button.dataset;
  focused = {...button.dataset};
  const of = button.closest('[data-of]')?.dataset.of;  // which may be another one than is looked at by the answer
  if (page) trigger('select', {act: 'page', page: Number(page)});
  else if (act === 'delete') {
    const {texts, others, time} = button.dataset;
    const title = sentences ? `Delete from the pack ${of}?` : `Delete ${named} from ${of}?`;
    const with_ = others ? ` Until then ${others} cannot be asked about either.` : '';
    const text = 'It is taken out at once, with every question that was made of it; the weights that learned from it ' +
      `are thrown away and trained anew without it${time ? ` (${time})` : ''}.${with_} This cannot be undone.`;
    const sure = await ask({title, text, texts: texts ? texts.split('\n') : [], sure: 'Delete', danger: true});
    if (sure) trigger('select', {act, of, document: named, sentences: sentences ? sentences.split(',').map(Number) : []});
  } else if (act === 'edit') {
    const text = 'What it says now goes at once, with every question that was made of it; the weights that learned from ' +
      'it are thrown away and trained anew with your words. This cannot be undone.';
    const {texts} = button.dataset, draft = JSON.stringify([of, named, sentences, texts]);
    const value = drafts[draft] ?? texts;
    const fields = [{name: 'words', label: `A sentence of ${named}`, kind: 'textarea', value, most: 600}];
    const said = await ask({title: `Edit in the pack ${of}`, text, fields, sure: 'Save'});
    if (said) {
      drafts[draft] = said.words;
      trigger('select', {act, of, document: named, sentence: Number(sentences), words: said.words});
    }
  } else if (act === 'remove') {
    const sure = await ask({title: `Remove the pack ${of}?`, sure: 'Remove', danger: true, text: 'Its text, its questions ' +
      'and its weights are deleted. What it was made of stays where you have it.'});
    if (sure) trigger('select', {act, of});
  } else if (act) trigger('select', {act, ...(pack && {pack}), ...(of && {of})});
});

watch('value', () => requestAnimationFrame(() => {
  if (focused && document.activeElement === document.body) like(focused)?.focus({preventScroll: true});
}));
