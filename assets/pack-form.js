// What makes a pack: its files go up one after the other by the form's ticket, then the page is told.
const form = () => element.querySelector('form');
const say = text => { element.querySelector('[data-said]').textContent = text; };

async function up(files) {
  for (const [number, file] of [...files].entries()) {
    say(`Sending ${file.name} (${number + 1} of ${files.length}) …`);
    const to = `${form().dataset.to}?name=${encodeURIComponent(file.name)}${number ? '' : '&first=yes'}`;
    const answer = await fetch(to, {method: 'PUT', body: file});
    if (!answer.ok) throw new Error(await answer.text());
  }
  say('');
}

async function send(files, what) {
  const buttons = element.querySelectorAll('button, input[type="file"]');
  buttons.forEach(button => { button.disabled = true; });
  try {
    await up(files);
    trigger('select', what);
  } catch (error) {
    say(`It could not be sent: ${error.message}`);
  } finally {
    buttons.forEach(button => { button.disabled = false; });
  }
}

element.addEventListener('submit', async event => {
  event.preventDefault();
  const {name, source, files, writer, shard, epochs} = form().elements;
  if (!name.value.trim()) return say('Give it a name.');
  const own = source.value === 'files';
  if (own && !files.files.length) return say('Choose the files that it is made of.');
  const what = {act: 'make', name: name.value, source: source.value, writer: writer.value,
                shard: Math.trunc(Number(shard.value)), epochs: Math.trunc(Number(epochs.value))};
  await send(own ? files.files : [], what);
});

element.addEventListener('change', async event => {
  const {name, files, value} = event.target;
  if (name === 'source') element.querySelector('label.files').hidden = value !== 'files';
  if (name !== 'pack' || !files.length) return;
  const fields = [{name: 'name', label: 'Its name here', value: files[0].name.replace(/\.pack$/, '')}];
  const answer = await ask({title: 'Bring in a pack', sure: 'Bring it in', fields, text: 'It is checked before any of ' +
    'it is used, and must have been made for the weights that are here. What it says is as true as who made it.'});
  if (answer) await send(files, {act: 'import', name: answer.name});
  event.target.value = '';
});
