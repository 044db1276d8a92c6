// A file made here out of a value that was sent to this tab alone; the value is let go at once.
watch('value', () => {
  if (!props.value) return;
  const {name, text} = JSON.parse(props.value);
  props.value = '';
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'application/jsonl'}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
