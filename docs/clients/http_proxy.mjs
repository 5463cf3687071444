// Print each line as it arrives, and tell a whole answer from one that broke off.
// In a page, or in Node.js 18 or newer.

const response = await fetch("http://127.0.0.1:8000/shop/async/1");
if (!response.ok) {
  throw new Error(`${response.status}: ${await response.text()}`);
}

const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
let unfinished = "";
while (true) {
  const { value, done } = await reader.read().catch((error) => {
    throw new Error(`The answer broke off: ${error.message}`);
  });
  if (done) break;
  const lines = (unfinished + value).split("\n");
  unfinished = lines.pop();
  for (const line of lines) console.log(line);
}
console.log("complete");
