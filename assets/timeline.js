// What happened, in words: a button names a memory or a turn; the cursor of the timeline stands where the replay is.
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-pick], button[data-turn]');
  if (!button) return;
  const {pick, turn} = button.dataset;
  trigger('select', turn ? {turn} : {pick});
});

function cursor() {
  const step = Number(element.querySelector('[data-step]')?.dataset.step);
  const target = document.querySelector('#time-plot .plot');
  const last = target?.layout?.shapes?.length - 1;
  if (step && last >= 0) Plotly.relayout(target, {[`shapes[${last}].x0`]: step, [`shapes[${last}].x1`]: step});
}

watch('value', () => requestAnimationFrame(cursor));
