// Print orders as they arrive, and the id under which the server's log has them.
// Runs in Node 18 or newer; in a browser the same code works on a page of the server.

const URL = "http://127.0.0.1:8000/orders";

const response = await fetch(URL, { headers: { "X-Request-ID": `shop-${Date.now()}` } });
if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
const encoding = response.headers.get("Content-Encoding") ?? "no compression";
console.log(`request ${response.headers.get("X-Request-ID")}, ${encoding}`);

let rest = "";
for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop(); // A line may begin in one chunk and end in another.
  for (const line of lines) console.log(line);
}
