// Print the events of order 7. Build it, then run it with `node dist/print.js`.
import { orderEvents } from "./stream";

const leaving = new AbortController();
const options = { signal: leaving.signal, server: "http://127.0.0.1:8000" };
for await (const event of orderEvents(7, options)) {
  if (event.type === "shipped") console.log(event.type, "with", event.carrier);
  else console.log(event.type);
}
