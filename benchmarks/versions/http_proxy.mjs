// Pass another service's response on with Node's http module; argv: python
import { spawn } from "node:child_process";
import http from "node:http";

const service = spawn(process.argv[2], ["-m", "benchmarks.versions.http_proxy_service", "--until-eof"]);
const address = await new Promise((found) => service.stdout.once("data", (data) => found(String(data).trim())));
const agent = new http.Agent({ keepAlive: true });
const server = http.createServer((request, response) => {
  const asked = http.get(address + request.url.replace("/shop", ""), { agent }, (upstream) => {
    response.writeHead(upstream.statusCode, { "content-length": upstream.headers["content-length"] });
    upstream.pipe(response);
  });
  asked.on("error", () => response.destroy());
});
server.listen(0, "127.0.0.1", () => console.error(`http://127.0.0.1:${server.address().port}`));
process.on("SIGTERM", () => {
  service.stdin.end();
  process.exit();
});
