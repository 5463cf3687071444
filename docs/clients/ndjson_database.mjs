// Print orders as they arrive, and say at the end whether all of them came.
// Runs in Node 18 or newer; in a browser the same code works on a page of the server.

const URL = "http://127.0.0.1:8000/database?limit=5000";

const response = await fetch(URL);
if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);

let done = false;
let last = 0;
let rest = "";
try {
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop(); // A line may begin in one chunk and end in another.
    for (const line of lines) {
      const order = JSON.parse(line);
      if ("done" in order) {
        done = order.done;
      } else {
        last = order.id;
        console.log(last, order.placed_at, order.customer, order.price);
      }
    }
  }
} catch (error) {
  console.error(`The connection broke: ${error}`);
}

if (!done) throw new Error(`The orders are not complete. Ask for the rest with after=${last}.`);
console.log("These are all the orders.");
