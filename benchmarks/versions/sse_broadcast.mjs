// The same by Node's own http module: an event is written once, and sent to all.
import { createServer } from "node:http";

const listeners = new Set();

const server = createServer((request, response) => {
  if (request.method === "POST") {
    const [, , number, state] = request.url.split("/");
    const data = JSON.stringify({ id: Number(number), state });
    const event = `event: order\ndata: ${data}\n\n`;
    for (const listener of listeners) listener.write(event);
    response.writeHead(202, { "Content-Length": 0 }).end();
    return;
  }
  listeners.add(response);
  response.on("close", () => listeners.delete(response));
  response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
  response.flushHeaders();
});

server.listen({ port: 0, host: "127.0.0.1", backlog: 2048 }, () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
