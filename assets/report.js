// A report over the page: closes, undoes, and saves a certificate as a file made here, out of nobody's cache.
function keep(name, text) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'application/json'}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

element.addEventListener('click', event => {
  const button = event.target.closest('button[data-act]');
  if (!button) return;
  if (button.dataset.act === 'save') keep(button.dataset.name, button.dataset.file);
  else trigger('select', {act: button.dataset.act});
});

element.addEventListener('keydown', event => {
  if (event.key === 'Escape') trigger('select', {act: 'close'});
});

watch('value', () => {
  if (!element.contains(document.activeElement)) element.querySelector('.close')?.focus({preventScroll: true});
});
