// A Plotly figure: draws when its value changes, says what was clicked and lassoed.
// Without its button that sends a figure, memories and all, to somebody else's machine.
const options = {displaylogo: false, responsive: true, scrollZoom: Boolean(element.closest('.zooms')),
                 showSendToCloud: false, plotlyServerURL: '', modeBarButtonsToRemove: ['sendChartToCloud', 'toImage']};
const first = id => Array.isArray(id) ? id[0] : id;

async function draw() {
  const target = element.querySelector('.plot');
  if (!target) return;
  if (!props.value && !window.Plotly) return;
  await window.withPlotly();
  if (!props.value) { Plotly.purge(target); target.style.height = ''; return; }
  const {data, layout} = JSON.parse(props.value);
  target.style.height = (layout.height || 420) + 'px';
  await Plotly.react(target, data, layout, options);
  if (target.dataset.listens) return;
  target.dataset.listens = 'yes';
  target.on('plotly_click', event => {
    const id = event.points[0]?.customdata;
    if (id) trigger('select', Array.isArray(id) ? {pick: id[0], turn: id[1]} : {pick: id});
  });
  target.on('plotly_hover', event => light(first(event.points[0]?.customdata)));
  target.on('plotly_unhover', () => light(null));
  target.on('plotly_selected', event => {
    if (event?.points) trigger('select', {lasso: event.points.map(p => p.customdata).filter(Boolean)});
  });
}

// Whatever else on the page belongs to the same memory lights up with it, and the other way round.
function light(id) {
  document.querySelectorAll('.lit').forEach(other => other.classList.remove('lit'));
  if (id) document.querySelectorAll(`[data-slot="${CSS.escape(id)}"]`).forEach(other => other.classList.add('lit'));
}

function mark(id) {
  const target = element.querySelector('.plot');
  const row = target?.data?.[0]?.orientation === 'h' ? (target.data[0].customdata || []).indexOf(id) : -1;
  if (!target?.layout) return;
  const band = {type: 'rect', xref: 'paper', x0: 0, x1: 1, y0: row - 0.5, y1: row + 0.5, line: {width: 0},
                fillcolor: 'rgba(127, 127, 127, 0.18)', layer: 'below'};
  Plotly.relayout(target, {shapes: row < 0 ? [] : [band]});
}

if (element.closest('.linked')) {
  document.addEventListener('mouseover', event => {
    const other = event.target.closest?.('[data-slot]');
    if (other && !element.contains(other)) mark(other.dataset.slot);
  });
  document.addEventListener('mouseout', event => { if (event.target.closest?.('[data-slot]')) mark(null); });
}

watch('value', draw);
draw();
