// Print the states of order 7 as they arrive, and notice a connection that has died.
// Runs in Node.js 18 or newer; in a browser the same code works on a page of the server.

const URL = "http://127.0.0.1:8000/ndjson?quiet=4&ping=1";
const PATIENCE = 3000; // milliseconds without a byte; the pings come every second

const request = new AbortController();
let watchdog;

function alive() {
  clearTimeout(watchdog);
  const reason = new Error("Silent for 3 seconds: the connection has died.");
  watchdog = setTimeout(() => request.abort(reason), PATIENCE);
}

alive(); // The watchdog also guards the wait for the answer.
const response = await fetch(URL, { signal: request.signal });
if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);

let state;
let rest = "";
for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
  alive(); // Whatever has arrived, the connection lives.
  const lines = (rest + text).split("\n");
  rest = lines.pop(); // A line may begin in one chunk and end in another.
  for (const line of lines) {
    if (line === "") {
      console.log("ping");
    } else {
      state = JSON.parse(line).state;
      console.log(state);
    }
  }
}
clearTimeout(watchdog);
if (state !== "delivered") throw new Error("The feed stopped before its end.");
