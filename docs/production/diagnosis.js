const begun = performance.now();
const response = await fetch("/unbuffered");
const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
for (;;) {
  const { value, done } = await reader.read();
  if (done) break;
  console.log(((performance.now() - begun) / 1000).toFixed(1), "s", value);
}
