// @ts-check

/** Where a panel's streams come from: the running recipe, or its recording. */

import { parseTranscript } from "./transcript.js";

/** @typedef {import("./transcript.js").Exchange} Exchange */
/**
 * What arrives: `data` is for the SSE decoder, `text` for people.
 * @typedef {{at: number, size: number, data: Uint8Array, text: string}} Chunk
 */
/**
 * An answer to a request. `partial` says that lines were left out of the recording;
 * `end` gives the time since the request, in ms.
 * @typedef {{status: number, reason: string, type: string, partial: boolean,
 *   chunks: AsyncIterable<Chunk>, end: () => number}} Answer
 */

const ROOT = new URL("..", import.meta.url); // the site may live in a sub-folder
const PATIENCE = 3000; // ms in which the server has to say that it is there

/**
 * Asks which recipes the server runs, and who answers those that ask a language model.
 * @returns {Promise<{recipes: string[], model: string} | null>} no recipes on a static
 *   site; null if nothing answers
 */
export async function liveRecipes() {
  try {
    const response = await fetch(new URL("live/index.json", ROOT), {
      signal: AbortSignal.timeout(PATIENCE),
      cache: "no-store",
    });
    const index = response.ok ? await response.json().catch(() => null) : null;
    const recipes = Array.isArray(index?.recipes) ? index.recipes : [];
    return { recipes, model: String(index?.provider?.description ?? "") };
  } catch {
    return null;
  }
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
 * Sends a request to a running recipe.
 * @param {string} recipe
 * @param {{path: string, body: string | null}} request
 * @param {AbortSignal} signal
 * @returns {Promise<Answer>}
 */
export async function ask(recipe, { path, body }, signal) {
  const started = performance.now();
  const end = () => performance.now() - started;
  const url = new URL(`live/${recipe}${path}`, ROOT);
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body };
  const options = { signal, cache: /** @type {const} */ ("no-store") };
  const response = await fetch(url, { ...options, ...(body === null ? {} : post) });
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
  return { status, reason, type, partial: false, chunks: chunks(), end };
}

/**
 * Plays a recorded exchange, at its recorded pace and with its recorded times.
 * @param {Exchange} exchange
 * @returns {Answer}
 */
export function replay({ path: _, body: __, chunks: recorded, end, ...head }) {
  const started = performance.now();
  const encoder = new TextEncoder();
  async function* chunks() {
    for (const { at, size, text } of recorded) {
      await until(started + at);
      yield { at, size, data: encoder.encode(text), text };
    }
    await until(started + end);
  }
  const partial = recorded.some(({ shortened }) => shortened);
  return { ...head, partial, chunks: chunks(), end: () => end };
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
