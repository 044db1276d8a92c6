// A question in a window of its own, for what must not happen by accident; resolves to the answers, or to null.
function ask({title, text = '', texts = [], fields = [], sure = 'OK', danger = false}) {
  return new Promise(resolve => {
    const dialog = document.createElement('dialog');
    const add = (tag, properties = {}, parent = form) => {
      const made = Object.assign(document.createElement(tag), properties);
      parent.append(made);
      return made;
    };
    const form = add('form', {method: 'dialog'}, dialog);
    dialog.className = 'ask';
    dialog.setAttribute('aria-label', title);
    add('h2', {textContent: title});
    if (text) add('p', {textContent: text});
    if (texts.length) {
      const list = add('ul', {className: 'lines'});
      texts.slice(0, 5).forEach(each => add('li', {textContent: each}, list));
      if (texts.length > 5) add('li', {textContent: `and ${texts.length - 5} more`}, list);
    }
    const inputs = fields.map(({name, label, kind = 'input', value = '', choices = [], word, most}) => {
      const around = add('label', {textContent: label});
      const input = add(kind, {name}, around);
      choices.forEach(([id, shown]) => add('option', {value: id, textContent: shown}, input));
      if (kind === 'textarea') input.rows = 4;
      if (most) input.maxLength = most;
      if (value) input.value = value;
      return {name, input, word};
    });
    const buttons = add('p', {className: 'buttons'});
    const no = add('button', {type: 'button', textContent: 'Cancel'}, buttons);
    const yes = add('button', {type: 'submit', textContent: sure, className: danger ? 'danger' : 'strong'}, buttons);
    const check = () => {
      yes.disabled = inputs.some(({input, word}) => word ? input.value !== word : !input.value.trim());
    };
    form.addEventListener('input', check);
    check();
    no.addEventListener('click', () => dialog.close());
    form.addEventListener('submit', event => {
      event.preventDefault();
      if (!yes.disabled) dialog.close('yes');
    });
    dialog.addEventListener('close', () => {
      const answers = Object.fromEntries(inputs.map(({name, input}) => [name, input.value]));
      dialog.remove();
      resolve(dialog.returnValue === 'yes' ? answers : null);
    });
    (document.querySelector('.gradio-container') || document.body).append(dialog);
    dialog.showModal();
    (inputs[0]?.input || (danger ? no : yes)).focus();
  });
}

const FOREVER = 'This cannot be undone: every copy of the words and their vectors in the data folder is overwritten. ' +
  'Other memories that say the same go as well; those that quote it lose the quote.';
