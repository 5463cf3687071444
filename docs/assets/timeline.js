// @ts-check

import { count } from "./dom.js";

const [TOP, PLOT, BOTTOM, RIGHT] = [20, 64, 20, 28]; // px around and of the plot
const MOST = 4096; // marks that are remembered; beyond, each stands for more chunks
const NEAR = 16; // px that a bar may stand beside its moment
const SPREAD = 80; // px that large squares may; beyond, they get smaller

/**
 * What a mark stands for: when the first of its chunks came, in ms since the request,
 * the size of the largest in bytes, and how many they are.
 * @typedef {{at: number, size: number, chunks: number}} Mark
 */

/**
 * A picture of a stream, time across. Each chunk is a bar, as high as it is large; where
 * bars would hide each other, each chunk is a square on the pile of its moment instead.
 */
export class Timeline {
  node = svg("svg", { class: "lp-timeline", role: "img", height: TOP + PLOT + BOTTOM });
  #grid = svg("path", { class: "lp-grid" });
  #bars = svg("path", { class: "lp-bars" });
  #now = svg("path", { class: "lp-now" });
  #labels = svg("g", {});
  #marks = /** @type {Mark[]} */ ([]);
  #each = 1; // chunks that a full mark stands for
  #total = 0;
  #largest = 0;
  #elapsed = 0;
  #length = 1000;
  #running = false;

  constructor() {
    this.node.append(this.#grid, this.#now, this.#bars, this.#labels);
    const again = () => this.draw(this.#elapsed, this.#length, this.#running);
    new ResizeObserver(again).observe(this.node);
  }

  /**
   * @param {number} at ms since the request
   * @param {number} size bytes
   */
  add(at, size) {
    this.#total++;
    this.#largest = Math.max(this.#largest, size);
    const last = this.#marks.at(-1);
    if (last && last.chunks < this.#each) join(last, { at, size, chunks: 1 });
    else this.#marks.push({ at, size, chunks: 1 });
    // Memory and the cost of a drawing stay bounded, however long the stream.
    if (this.#marks.length > MOST) {
      this.#each *= 2;
      this.#marks = this.#marks.filter((mark, i, all) => {
        const next = all[i + 1];
        if (i % 2 === 0 && next) join(mark, next);
        return i % 2 === 0;
      });
    }
  }

  /**
   * @param {number} elapsed ms since the request
   * @param {number} length ms that the axis has to hold at least
   * @param {boolean} running whether the stream still goes on
   */
  draw(elapsed, length, running) {
    [this.#elapsed, this.#length, this.#running] = [elapsed, length, running];
    const width = this.node.clientWidth - RIGHT;
    if (width <= 0) return; // not on show
    const bottom = TOP + PLOT;
    const longest = Math.max(elapsed, length, 1);
    const step = niceStep(longest, width / 90);
    const span = step * Math.max(1, Math.ceil(longest / step - 1e-9));
    const x = (/** @type {number} */ at) => Math.round((at / span) * width) + 2.5;

    const places = this.#marks.map(({ at }) => x(at));
    const { drawing, pitch, hint } = this.#bar(places, bottom) ?? this.#pile(places, width, bottom);
    this.#bars.setAttribute("d", drawing);
    this.#bars.setAttribute("stroke-width", String(pitch - 1));
    this.#bars.setAttribute("stroke-dasharray", hint ? `${pitch - 1} 1` : "none");
    this.node.dataset.bars = String(this.#marks.length);

    const right = width + RIGHT;
    let grid = `M0 ${bottom + 0.5}H${right}`;
    if (this.#largest && !hint) grid += `M0 ${TOP - 0.5}H${right}`;
    const labels = [];
    const scale = hint || bytes(this.#largest);
    if (this.#largest) labels.push(label(scale, 0, TOP - 6, "start"));
    for (let i = 0; i * step <= span * 1.0001; i++) {
      grid += `M${x(i * step)} ${bottom}v5`;
      const text = i ? shortTime(i * step, span) : "0";
      labels.push(label(text, x(i * step) - (i ? 0 : 2.5), bottom + 17, i ? "middle" : "start"));
    }
    this.#grid.setAttribute("d", grid);
    this.#now.setAttribute("d", running ? `M${x(elapsed)} ${TOP}V${bottom}` : "");
    this.#labels.replaceChildren(...labels);
    this.node.setAttribute("aria-label", running ? "Timeline of the chunks" :
      `Timeline: ${count(this.#total, "chunk")} in ${shortTime(elapsed)}, ` +
      `the largest ${bytes(this.#largest)}`);
  }

  /**
   * Draws each mark as a bar. Those of one moment stand side by side.
   * @param {number[]} places where each mark belongs
   * @param {number} bottom
   * @returns {{drawing: string, pitch: number, hint: string} | null} null if they do not
   *   all find room near their moment
   */
  #bar(places, bottom) {
    for (const pitch of [4, 2]) {
      let last = -Infinity;
      const bars = [];
      for (const [i, place] of places.entries()) {
        last = Math.max(place, last + pitch);
        if (last > place + NEAR) break;
        const height = Math.round(((this.#marks[i]?.size ?? 0) / this.#largest) * PLOT);
        bars.push(`M${last} ${bottom}v${-Math.max(2, height || 0)}`);
      }
      if (bars.length === places.length && this.#each === 1) {
        return { drawing: bars.join(""), pitch, hint: "" };
      }
    }
    return null;
  }

  /**
   * Draws each mark as a square, on the pile of its moment; what a pile cannot hold goes
   * to the next one with room.
   * @param {number[]} places where each mark belongs
   * @param {number} width
   * @param {number} bottom
   */
  #pile(places, width, bottom) {
    let [pitch, far, piles] = [4, Infinity, /** @type {Map<number, number>} */ (new Map())];
    for (pitch of [4, 3, 2]) {
      ({ piles, far } = pileUp(places, pitch, Math.floor(PLOT / pitch), width + NEAR));
      if (far <= SPREAD) break;
    }
    const middle = pitch % 2 ? 2 : 2.5; // so that each edge meets a pixel's
    // A pile is one stroke, cut into squares by its dashes.
    const drawing = Array.from(piles, ([column, high]) => {
      return `M${column * pitch + middle} ${bottom}v${1 - high * pitch}`;
    });
    const stands = this.#each === 1 ? "a square is a chunk" :
      `a square is ${this.#each.toLocaleString("en")} chunks`;
    const largest = `· the largest ${bytes(this.#largest)}`;
    const hints = [`${stands} ${largest}`, stands];
    if (far > NEAR) {
      const spread = `${stands}, spread out where many came at once`;
      hints.unshift(`${spread} ${largest}`, spread, `${stands}, spread out`);
    }
    const hint = hints.find((text) => text.length * 5.6 < width) ?? stands;
    return { drawing: drawing.join(""), pitch, hint };
  }
}

/**
 * @param {Mark} mark takes in
 * @param {Mark} next
 */
function join(mark, next) {
  mark.size = Math.max(mark.size, next.size);
  mark.chunks += next.chunks;
}

/**
 * Puts marks on piles, in order: each at its place or, if that is full, right of it; if
 * the right end is full, left of it.
 * @param {number[]} places px, ascending
 * @param {number} pitch px between two piles
 * @param {number} high how many marks a pile holds
 * @param {number} right px at which the last pile has to stand
 * @returns {{piles: Map<number, number>, far: number}} the height of each pile, by its
 *   number from the left, and how many px a mark stands beside its place at most
 */
function pileUp(places, pitch, high, right) {
  /** @type {Map<number, number>} */
  const piles = new Map();
  const end = Math.max(Math.floor(right / pitch), Math.ceil(places.length / high));
  let free = 0; // the first pile with room, seen from the newest mark
  let back = end; // the same from the right end, once that is full
  let far = 0;
  for (const place of places) {
    let column = Math.max(free, Math.floor(place / pitch));
    while (column <= end && (piles.get(column) ?? 0) >= high) column++;
    if (column > end) {
      while ((piles.get(back) ?? 0) >= high) back--;
      column = back;
    } else {
      free = column;
    }
    piles.set(column, (piles.get(column) ?? 0) + 1);
    far = Math.max(far, Math.abs(column * pitch - place));
  }
  return { piles, far };
}

/**
 * A time in words: milliseconds below a second, else seconds.
 * @param {number} ms
 * @param {number} [scale] the time whose unit to use
 */
export function shortTime(ms, scale = ms) {
  if (scale < 1000) return `${Number(ms.toFixed(ms < 10 ? 1 : 0))} ms`;
  return `${Number((ms / 1000).toFixed(2))} s`;
}

/** @param {number} number */
export function bytes(number) {
  return count(number, "byte");
}

/**
 * The smallest of 1, 2, 5, 10, 20 … that cuts `span` into at most `most` parts.
 * @param {number} span
 * @param {number} most
 */
function niceStep(span, most) {
  const raw = span / Math.max(2, most);
  const power = 10 ** Math.floor(Math.log10(raw));
  return power * ([1, 2, 5].find((factor) => factor * power >= raw) ?? 10);
}

/**
 * @param {string} text
 * @param {number} x
 * @param {number} y
 * @param {string} anchor
 */
function label(text, x, y, anchor) {
  const node = svg("text", { x, y, "text-anchor": anchor });
  node.textContent = text;
  return node;
}

/**
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} name
 * @param {Record<string, string | number>} attributes
 */
function svg(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, `${value}`);
  return node;
}
