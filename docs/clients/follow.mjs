// Read a stream with fetch: its bytes, its lines, or its events, wherever it is cut.
// For a page, and for Node.js 20.19 or newer.

import { SSEDecoder } from "../assets/sse.js";

// --8<-- [start:chunks]
/** Gives each chunk of a body. Whoever leaves the loop early closes the connection. */
export async function* chunks(body) {
  const reader = body.getReader();
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {}); // A stream that broke cannot be cancelled.
  }
}

// --8<-- [end:chunks]
// --8<-- [start:lines]
/** Gives each line of a body, without its line feed. */
export async function* lines(body) {
  const utf8 = new TextDecoder(); // One for the stream: it keeps half a character.
  let begun = "";
  for await (const chunk of chunks(body)) {
    const complete = (begun + utf8.decode(chunk, { stream: true })).split("\n");
    begun = complete.pop();
    yield* complete;
  }
  begun += utf8.decode();
  if (begun) yield begun;
}

// --8<-- [end:lines]
// --8<-- [start:events]
/** Gives each event of a body: {event, data, id}. */
export async function* events(body, decoder = new SSEDecoder()) {
  for await (const chunk of chunks(body)) yield* decoder.push(chunk);
}

// --8<-- [end:events]
// --8<-- [start:follow]
const LONGEST_WAIT = 30_000; // milliseconds

/**
 * Gives the events of a feed over as many connections as that takes.
 *
 * It ends at a 204, and when `signal` is aborted. An answer that will not get better,
 * such as a 401 or another type, is an Error. After anything else it connects again.
 * It begins after the event `lastId`. `wait` is in milliseconds; the feed may name another
 * one. `onOpen()` is called when the head of an event stream has come, `onLost(reason, wait)`
 * before each wait. All other options go to `fetch`.
 */
export async function* follow(url, options = {}) {
  let { signal, headers, lastId = "", wait = 3000, onOpen, onLost, ...request } = options;
  const address = new URL(url, globalThis.location?.href);
  let failures = 0; // connections in a row that brought no event
  while (!signal?.aborted) {
    const decoder = new SSEDecoder(lastId);
    let reason = "The stream has ended.";
    let asked = 0; // milliseconds that the server wants us to wait
    try {
      const sent = new Headers(headers);
      sent.set("Accept", "text/event-stream");
      if (lastId) sent.set("Last-Event-ID", asBytes(lastId));
      const response = await fetch(address, {
        ...request,
        headers: sent,
        signal,
        cache: "no-store",
      });
      if (response.status === 204) return;
      if (response.ok) {
        checkType(response);
        onOpen?.();
        for await (const event of events(response.body, decoder)) {
          failures = 0;
          yield event;
        }
      } else {
        reason = `The server answered ${response.status}.`;
        if (response.status < 500 && response.status !== 429) throw new Refused(reason);
        asked = 1000 * (Number(response.headers.get("Retry-After")) || 0);
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (!(error instanceof TypeError)) throw error; // fetch: the network has failed
      reason = error.message;
    }
    lastId = decoder.lastEventId;
    wait = decoder.retry ?? wait;
    // Each failure doubles the wait. A random part keeps many clients from coming at once.
    const longer = Math.min(wait * 2 ** failures, LONGEST_WAIT);
    const pause = Math.max(asked, longer * (0.5 + Math.random() / 2));
    failures += 1;
    onLost?.(reason, pause);
    await sleep(pause, signal);
  }
}

// --8<-- [end:follow]
// --8<-- [start:rest]
/** The server's answer says that another attempt is useless. */
export class Refused extends Error {}

/** Writes a text's UTF-8 as a header carries it: EventSource sends its id so, too. */
function asBytes(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

function checkType(response) {
  const type = response.headers.get("Content-Type") ?? "nothing";
  if (!/^text\/event-stream\s*(;|$)/i.test(type)) {
    response.body?.cancel();
    throw new Refused(`The server sent ${type} instead of an event stream.`);
  }
}

/** Waits, at most until the signal is aborted. */
function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const wake = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", wake);
      resolve();
    };
    const timer = setTimeout(wake, milliseconds);
    signal?.addEventListener("abort", wake);
    if (signal?.aborted) wake();
  });
}

// --8<-- [end:rest]
