// A token of the reply was clicked: the bars below are about its place.
element.addEventListener('click', event => {
  const token = event.target.closest('button[data-at]');
  if (token) trigger('select', {at: token.dataset.at});
});
