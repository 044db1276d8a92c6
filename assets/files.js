// Files in and out. A chosen file travels inside an event to the server, never through the cache of uploads.
const LARGEST = 30_000_000;  // bytes, as in mam/web/files.py

function bring(file) {
  if (!file) return;
  if (file.size > LARGEST) {
    ask({title: 'Too large for the page', text: `${file.name} is larger than 30 MB. Import it with the command line: ` +
         'python -m mam import FILE', sure: 'I see'});
    return;
  }
  const reader = new FileReader();
  reader.addEventListener('load', () => {
    trigger('select', {act: 'import', name: file.name, data: reader.result.slice(reader.result.indexOf(',') + 1)});
  });
  reader.addEventListener('error', () => ask({title: 'It cannot be read', text: `${file.name}: ${reader.error.message}`}));
  if (file.size) reader.readAsDataURL(file);
  else trigger('select', {act: 'import', name: file.name, data: ''});
}

element.addEventListener('change', event => {
  if (!event.target.matches('input[type="file"]')) return;
  bring(event.target.files[0]);
  event.target.value = '';  // the same file can be chosen again
});

element.addEventListener('dragover', event => { event.preventDefault(); element.classList.add('over'); });
element.addEventListener('dragleave', () => element.classList.remove('over'));
element.addEventListener('drop', event => {
  event.preventDefault();
  element.classList.remove('over');
  bring(event.dataTransfer.files[0]);
});

element.addEventListener('click', async event => {
  const button = event.target.closest('button[data-act]');
  if (!button) return;
  const act = button.dataset.act;
  if (act === 'export') {
    const choices = [['ordinary', 'The memories, without the trash'],
                     ['complete', 'Everything: conversations, history and trash, too']];
    const answer = await ask({title: 'Export', sure: 'Save the file', text: 'Whoever has the file can read it; a purge ' +
      'here does not reach it.', fields: [{name: 'what', label: 'What', kind: 'select', choices}]});
    if (answer) trigger('select', {act, what: answer.what});
  } else if (act === 'purge-session') {
    const select = element.querySelector('select');
    const texts = [select.selectedOptions[0].textContent];
    const text = `Its messages and every memory told in it. ${FOREVER}`;
    const answer = await ask({title: 'Purge this conversation?', text, texts, sure: 'Purge for good', danger: true});
    if (answer) trigger('select', {act, session: select.value});
  } else if (act === 'purge-everything') {
    const word = button.dataset.word;
    const text = `Every memory and every conversation. ${FOREVER}`;
    const fields = [{name: 'word', label: `Type ${word}`, word}];
    const answer = await ask({title: 'Purge everything?', text, fields, sure: 'Purge everything', danger: true});
    if (answer) trigger('select', {act, word: answer.word});
  }
});
