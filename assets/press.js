// Gradio draws a list anew by changing its lines where they stand. What was pressed on one memory must not be released
// on another one that has moved under the pointer meanwhile; and a button that was drawn anew keeps its click.
{
  const about = button => {
    const holder = button.closest('[data-slot], [data-session], [data-turn], [data-pack], [data-of]');
    return JSON.stringify([holder?.dataset, button.dataset, button.id, button.textContent]);
  };
  const buttonOf = event => event.target instanceof Element ? event.target.closest('button') : null;
  let pressed = null, what = null;  // the button, and what it was about when it was pressed
  addEventListener('pointerdown', event => {
    pressed = buttonOf(event);
    what = pressed && about(pressed);
  }, true);
  addEventListener('pointerup', event => {
    const button = buttonOf(event);
    if (event.button || !button || !pressed || pressed.isConnected || about(button) !== what) return;
    button.click();  // a browser clicks only what was there all the time
  }, true);
  addEventListener('click', event => {
    const button = buttonOf(event), byPointer = event.detail > 0;
    if (byPointer && button && about(button) !== what) event.stopImmediatePropagation();
  }, true);
}
