// A file out of a value that was sent to this tab alone, or by a ticket of its user's; the value is let go at once.
watch('value', () => {
  if (!props.value) return;
  const {name, text, url} = JSON.parse(props.value);
  props.value = '';
  const link = document.createElement('a');
  link.href = url || URL.createObjectURL(new Blob([text], {type: 'application/jsonl'}));
  link.download = name;
  link.click();
  if (!url) setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
