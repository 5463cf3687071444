// The same events by Node: fetch from the provider, parse its events, write our own.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";

const options = ["--port", "0", "--no-access-log", "--timeout-graceful-shutdown", "1"];
const provider = spawn(process.argv[2], ["-m", "uvicorn", "benchmarks.versions.llm_provider:app", ...options]);
process.on("SIGTERM", () => process.exit(0));
process.on("exit", () => provider.kill());

let url;
for await (const said of provider.stderr.setEncoding("utf8")) {
  url = said.match(/http:\/\/127\.0\.0\.1:\d+/)?.[0];
  if (url) break;
}

async function* events(body) {
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

const server = createServer(async (request, response) => {
  const query = new URL(request.url, "http://localhost").searchParams;
  const hangUp = new AbortController();
  response.on("close", () => hangUp.abort());
  const answer = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    signal: hangUp.signal,
    body: JSON.stringify({
      model: query.get("tokens"), stream: true, messages: [{ role: "user", content: query.get("prompt") }],
    }),
  });
  response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
  const send = async (event, data) => {
    if (!response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`)) await once(response, "drain");
  };
  let started = false, reason = null;
  for await (const chunk of events(answer.body)) {
    if (!started) await send("start", { id: chunk.id, model: chunk.model });
    started = true;
    for (const choice of chunk.choices) {
      reason = choice.finish_reason ?? reason;
      if (choice.delta.content) await send("token", { text: choice.delta.content });
    }
  }
  await (reason ? send("done", { finish_reason: reason, usage: null }) : send("failed", { type: "truncated" }));
  response.end();
});

server.listen(0, "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
