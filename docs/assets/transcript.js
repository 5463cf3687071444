// @ts-check

import { parseCurl } from "./curl.js";

/**
 * One chunk of a recorded answer: when it came (ms since the request), its true size in
 * bytes, its text, and whether lines of the text were left out of the recording.
 * @typedef {{at: number, size: number, text: string, shortened: boolean}} RecordedChunk
 */

/**
 * One recorded request and its answer. `end` is the time of its end in ms; `endless`
 * says that only the recording ended there, and the stream went on; `cut` that the answer
 * broke off.
 * @typedef {{wanted: import("./curl.js").Wanted, status: number, reason: string,
 *   type: string, chunks: RecordedChunk[], end: number, endless: boolean, cut: boolean}} Exchange
 */

const CHUNK = /^(\d+\.\d+) s, ([\d,]+) bytes$/;
const END = /^(\d+\.\d+) s, (end|stopped|cut): /;
/** @type {Record<string, string>} */
const ESCAPES = { t: "\t", r: "\r", n: "\n" };

/**
 * Reads a transcript, as `cookbook/transcript.py` writes it. Structure begins in the
 * first column and the text of a chunk is indented, so the two cannot be confused;
 * lines that mean nothing here (snippet markers, digests) are passed over.
 * @param {string} transcript
 * @returns {Exchange[]}
 */
export function parseTranscript(transcript) {
  /** @type {Exchange[]} */
  const exchanges = [];
  for (const line of transcript.split(/\r?\n/)) {
    const exchange = exchanges.at(-1);
    const chunk = exchange?.chunks.at(-1);
    let match;
    if (line.startsWith("$ ")) {
      const wanted = parseCurl(line.slice(2));
      const head = { status: 0, reason: "", type: "" };
      exchanges.push({ wanted, ...head, chunks: [], end: 0, endless: false, cut: false });
    } else if (!exchange) {
      continue;
    } else if (line.startsWith("  ") && chunk) {
      chunk.text += bodyLine(line.slice(2));
    } else if (line.startsWith("… ") && chunk) {
      chunk.text += `${line} left out of the recording\n`;
      chunk.shortened = true;
    } else if ((match = CHUNK.exec(line))) {
      const size = Number(match[2]?.replaceAll(",", ""));
      const at = exchange.end = Number(match[1]) * 1000;
      exchange.chunks.push({ at, size, text: "", shortened: false });
    } else if ((match = END.exec(line))) {
      exchange.end = Number(match[1]) * 1000;
      exchange.endless = match[2] === "stopped";
      exchange.cut = match[2] === "cut";
    } else if ((match = /^HTTP\/\S+ (\d+) ?(.*)/.exec(line))) {
      exchange.status = Number(match[1]);
      exchange.reason = match[2] ?? "";
    } else if (!chunk && (match = /^content-type: *(.*)/i.exec(line))) {
      exchange.type = match[1] ?? "";
    }
  }
  return exchanges;
}

/**
 * Undoes the escapes of one line. An odd number of backslashes at its end means that
 * the last one stands for "no line feed here".
 * @param {string} line
 */
function bodyLine(line) {
  const open = (/\\+$/.exec(line)?.[0].length ?? 0) % 2 === 1;
  const text = (open ? line.slice(0, -1) : line).replace(
    /\\(?:x([\da-f]{2})|u([\da-f]{4})|U([\da-f]{8})|(.))/g,
    (_, x, u, U, other) =>
      other ? (ESCAPES[other] ?? other) : String.fromCodePoint(parseInt(x ?? u ?? U, 16)),
  );
  return open ? text : `${text}\n`;
}
