// Sends new_orders.csv to be imported, and follows the job to its end. Node 18 or newer.

import { readFile } from "node:fs/promises";

const URL_OF_JOBS = "http://127.0.0.1:8000/jobs";

/** Checks the status of an answer, and gives the answer. */
async function checked(response) {
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  return response;
}

/** Gives each event of the stream; a chunk may end anywhere, even inside a character. */
async function* readEvents(body) {
  let text = "";
  for await (const piece of body.pipeThrough(new TextDecoderStream())) {
    const blocks = (text + piece).split("\n\n"); // An empty line ends an event.
    text = blocks.pop(); // The rest of this event is still to come.
    for (const block of blocks) {
      const found = /^event: (.*)\ndata: (.*)$/.exec(block);
      if (found) yield { event: found[1], news: JSON.parse(found[2]) };
    }
  }
}

/** Starts a job and prints its progress; throws an Error if it fails. */
async function importFile(file) {
  const started = await checked(await fetch(URL_OF_JOBS, { method: "POST", body: file }));
  const job = new URL(started.headers.get("Location"), URL_OF_JOBS);
  const watched = await checked(await fetch(job));
  for await (const { event, news } of readEvents(watched.body)) {
    if (event === "progress") console.log(`${news.percent} %, ${news.rows} rows`);
    if (event === "completed") return news.rows;
    if (event === "failed") {
      const where = news.line ? `line ${news.line}: ` : "";
      throw new Error(`failed: ${where}${news.reason}`);
    }
  }
  throw new Error("The stream ended before the job did.");
}

const rows = await importFile(await readFile("new_orders.csv"));
console.log(`completed, ${rows} rows`);
