// Gradio draws a list anew by changing its lines where they stand: what was pressed on one memory must not be released
// on another one that has moved under the pointer meanwhile.
{
  const about = button => JSON.stringify(button.closest('[data-slot], [data-session], [data-turn], [data-pack], [data-of]')?.dataset);
  const buttonOf = event => event.target instanceof Element ? event.target.closest('button') : null;
  let pressed = null;  // what the button was about when it was pressed
  addEventListener('pointerdown', event => { pressed = buttonOf(event) && about(buttonOf(event)); }, true);
  addEventListener('click', event => {
    const button = buttonOf(event), byPointer = event.detail > 0;
    if (byPointer && button && about(button) !== pressed) event.stopImmediatePropagation();
  }, true);
}
