// @ts-check

import { count } from "./dom.js";
import { maySend, told } from "./curl.js";
import { Timeline, shortTime } from "./timeline.js";

/** @typedef {import("./curl.js").Wanted} Wanted */

const SEEN = 16; // px that the picture of a run needs at least
const template = document.createElement("template");
template.innerHTML = `
  <section class="lp-figure">
    <p class="lp-title"><span class="lp-before-mark" hidden>Before:</span>
      <code></code> <span data-fact="answer"></span></p>
    <p class="lp-scale" hidden></p>
    <dl class="lp-facts">
      <div><dt class="lp-noun"></dt><dd data-fact="chunks"></dd></div>
      <div><dt>bytes</dt><dd data-fact="bytes"></dd></div>
      <div class="lp-sse"><dt>events</dt><dd data-fact="events"></dd></div>
      <div><dt>first byte</dt><dd data-fact="first"></dd></div>
      <div><dt>total</dt><dd data-fact="total"></dd></div>
    </dl>
  </section>`;

/** One run, as a figure: what was asked, the timeline and the facts. */
export class Figure {
  node = /** @type {HTMLElement} */ (template.content.firstElementChild?.cloneNode(true));
  chunks = 0;
  bytes = 0;
  events = 0;
  partial = false; // some events may be among what a recording left out
  elapsed = 0; // ms
  #timeline;
  #drawn = ""; // what the last drawing showed

  /**
   * @param {Wanted} wanted
   * @param {"read" | "chunk"} noun what `chunks` counts: the browser's reads or, of a
   *   recording, the server's chunks
   * @param {string} [through] what stood between, if anything did
   */
  constructor(wanted, noun, through = "") {
    this.#timeline = new Timeline(noun);
    this.node.querySelector(".lp-noun")?.replaceChildren(`${noun}s`);
    this.key = keyOf(wanted) + through;
    const title = [titleOf(wanted, noun === "read"), through].filter(Boolean).join(" · ");
    this.node.querySelector("code")?.replaceChildren(title);
    this.node.setAttribute("aria-label", title);
    this.node.querySelector(".lp-title")?.after(this.#timeline.node);
    for (const name of ["first", "answer"]) this.fact(name, "–");
  }

  /**
   * @param {number} at ms since the request
   * @param {number} size bytes
   */
  add(at, size) {
    if (this.chunks++ === 0) this.fact("first", shortTime(at));
    this.bytes += size;
    this.#timeline.add(at, size);
  }

  /** @param {boolean} isSSE whether events are counted */
  counts(isSSE) {
    this.node.toggleAttribute("data-sse", isSSE);
  }

  /**
   * @param {boolean} running
   * @param {number} length ms that the axis has to hold at least
   */
  paint(running, length) {
    const drawn = [running, length, this.elapsed, this.chunks].join();
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    this.fact("chunks", this.chunks.toLocaleString("en"));
    this.fact("bytes", this.bytes.toLocaleString("en"));
    this.fact("events", this.events.toLocaleString("en") + (this.partial ? " or more" : ""));
    this.fact("total", shortTime(this.elapsed));
    this.#timeline.draw(this.elapsed, length, running);
  }

  /** The width of the picture in px; 0 if it is not on show. */
  get width() {
    return this.#timeline.node.clientWidth;
  }

  /** @param {string} text says that the time scale is another one, if so */
  scale(text) {
    const node = this.node.querySelector(".lp-scale");
    if (!node) return;
    node.toggleAttribute("hidden", !text);
    if (node.textContent !== text) node.textContent = text;
  }

  /** Steps back: another run comes in front. */
  retire() {
    this.node.classList.add("lp-before");
    this.node.setAttribute("aria-label", `Before: ${this.node.getAttribute("aria-label")}`);
    this.node.querySelector(".lp-before-mark")?.removeAttribute("hidden");
  }

  /**
   * @param {string} name
   * @param {string} value
   */
  fact(name, value) {
    const node = this.node.querySelector(`[data-fact="${name}"]`);
    if (node && node.textContent !== value) node.textContent = value;
  }
}

/**
 * Two runs that are shown on one time scale, if neither would be too small to be seen.
 * @param {number} one ms
 * @param {number} other ms
 * @param {number} width px of the picture
 */
export function similar(one, other, width) {
  return Math.min(one, other) * width >= Math.max(one, other) * SEEN;
}

/** @param {Wanted} wanted */
export function keyOf({ line, method, path, headers, body }) {
  return JSON.stringify([line, method, path, headers, body]);
}

/**
 * A request in words, with the headers that were sent.
 * @param {Wanted} wanted
 * @param {boolean} live whether this page sends it; a recording was made with all headers
 */
function titleOf(wanted, live) {
  const sent = told(wanted).filter(([name]) => !live || maySend(name));
  const headers = sent.map((pair) => pair.join(": "));
  return [`${wanted.method} ${wanted.path}`, ...headers].join(" · ");
}
