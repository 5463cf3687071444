// The same table by Node's own http module, formula protection included.
import { once } from "node:events";
import { createServer } from "node:http";

const CHUNK = 64 * 1024; // characters gathered before a chunk is sent
const FIELDS = ["id", "placed_at", "customer", "item", "quantity", "price"];
const CUSTOMERS = ["Ada", "Zoë", "O'Brien, Pat", '=HYPERLINK("http://evil.example")'];
const ITEMS = ["green tea", 'tea pot, 12" wide', "honey\n(two jars)", "crème brûlée", "-20%"];
const PRICES = ["3.50", "24.99", "7.80", "4.15", "-5.00"];
const OPENING = Date.UTC(2026, 0, 1, 9);

const asText = (cell) => (/^[=+\-@\t\r\n\0\uff1d\uff0b\uff0d\uff20]/.test(cell) ? "'" + cell : cell);
const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

function row(n) {
  const placedAt = new Date(OPENING + n * 1000).toISOString().slice(0, 19) + "+00:00";
  const customer = quoted(asText(CUSTOMERS[n % 4]));
  const item = quoted(asText(ITEMS[n % 5]));
  return `${n + 1},${placedAt},${customer},${item},${(n % 9) + 1},${PRICES[n % 5]}\r\n`;
}

const server = createServer(async (request, response) => {
  const rows = Number(new URL(request.url, "http://localhost").searchParams.get("rows"));
  response.writeHead(200, { "Content-Type": "text/csv; charset=utf-8" });
  response.write(FIELDS.join(",") + "\r\n");
  let text = "";
  for (let n = 0; n < rows; n++) {
    text += row(n);
    if (text.length >= CHUNK) {
      const accepted = response.write(text);
      text = "";
      if (!accepted) await once(response, "drain");
    }
  }
  response.end(text);
});

server.listen(0, "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
