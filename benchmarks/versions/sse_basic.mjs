// The same events by Node's own http module, a write an event.
import { once } from "node:events";
import { createServer } from "node:http";

const server = createServer(async (request, response) => {
  const events = Number(new URL(request.url, "http://localhost").searchParams.get("events"));
  response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
  for (let n = 1; n <= events; n++) {
    const data = JSON.stringify({ id: n, state: "paid" });
    if (!response.write(`event: order\nid: ${n}\ndata: ${data}\n\n`)) {
      await once(response, "drain");
    }
  }
  response.end();
});

server.listen(0, "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
