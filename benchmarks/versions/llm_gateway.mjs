// Pass a provider's tokens on with Node: /pipe as they are, /events in frames of our own. argv: python
import { spawn } from "node:child_process";
import { once } from "node:events";
import http from "node:http";

const provider = spawn(process.argv[2], ["-m", "benchmarks.versions.llm_gateway_provider"]);
process.on("SIGTERM", () => process.exit(0));
process.on("exit", () => provider.kill());
const [said] = await once(provider.stderr.setEncoding("utf8"), "data");
const url = said.trim() + "/v1/chat/completions";
console.error(`provider on port ${new URL(url).port}`);

const agent = new http.Agent({ keepAlive: true });
const asked = (tokens) => JSON.stringify({ model: tokens, stream: true, messages: [] });

function pipe(tokens, response) {
  const request = http.request(url, { agent, method: "POST" }, (upstream) => {
    response.writeHead(upstream.statusCode, { "Content-Type": upstream.headers["content-type"] });
    upstream.pipe(response);
  });
  request.on("error", () => response.destroy());
  response.on("close", () => request.destroy());
  request.setHeader("Content-Length", Buffer.byteLength(asked(tokens)));
  request.end(asked(tokens));
}

async function* chunks(body) {
  let rest = "";
  for await (const piece of body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + piece).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      if (block === "data: [DONE]") return;
      yield JSON.parse(block.slice("data: ".length));
    }
  }
}

async function events(tokens, response) {
  const hangUp = new AbortController();
  response.on("close", () => hangUp.abort());
  const answer = await fetch(url, { method: "POST", signal: hangUp.signal, body: asked(tokens) });
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  const send = async (event, data) => {
    if (!response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`)) await once(response, "drain");
  };
  let started = false, reason = null;
  for await (const chunk of chunks(answer.body)) {
    if (!started) await send("start", { id: chunk.id, model: chunk.model });
    started = true;
    for (const choice of chunk.choices) {
      reason = choice.finish_reason ?? reason;
      if (choice.delta.content) await send("token", { text: choice.delta.content });
    }
  }
  await send(reason ? "done" : "failed", { finish_reason: reason, usage: null });
  response.end();
}

const server = http.createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  try {
    await (pathname === "/pipe" ? pipe : events)(searchParams.get("tokens"), response);
  } catch {
    response.destroy();
  }
});
server.listen(0, "127.0.0.1", () => console.error(`http://127.0.0.1:${server.address().port}`));
