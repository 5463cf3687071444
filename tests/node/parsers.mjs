// Lets every parser from npm, and the site's own, read the streams of sse_cases.json.
//
//   node parsers.mjs node_modules docs/assets/sse.js < cases.json
//
// In: a list of {bytes: Base64, ways: [[sizes of the chunks], ...]}, and the names that
// an event may have. Out: for each parser its version, and for each case and way
//   events   [name, data, id] of each event, in order
//   early    how many of them came before the stream ended
//   retry    the wait before a reconnection in milliseconds, null if there was none yet
//   lastId   the id that the reconnection sends, null if it cannot send it; left out
//            where nothing reconnects

import { readFile } from "node:fs/promises";
import { validateHeaderValue } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, decoder] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${modules}/`));
const { EventSource } = await import(
  pathToFileURL(require.resolve("eventsource")).href.replace(".cjs", ".js")
);
const { createParser } = require("eventsource-parser");
const undici = require("undici");
const source = await readFile(decoder);
const { SSEDecoder } = await import(
  `data:text/javascript;base64,${source.toString("base64")}`
);

const URL_OF_ALL = "http://127.0.0.1:8000/events"; // Nobody is asked.
const STREAM = { "content-type": "text/event-stream" };
const told = (event) => [event.type, event.data, event.lastEventId];

/** Waits until all that is under way in this process has been done. */
async function settle() {
  for (let turn = 0; turn < 3; turn += 1) await new Promise(setImmediate);
}

// An EventSource waits before it connects again. Here it does so at once, and notes how
// long the wait would have been.
const waits = [];
globalThis.setTimeout = (then, delay) => {
  waits.push(delay);
  setImmediate(then);
  return { unref() {} };
};

/**
 * Reads one stream with an EventSource.
 * `open(answer)` makes it; it calls `answer(headers)` for each connection. The first one
 * gives the chunks, and the second one, which comes after the end, nothing: status 204.
 */
async function listen(open, chunks, names) {
  const events = [];
  let early = 0;
  let retry;
  let lastId;
  await new Promise((resolve) => {
    let connections = 0;
    const connect = (sentId) => {
      connections += 1;
      if (connections === 1) return { chunks, atEnd: () => (early = events.length) };
      lastId = sentId;
      retry = waits.at(-1);
      setImmediate(resolve);
      return null;
    };
    const source = open(connect);
    for (const name of names) {
      source.addEventListener(name, (event) => {
        if ("data" in event) events.push(told(event));
      });
    }
  });
  return { events, early, retry, lastId };
}

/** Gives the id that a header carries; null if no header may carry it. */
function carried(id = "") {
  try {
    validateHeaderValue("Last-Event-ID", id);
    return id;
  } catch {
    return null; // Node would refuse the request, at each attempt.
  }
}

/** The npm package `eventsource`, with a fetch that gives the chunks one by one. */
function byEventSource(chunks, names) {
  return listen((connect) => {
    const fetch = async (_, { headers }) => {
      const next = connect(carried(headers["Last-Event-ID"]));
      if (!next) return new Response(null, { status: 204 });
      const waiting = [...next.chunks];
      // Nothing is asked for in advance: at each pull, all before has been parsed.
      const pull = (controller) => {
        if (waiting.length) return controller.enqueue(waiting.shift());
        next.atEnd();
        controller.close();
      };
      const body = new ReadableStream({ pull }, { highWaterMark: 0 });
      return new Response(body, { headers: STREAM });
    };
    return new EventSource(URL_OF_ALL, { fetch });
  }, chunks, names);
}

/** The EventSource of undici, with a dispatcher in place of the network. */
function byUndici(chunks, names) {
  return listen((connect) => {
    class Wire extends undici.Dispatcher {
      dispatch({ headers }, handler) {
        this.answer(handler, connect(carried(headers["last-event-id"])));
        return true;
      }

      async answer(handler, next) {
        handler.onConnect(() => {});
        const type = [Buffer.from("content-type"), Buffer.from("text/event-stream")];
        handler.onHeaders(next ? 200 : 204, next ? type : [], () => {}, "");
        for (const chunk of next?.chunks ?? []) {
          handler.onData(Buffer.from(chunk));
          await settle();
        }
        next?.atEnd();
        handler.onComplete([]);
      }
    }
    return new undici.EventSource(URL_OF_ALL, { node: { dispatcher: new Wire() } });
  }, chunks, names);
}

/** The npm package `eventsource-parser`, which takes text. */
function byParser(chunks) {
  const events = [];
  let retry = null;
  const parser = createParser({
    onEvent: ({ event, data, id }) => events.push([event ?? "message", data, id ?? ""]),
    onRetry: (milliseconds) => (retry = milliseconds),
  });
  const utf8 = new TextDecoder();
  for (const chunk of chunks) parser.feed(utf8.decode(chunk, { stream: true }));
  const early = events.length;
  parser.feed(utf8.decode());
  parser.reset();
  return { events, early, retry };
}

/** The decoder of this site. */
function byDecoder(chunks) {
  const decoder = new SSEDecoder();
  const events = chunks.flatMap((chunk) => decoder.push(chunk));
  const found = events.map(({ event, data, id }) => [event, data, id]);
  const { retry, lastEventId: lastId } = decoder;
  decoder.end();
  return { events: found, early: found.length, retry, lastId };
}

const version = async (name) =>
  JSON.parse(await readFile(`${modules}/${name}/package.json`)).version;
const parsers = {
  "eventsource": { read: byEventSource, version: await version("eventsource") },
  "eventsource-parser": { read: byParser, version: await version("eventsource-parser") },
  "undici": { read: byUndici, version: await version("undici") },
  "sse.js": { read: byDecoder, version: "" },
};

let input = "";
for await (const piece of process.stdin) input += piece;
const { cases, names } = JSON.parse(input);
const results = {};
for (const [name, { read, version }] of Object.entries(parsers)) {
  const read_ = [];
  for (const { bytes, ways } of cases) {
    const whole = new Uint8Array(Buffer.from(bytes, "base64"));
    const row = [];
    for (const sizes of ways) {
      let from = 0;
      const chunks = sizes.map((size) => whole.slice(from, (from += size)));
      row.push(await read(chunks, names));
    }
    read_.push(row);
  }
  results[name] = { version, cases: read_ };
}
process.stdout.write(JSON.stringify(results), () => process.exit(0));
