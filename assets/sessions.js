// The list of conversations: open, rename in place, put away. A title being typed survives when they are drawn anew.
const draft = {session: null, title: ''};

function rename(row) {
  const open = row.querySelector('button[data-act="open"]');
  const title = open.querySelector('span').textContent;
  const {session} = row.dataset;
  const field = document.createElement('input');
  let done = false;  // taking the field away blurs it, which would close it once more
  const close = keep => {
    if (done || !field.isConnected) return;
    done = true;
    if (draft.session === session) draft.session = null;
    const text = field.value.trim();
    field.replaceWith(open);
    if (keep && text && text !== title) trigger('select', {act: 'rename', session, title: text});
  };
  if (draft.session !== session) Object.assign(draft, {session, title});
  field.value = draft.title;
  field.setAttribute('aria-label', 'Title of the conversation');
  field.addEventListener('input', () => { draft.title = field.value; });
  field.addEventListener('blur', () => setTimeout(close, 0, true));  // later: drawn anew, it is blurred, too
  field.addEventListener('keydown', event => {
    if (event.key === 'Enter') close(true);
    if (event.key === 'Escape') close(false);
  });
  open.replaceWith(field);
  field.focus();
  return field;
}

element.addEventListener('click', event => {
  const button = event.target.closest('button[data-act]');
  if (!button) return;
  const row = button.closest('li[data-session]');
  if (button.dataset.act === 'rename') rename(row).select();
  else trigger('select', {act: button.dataset.act, session: row.dataset.session});
});

watch('value', () => {
  const row = [...element.querySelectorAll('li[data-session]')].find(row => row.dataset.session === draft.session);
  if (row && !row.querySelector('input')) rename(row);
});
