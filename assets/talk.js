// The log: the quiet line under a reply opens its turn, or edits the last message.
element.addEventListener('click', event => {
  const button = event.target.closest('.below button');
  if (button) trigger('select', {act: button.dataset.act || 'look', turn: button.dataset.turn});
});
