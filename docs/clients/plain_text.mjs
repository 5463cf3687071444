// Print each line of a packing slip as it arrives, in a page or in Node.js 18 or newer.

const response = await fetch("http://127.0.0.1:8000/route/2");
if (!response.ok) {
  throw new Error(`${response.status}: ${await response.text()}`);
}

// One decoder for the whole stream: a chunk may end inside a character or a line.
const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
let unfinished = "";
while (true) {
  const { value, done } = await reader.read();
  if (done) break;
  const lines = (unfinished + value).split("\n");
  unfinished = lines.pop();
  for (const line of lines) console.log(line);
}
