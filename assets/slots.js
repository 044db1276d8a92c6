// Memories, in the table and on their own page: editing and tagging happen where they stand, and a draft survives when
// they are drawn anew meanwhile. What is ticked stays ticked on other pages.
const draft = {slot: null, version: null, text: '', saved: null};  // saved: what was sent and is not back yet
const label = {slot: null, text: ''};  // the tag being typed
const ticked = new Map();  // slot -> text
let focused = null;  // the button that was used last: it may be drawn anew under the keyboard

function holderOf(slot) {
  return [...element.querySelectorAll('[data-version]')].find(holder => holder.dataset.slot === slot);
}

const textOf = holder => holder.querySelector('.text').textContent;

// -- editing

function open(holder) {
  const text = holder.querySelector('.text');
  const area = document.createElement('textarea');
  area.value = draft.text;
  area.rows = Math.max(2, Math.ceil(draft.text.length / 60));
  area.setAttribute('aria-label', 'Text of the memory');
  area.addEventListener('input', () => { draft.text = area.value; });
  area.addEventListener('keydown', event => {
    if (event.key === 'Escape') { event.stopPropagation(); close(holder); }
    if (event.key === 'Enter' && !event.shiftKey) { event.preventDefault(); save(); }
  });
  text.hidden = true;
  text.after(area);
  if (draft.saved !== null) compare(holder);
  const actions = holder.querySelector('.actions');
  actions.dataset.before = actions.innerHTML;
  actions.innerHTML = '<button data-act="save" class="strong">Save</button><button data-act="cancel">Cancel</button>';
  area.focus();
}

function close(holder) {
  draft.slot = null;
  holder.querySelector('textarea')?.remove();
  holder.querySelector('.text').hidden = false;
  const actions = holder.querySelector('.actions');
  if (actions.dataset.before) actions.innerHTML = actions.dataset.before;
}

function save() {
  const {slot, version, text} = draft;
  draft.saved = text;
  trigger('select', {act: 'edit', slots: [slot], version, text});
  compare(holderOf(slot));
}

// Somebody else changed it since: the draft stays, their text stands above it, and saving again goes over that.
function compare(holder) {
  if (!holder || holder.dataset.version === draft.version) return;
  draft.version = holder.dataset.version;
  holder.querySelector('.text').hidden = false;
}

// Whether what was saved is what stands there now; dates that were worked out are in brackets.
function landed(holder) {
  const bare = text => text.replace(/ \([^)]*\)/g, '').trim();
  return draft.saved !== null && holder.dataset.version !== draft.version && bare(textOf(holder)) === bare(draft.saved);
}

// -- tags

function tagging(button, slot) {
  const field = document.createElement('input');
  let done = false;  // taking the field away blurs it, which would end it once more
  const end = keep => {
    if (done || !field.isConnected) return;
    done = true;
    if (label.slot === slot) label.slot = null;
    const tag = field.value.trim();
    field.replaceWith(button);
    if (keep && tag) trigger('select', {act: 'tag', slots: [slot], tag});
    else if (document.activeElement === document.body) button.focus();
  };
  field.className = 'tagging';
  field.maxLength = 64;
  field.value = label.text;
  field.setAttribute('aria-label', 'New tag');
  field.addEventListener('input', () => { label.text = field.value; });
  field.addEventListener('blur', () => setTimeout(end, 0, true));  // later: drawn anew, it is blurred, too
  field.addEventListener('keydown', event => {
    if (event.key === 'Enter') end(true);
    if (event.key === 'Escape') { event.stopPropagation(); end(false); }
  });
  button.replaceWith(field);
  field.focus();
}

// -- several at once

function showTicks() {
  const bar = element.querySelector('.bulk');
  if (!bar) return;
  bar.hidden = !ticked.size;
  bar.querySelector('b').textContent = `${ticked.size} chosen`;
  bar.querySelector('[data-bulk="merge"]').disabled = ticked.size < 2;
  const boxes = [...element.querySelectorAll('tr[data-slot] .tick input')];
  boxes.forEach(box => { box.checked = ticked.has(box.closest('tr').dataset.slot); });
  element.querySelector('[data-all]').checked = boxes.length > 0 && boxes.every(box => box.checked);
}

function tick(row, on) {
  if (on) ticked.set(row.dataset.slot, textOf(row));
  else ticked.delete(row.dataset.slot);
}

async function bulk(act) {
  const slots = [...ticked.keys()], texts = [...ticked.values()], many = `${slots.length} memories`;
  let more = {};
  if (act === 'tag') {
    more = await ask({title: `Tag ${many}`, texts, sure: 'Add the tag', fields: [{name: 'tag', label: 'Tag'}]});
  } else if (act === 'merge') {
    const text = 'The first one stays, with the text below; the others are kept as replaced and are not read any more.';
    const fields = [{name: 'text', label: 'Text to keep', kind: 'textarea', value: texts[0]}];
    more = await ask({title: `Merge ${many}`, text, texts, sure: 'Merge', fields});
  } else if (act === 'purge') more = await sure(texts);
  if (more && act !== 'none') trigger('select', {act, slots, ...more});
  if (more) ticked.clear();
  showTicks();
}

function sure(texts) {
  const title = texts.length === 1 ? 'Purge this memory?' : `Purge ${texts.length} memories?`;
  return ask({title, text: FOREVER, texts, sure: 'Purge for good', danger: true});
}

// -- what is clicked

element.addEventListener('change', event => {
  if (event.target.matches('[data-all]')) {
    element.querySelectorAll('tr[data-slot]').forEach(row => tick(row, event.target.checked));
  } else if (event.target.matches('.tick input')) tick(event.target.closest('tr'), event.target.checked);
  else return;
  showTicks();
});

element.addEventListener('click', async event => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.bulk) return bulk(button.dataset.bulk);
  if (button.dataset.page) return trigger('select', {act: 'page', page: Number(button.dataset.page)});
  const holder = button.closest('[data-version]'), act = button.dataset.act;
  const slot = holder?.dataset.slot;
  focused = {slot, act};
  if (act === 'edit') {
    if (draft.slot && holderOf(draft.slot)) close(holderOf(draft.slot));
    Object.assign(draft, {slot, version: holder.dataset.version, text: textOf(holder), saved: null});
    open(holder);
  } else if (act === 'cancel') close(holder);
  else if (act === 'save') save();
  else if (act === 'tagging') {
    Object.assign(label, {slot, text: ''});
    tagging(button, slot);
  }
  else if (act === 'untag') trigger('select', {act, slots: [slot], tag: button.dataset.tag});
  else if (act === 'purge') { if (await sure([textOf(holder)])) trigger('select', {act, slots: [slot]}); }
  else if (act === 'open') trigger('select', {act, slot: button.dataset.other || slot});
  else if (act === 'turn') trigger('select', {act, turn: button.dataset.turn});
  else if (act === 'close' || act === 'words') trigger('select', {act});
  else if (act) trigger('select', {act, slots: [slot]});
});

element.addEventListener('keydown', event => {
  if (event.key === 'Escape' && element.querySelector('.close')) trigger('select', {act: 'close'});
});

let shown = null;  // the memory whose page was drawn last
watch('value', () => {
  const holder = draft.slot && holderOf(draft.slot);
  if (holder && landed(holder)) draft.slot = null;
  else if (holder && !holder.querySelector('textarea')) open(holder);
  const adding = label.slot && holderOf(label.slot)?.querySelector('[data-act="tagging"]');
  if (adding) tagging(adding, label.slot);
  showTicks();
  const sheet = element.querySelector('.sheet');
  if (sheet && sheet.dataset.slot !== shown) sheet.querySelector('.close').focus({preventScroll: true});
  else if (!holder && focused && document.activeElement === document.body) {
    const again = focused.slot && holderOf(focused.slot);
    const acts = {pin: 'unpin', unpin: 'pin'};
    again?.querySelector(`[data-act="${acts[focused.act] || focused.act}"]`)?.focus({preventScroll: true});
  }
  shown = sheet ? sheet.dataset.slot : null;
});
