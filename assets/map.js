// Lists beside the map: a button names a memory. The map itself: a ring around it, and its coordinates as a file.
const drawing = () => document.querySelector('#map-plot .plot');

element.addEventListener('click', event => {
  const named = event.target.closest('button[data-pick]');
  if (named) trigger('select', {pick: named.dataset.pick});
  else if (event.target.closest('button[data-act="save"]')) save();
});

// The map need not be drawn anew to show which memory is looked at.
function ring() {
  const card = element.querySelector('[data-chosen]');
  const target = drawing();
  if (!card || !target?.data) return;
  const at = target.data.findIndex(trace => trace.meta === 'chosen');
  for (const trace of target.data) {
    const row = trace.meta === 'slots' ? trace.customdata.indexOf(card.dataset.chosen) : -1;
    if (row < 0) continue;
    const place = {x: [[trace.x[row]]], y: [[trace.y[row]]]};
    if (trace.z) place.z = [[trace.z[row]]];
    Plotly.restyle(target, place, [at]);
    return;
  }
}

// Made here, of what is on the screen: a file that the server made could be read by its other users.
function save() {
  const target = drawing();
  if (!target?.data) return;
  const plain = text => new DOMParser().parseFromString(text.replace(/<br><i>.*$/, '').replaceAll('<br>', ' '), 'text/html').body.textContent;
  const cell = text => `"${(/^[=+\-@\t\r]/.test(text) ? "'" : '') + text.replaceAll('"', '""')}"`;
  const traces = target.data.filter(trace => trace.meta === 'slots');
  const space = traces.some(trace => trace.z);
  const lines = traces.flatMap(trace => trace.customdata.map((id, row) =>
    [id, trace.x[row], trace.y[row], ...(space ? [trace.z[row]] : []), cell(plain(trace.text[row]))].join(',')));
  const blob = new Blob([[`id,x,y${space ? ',z' : ''},text`, ...lines].join('\r\n') + '\r\n'], {type: 'text/csv'});
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = 'map.csv';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

watch('value', () => requestAnimationFrame(ring));
