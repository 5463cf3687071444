// Upload orders and print each answer as it arrives, in a page or in Node.js 18 or newer.
//
// Node sends a line, and makes the next when this one has been answered. A browser cannot:
// over HTTP/1.1 it wants the whole request before it sends any of it, here as a Blob.

const orders = [
  { id: 5, item: "green tea", amount: 2 },
  { id: 6, item: "crème brûlée", amount: 0 },
  { id: 7, item: "honey", amount: 1 },
];
const lines = orders.map((order) => JSON.stringify(order) + "\n");

let answered = () => {};

function oneByOne() {
  const encoder = new TextEncoder();
  let sent = 0;
  return new ReadableStream({
    async pull(controller) {
      if (sent === lines.length) return controller.close();
      console.log(`sent ${lines[sent].trim()}`);
      controller.enqueue(encoder.encode(lines[sent++]));
      await new Promise((resolve) => (answered = resolve));
    },
  });
}

const inBrowser = "document" in globalThis;
const response = await fetch("http://127.0.0.1:8000/orders", {
  method: "POST",
  body: inBrowser ? new Blob(lines) : oneByOne(),
  ...(inBrowser ? {} : { duplex: "half" }),
});
if (!response.ok) {
  throw new Error(`${response.status}: ${await response.text()}`);
}

// One decoder for the whole stream: a chunk may end inside a character or a line.
const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
let unfinished = "";
let last = {};
while (true) {
  const { value, done } = await reader.read();
  if (done) break;
  const complete = (unfinished + value).split("\n");
  unfinished = complete.pop();
  for (const line of complete) {
    last = JSON.parse(line);
    console.log(line);
    answered();
  }
}
if (!last.done) throw new Error("The answer is not complete.");
