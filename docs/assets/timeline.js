// @ts-check

const [TOP, PLOT, BOTTOM, RIGHT] = [20, 64, 20, 28]; // px around and of the plot
const MOST = 4096; // chunks that are remembered; beyond, neighbours are merged

/** A picture of a stream: a bar for each chunk, time across, size upwards. */
export class Timeline {
  node = svg("svg", { class: "lp-timeline", role: "img", height: TOP + PLOT + BOTTOM });
  #grid = svg("path", { class: "lp-grid" });
  #bars = svg("path", { class: "lp-bars" });
  #now = svg("path", { class: "lp-now" });
  #labels = svg("g", {});
  #chunks = /** @type {{at: number, size: number}[]} */ ([]);
  #largest = 0;
  #elapsed = 0;
  #running = false;

  constructor() {
    this.node.append(this.#grid, this.#now, this.#bars, this.#labels);
    new ResizeObserver(() => this.draw(this.#elapsed, this.#running)).observe(this.node);
  }

  clear() {
    this.#chunks = [];
    this.#largest = 0;
  }

  /**
   * @param {number} at ms since the request
   * @param {number} size bytes
   */
  add(at, size) {
    this.#chunks.push({ at, size });
    this.#largest = Math.max(this.#largest, size);
    // Memory and the cost of a drawing stay bounded, however long the stream.
    if (this.#chunks.length > MOST) {
      this.#chunks = this.#chunks.filter((chunk, i, all) => {
        if (i % 2 === 0) chunk.size = Math.max(chunk.size, all[i + 1]?.size ?? 0);
        return i % 2 === 0;
      });
    }
  }

  /**
   * @param {number} elapsed ms since the request
   * @param {boolean} running whether the stream still goes on
   */
  draw(elapsed, running) {
    [this.#elapsed, this.#running] = [elapsed, running];
    const width = this.node.clientWidth - RIGHT;
    if (width <= 0) return; // not on show
    const bottom = TOP + PLOT;
    // While it runs, the axis has at least a second, so that it does not jump at first.
    const step = niceStep(Math.max(elapsed, running ? 1000 : 1), width / 90);
    const span = step * Math.max(1, Math.ceil(elapsed / step - 1e-9));
    const x = (/** @type {number} */ at) => Math.round((at / span) * width) + 2.5;

    const thick = this.#chunks.length > width / 8 ? 1 : 3;
    /** @type {Map<number, number>} */
    const columns = new Map();
    let last = -Infinity;
    for (const { at, size } of this.#chunks) {
      // Chunks of one moment stand side by side, but no more than 16 px from the truth.
      last = Math.max(x(at), Math.min(last + thick + 1, x(at) + 16));
      columns.set(last, Math.max(columns.get(last) ?? 0, size));
    }
    const bars = Array.from(columns, ([at, size]) => {
      const height = Math.max(2, Math.round((size / this.#largest) * PLOT) || 0);
      return `M${at} ${bottom}v${-height}`;
    });
    this.#bars.setAttribute("d", bars.join(""));
    this.#bars.setAttribute("stroke-width", String(thick));
    this.node.dataset.bars = String(bars.length);

    const right = width + RIGHT;
    let grid = `M0 ${bottom + 0.5}H${right}`;
    if (this.#largest) grid += `M0 ${TOP - 0.5}H${right}`;
    const labels = [];
    if (this.#largest) labels.push(label(bytes(this.#largest), 0, TOP - 6, "start"));
    for (let i = 0; i * step <= span * 1.0001; i++) {
      grid += `M${x(i * step)} ${bottom}v5`;
      const text = i ? shortTime(i * step, span) : "0";
      labels.push(label(text, x(i * step) - (i ? 0 : 2.5), bottom + 17, i ? "middle" : "start"));
    }
    this.#grid.setAttribute("d", grid);
    this.#now.setAttribute("d", running ? `M${x(elapsed)} ${TOP}V${bottom}` : "");
    this.#labels.replaceChildren(...labels);
    this.node.setAttribute("aria-label", running ? "Timeline of the chunks" :
      `Timeline: ${this.#chunks.length} chunks in ${shortTime(elapsed)}, ` +
      `the largest ${bytes(this.#largest)}`);
  }
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

/** @param {number} count */
export function bytes(count) {
  return `${count.toLocaleString("en")} ${count === 1 ? "byte" : "bytes"}`;
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
