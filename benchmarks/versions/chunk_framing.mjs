// The same lines from the same chunks in Node, as bytes: one search for each line feed.
import { createInterface } from "node:readline";

const CHUNK = 256 * 1024; // bytes, what a server hands over while an upload is fast
const ITEMS = ["green tea", "crème brûlée", "honey", "jalapeño"];

function* readLines(chunks) {
  let begun = [];
  for (const chunk of chunks) {
    let start = 0;
    for (let end; (end = chunk.indexOf(10, start)) >= 0; start = end + 1) {
      const ending = chunk.subarray(start, end);
      yield begun.length ? Buffer.concat([...begun, ending]) : ending;
      begun = [];
    }
    if (start < chunk.length) begun.push(chunk.subarray(start));
  }
  if (begun.length) yield Buffer.concat(begun);
}

for await (const number of createInterface({ input: process.stdin })) {
  const few = ITEMS.map((item, n) => `{"id":${n + 1},"item":"${item}","amount":${2 * n + 2}}\n`);
  const body = Buffer.from(few.join("").repeat(Number(number) / few.length));
  const chunks = [];
  for (let at = 0; at < body.length; at += CHUNK) chunks.push(body.subarray(at, at + CHUNK));
  const began = performance.now();
  let units = 0;
  for (const _ of readLines(chunks)) units += 1;
  console.log(JSON.stringify({ seconds: (performance.now() - began) / 1000, units }));
}
