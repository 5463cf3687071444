// Send a file from Node.js 20 or newer; `openAsBlob` reads it piece by piece.

import { openAsBlob } from "node:fs";

const file = await openAsBlob("big.bin"); // in a page: input.files[0]
const response = await fetch("http://127.0.0.1:8000/uploads", { method: "POST", body: file });
if (!response.ok) {
  throw new Error(`${response.status}: ${await response.text()}`);
}
const stored = await response.json();
console.log(`stored ${stored.size} bytes as ${stored.sha256}`);
