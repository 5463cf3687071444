// @ts-check

/** Where a panel's streams come from: the running recipe, or its recording. */

import { parseTranscript } from "./transcript.js";

/** @typedef {import("./curl.js").Wanted} Wanted */
/** @typedef {import("./transcript.js").Exchange} Exchange */
/**
 * A recipe of the server: its own page, if it has one, what it needs to run, why it does
 * not run, if so, and what it can be asked.
 * @typedef {{page: string | null, needs: string[], problem: string | null,
 *   requests: Wanted[]}} LiveRecipe
 */
/**
 * What arrives: `data` is for the SSE decoder, `text` for people.
 * @typedef {{at: number, size: number, data: Uint8Array<ArrayBuffer>, text: string}} Chunk
 */
/**
 * An answer to a request. `partial` says that lines were left out of the recording,
 * `endless` that the recording stops before the stream does; `end` gives the time since
 * the request, in ms.
 * @typedef {{status: number, reason: string, type: string, partial: boolean,
 *   endless: boolean, chunks: AsyncIterable<Chunk>, end: () => number}} Answer
 */

const ROOT = new URL("..", import.meta.url); // the site may live in a sub-folder
const FULL = 1e6; // bytes that are held back before they are passed on all the same
const PATIENCE = 3000; // ms in which the server has to say that it is there

/**
 * Asks which recipes the server runs, and who answers those that need a language model.
 * @returns {Promise<{recipes: Record<string, LiveRecipe>, model: string,
 *   buffering: string | null, pitfalls: Record<string, Wanted[]>} | null>} no recipes on a
 *   static site; null if nothing answers. `buffering` is the address of a proxy that holds
 *   streams back; `pitfalls` says what those that can be run here are asked.
 */
export async function liveIndex() {
  try {
    const response = await fetch(new URL("live/index.json", ROOT), {
      signal: AbortSignal.timeout(PATIENCE),
      cache: "no-store",
    });
    const index = response.ok ? await response.json().catch(() => null) : null;
    const model = index?.provider?.description ?? "";
    const { recipes = {}, buffering = null, pitfalls = {} } = index ?? {};
    return { recipes, model, buffering, pitfalls };
  } catch {
    return null;
  }
}

/**
 * The address of something on this site.
 * @param {string} path without a slash in front
 */
export function here(path) {
  return new URL(path, ROOT).href;
}

/**
 * Reads the recorded runs of a recipe.
 * @param {string} recipe
 * @returns {Promise<Exchange[]>} empty if there are none
 */
export async function recordings(recipe) {
  try {
    const response = await fetch(new URL(`transcripts/${recipe}.txt`, ROOT));
    return response.ok ? parseTranscript(await response.text()) : [];
  } catch {
    return [];
  }
}

/**
 * The address of a recipe's path. Raises TypeError if the path leads out of the recipe.
 * @param {string} recipe
 * @param {string} path with the query
 */
export function addressOf(recipe, path) {
  const root = here(`live/${recipe}/`);
  const url = new URL(`live/${recipe}${path}`, ROOT);
  if (!url.href.startsWith(root)) throw new TypeError("The path leads out of the recipe.");
  return url;
}

/**
 * Sends a request to a running recipe.
 * @param {string} recipe
 * @param {Wanted} wanted
 * @param {AbortSignal} signal
 * @param {string | null} [proxy] the address of a proxy to ask instead of the site
 * @returns {Promise<Answer>}
 */
export async function ask(recipe, wanted, signal, proxy) {
  const direct = addressOf(recipe, wanted.path);
  return send(proxy ? new URL(direct.pathname + direct.search, proxy) : direct, wanted, signal);
}

/**
 * Sends a request to an address.
 * @param {URL | string} url
 * @param {Wanted} wanted whose path is not looked at
 * @param {AbortSignal} signal
 * @returns {Promise<Answer>}
 */
export async function send(url, { method, headers, body }, signal) {
  const started = performance.now();
  const end = () => performance.now() - started;
  const options = { method, headers, body, signal, cache: /** @type {const} */ ("no-store") };
  const response = await fetch(url, options);
  const type = response.headers.get("content-type") ?? "";
  const decoder = decoderFor(type);
  async function* chunks() {
    const reader = response.body?.getReader();
    while (reader) {
      const { done, value } = await reader.read();
      if (done) return;
      const text = decoder.decode(value, { stream: true });
      yield { at: end(), size: value.length, data: value, text };
    }
  }
  const { status, statusText: reason } = response;
  return { status, reason, type, partial: false, endless: false, chunks: chunks(), end };
}

/**
 * Plays a recorded exchange, at its recorded pace and with its recorded times. The chunks
 * of one that broke off end with an error.
 * @param {Exchange} exchange
 * @returns {Answer}
 */
export function replay({ wanted: _, chunks: recorded, end, cut, ...head }) {
  const started = performance.now();
  const decoder = new TextDecoder(); // of the whole stream: a chunk may end in a character
  async function* chunks() {
    for (const { at, size, text } of recorded) {
      await until(started + at);
      const data = bytesOf(text);
      yield { at, size, data, text: decoder.decode(data, { stream: true }) };
    }
    await until(started + end);
    if (cut) throw new TypeError("The recorded answer broke off.");
  }
  const partial = recorded.some(({ shortened }) => shortened);
  return { ...head, partial, chunks: chunks(), end: () => end };
}

/**
 * Holds an answer back until its end, or until the buffer is full, as a proxy does.
 * @param {Answer} answer
 * @returns {Answer}
 */
export function held(answer) {
  async function* chunks() {
    let [all, size] = [/** @type {Chunk[]} */ ([]), 0];
    for await (const chunk of answer.chunks) {
      all.push(chunk);
      size += chunk.size;
      if (size < FULL) continue;
      yield await joined(all, chunk.at);
      [all, size] = [[], 0];
    }
    if (all.length && !answer.endless) yield await joined(all, answer.end());
  }
  return { ...answer, chunks: chunks() };
}

/**
 * Makes one chunk of several.
 * @param {Chunk[]} all
 * @param {number} at ms since the request
 * @returns {Promise<Chunk>}
 */
async function joined(all, at) {
  const data = new Uint8Array(await new Blob(all.map((one) => one.data)).arrayBuffer());
  const size = all.reduce((sum, one) => sum + one.size, 0);
  return { at, size, data, text: all.map((one) => one.text).join("") };
}

/**
 * Encodes a recorded text in UTF-8. A byte of half a character is recorded as a code point
 * of its own, U+DC80 to U+DCFF, as Python's `surrogateescape` writes it.
 * @param {string} text
 */
function bytesOf(text) {
  const encoder = new TextEncoder();
  const parts = text.split(/([\udc80-\udcff])/u).map((part) => {
    const code = part.charCodeAt(0);
    const isByte = part.length === 1 && code >= 0xdc80 && code <= 0xdcff;
    return isByte ? Uint8Array.of(code - 0xdc00) : encoder.encode(part);
  });
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

/** @param {number} time on the clock of `performance.now()` */
async function until(time) {
  const wait = time - performance.now();
  if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
}

/** @param {string} type a Content-Type */
function decoderFor(type) {
  try {
    return new TextDecoder(/charset="?([^\s;"]+)/i.exec(type)?.[1]);
  } catch {
    return new TextDecoder(); // a charset that no browser knows
  }
}
