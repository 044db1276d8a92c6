// The table of memories: editing happens in the row itself, and a draft survives when the table changes meanwhile.
const draft = {slot: null, version: null, text: ''};

function rowOf(slot) {
  return [...element.querySelectorAll('tr[data-slot]')].find(row => row.dataset.slot === slot);
}

function open(row) {
  const cell = row.querySelector('.text');
  const area = document.createElement('textarea');
  area.value = draft.text;
  area.rows = Math.max(2, Math.ceil(draft.text.length / 60));
  area.setAttribute('aria-label', 'Text of the memory');
  area.addEventListener('input', () => { draft.text = area.value; });
  area.addEventListener('keydown', event => {
    if (event.key === 'Escape') close(row);
    if (event.key === 'Enter' && !event.shiftKey) { event.preventDefault(); save(); }
  });
  cell.hidden = true;
  cell.after(area);
  const actions = row.querySelector('.actions');
  actions.dataset.before = actions.innerHTML;
  actions.innerHTML = '<button data-act="save" class="strong">Save</button><button data-act="cancel">Cancel</button>';
  area.focus();
}

function close(row) {
  draft.slot = null;
  row.querySelector('textarea')?.remove();
  row.querySelector('.text').hidden = false;
  const actions = row.querySelector('.actions');
  if (actions.dataset.before) actions.innerHTML = actions.dataset.before;
}

function save() {
  const {slot, version, text} = draft;
  draft.slot = null;
  trigger('select', {act: 'edit', slot, version, text});
}

element.addEventListener('click', event => {
  const button = event.target.closest('button[data-act]');
  if (!button) return;
  const row = button.closest('tr[data-slot]');
  const act = button.dataset.act;
  if (act === 'edit') {
    if (draft.slot && rowOf(draft.slot)) close(rowOf(draft.slot));
    Object.assign(draft, {slot: row.dataset.slot, version: row.dataset.version,
                          text: row.querySelector('.text').textContent});
    open(row);
  } else if (act === 'cancel') close(row);
  else if (act === 'save') save();
  else trigger('select', {act, slot: row.dataset.slot});
});

watch('value', () => {
  const row = draft.slot && rowOf(draft.slot);
  if (row && !row.querySelector('textarea')) open(row);
});
