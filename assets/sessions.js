// The list of conversations: open, rename in place, put away.
function rename(row) {
  const open = row.querySelector('button[data-act="open"]');
  const title = open.querySelector('span').textContent;
  const field = document.createElement('input');
  let editing = true;  // taking the field away blurs it, which would close it once more
  const close = keep => {
    if (!editing) return;
    editing = false;
    const text = field.value.trim();
    field.replaceWith(open);
    if (keep && text && text !== title) trigger('select', {act: 'rename', session: row.dataset.session, title: text});
  };
  field.value = title;
  field.setAttribute('aria-label', 'Title of the conversation');
  field.addEventListener('blur', () => close(true));
  field.addEventListener('keydown', event => {
    if (event.key === 'Enter') close(true);
    if (event.key === 'Escape') close(false);
  });
  open.replaceWith(field);
  field.focus();
  field.select();
}

element.addEventListener('click', event => {
  const button = event.target.closest('button[data-act]');
  if (!button) return;
  const row = button.closest('li[data-session]');
  if (button.dataset.act === 'rename') rename(row);
  else trigger('select', {act: button.dataset.act, session: row.dataset.session});
});
