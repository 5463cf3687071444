// Print the orders as they arrive, and say which of four ways the answer has ended.
// Runs in Node 18 or newer; in a browser the same code works on a page of the server.

const response = await fetch("http://127.0.0.1:8000/ndjson");
if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);

let last = {};
let rest = "";
try {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  while (true) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop(); // A line may begin in one chunk and end in another.
    for (const line of lines) {
      last = JSON.parse(line);
      if (last.type === "order") console.log(last.id, last.item);
    }
  }
} catch (error) {
  console.error(`The connection broke: ${error}`);
}

if (last.type === "failed") {
  throw new Error(`Failed after ${last.orders} orders. Reference: ${last.reference}`);
}
if (last.type !== "done") throw new Error("Not complete: the answer has no end.");
console.log(`Complete: ${last.orders} orders.`);
