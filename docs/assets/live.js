// @ts-check

/**
 * `<live-panel recipe="plain_text" path="/async/1"></live-panel>` runs a recipe on the
 * page: it shows the answer while it arrives, and a timeline of its chunks. Served by
 * the project's own server, the panel asks the recipe itself; on a static site it
 * replays the recorded transcript.
 */

import { KEPT, append, count, write } from "./dom.js";
import { ask, liveRecipes, recordings, replay } from "./source.js";
import { SSEDecoder } from "./sse.js";
import { Timeline, bytes, shortTime } from "./timeline.js";

/** @typedef {import("./source.js").Answer} Answer */
/** @typedef {import("./source.js").Chunk} Chunk */
/** @typedef {import("./transcript.js").Exchange} Exchange */

const ROWS = 500; // events that stay in the page
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// The only markup that is ever parsed; what a stream says is set as text.
const template = document.createElement("template");
template.innerHTML = `
  <div class="lp-bar">
    <button type="button" class="lp-run">Run</button>
    <button type="button" class="lp-stop">Stop</button>
    <code class="lp-path"></code>
    <select class="lp-request" aria-label="Request"></select>
  </div>
  <p class="lp-note"></p>
  <div class="lp-result" hidden>
    <div class="lp-figure"></div>
    <dl class="lp-facts">
      <div><dt>chunks</dt><dd data-fact="chunks"></dd></div>
      <div><dt>bytes</dt><dd data-fact="bytes"></dd></div>
      <div class="lp-sse"><dt>events</dt><dd data-fact="events"></dd></div>
      <div><dt>first byte</dt><dd data-fact="first"></dd></div>
      <div><dt>total</dt><dd data-fact="total"></dd></div>
    </dl>
    <div class="lp-bar lp-head">
      <span data-fact="answer"></span>
      <span class="lp-views lp-sse" role="group" aria-label="Show the stream as">
        <button type="button" value="events">events</button>
        <button type="button" value="raw">raw</button>
      </span>
    </div>
    <div class="lp-events lp-box" tabindex="0" role="region" aria-label="Events of the stream">
      <table class="lp-table">
        <thead><tr><th>time</th><th>id</th><th>event</th><th>data</th></tr></thead>
        <tbody></tbody>
      </table>
    </div>
    <pre class="lp-text lp-box" tabindex="0" role="region" aria-label="Text of the stream"></pre>
    <p class="lp-cut" hidden>Only the newest ${KEPT / 1000} kB and ${ROWS} events are kept here.</p>
  </div>
  <p class="lp-status" role="status"></p>`;

class LivePanel extends HTMLElement {
  #mode = "none";
  #exchanges = /** @type {Exchange[]} */ ([]);
  #run = /** @type {AbortController | null} */ (null); // of the request under way
  #decoder = /** @type {SSEDecoder | null} */ (null);
  #timeline = new Timeline();
  #count = { chunks: 0, bytes: 0, events: 0 };
  #partial = false;
  #started = 0;
  #ticker = 0;
  #frame = 0;
  #text = ""; // arrived, not painted yet
  #rows = /** @type {Node[]} */ ([]);

  connectedCallback() {
    // Moving the element connects it again.
    if (!this.dataset.state) this.#build();
  }

  /** Leaving the page, also by the theme's instant navigation, ends the stream. */
  disconnectedCallback() {
    this.#stop();
  }

  async #build() {
    this.dataset.state = "idle";
    this.replaceChildren(template.content.cloneNode(true));
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", `Run ${this.getAttribute("recipe")}`);
    this.#find("lp-figure").append(this.#timeline.node);
    this.#find("lp-run").addEventListener("click", () => this.#start());
    this.#find("lp-stop").addEventListener("click", () => this.#stop());
    this.#find("lp-request").addEventListener("change", () => {
      this.#stop();
      this.#find("lp-result").hidden = true;
      this.#say("idle", "");
    });
    for (const button of this.querySelectorAll("button[value]")) {
      button.addEventListener("click", () => this.#view(button.getAttribute("value")));
    }
    this.addEventListener("keydown", (key) => {
      if (key.key !== "Escape" || !this.#run) return;
      key.stopPropagation(); // Escape would also close the theme's search
      this.#stop();
    });
    this.#view("events");
    this.#say("idle", "");
    await this.#chooseMode();
  }

  async #chooseMode() {
    const recipe = this.getAttribute("recipe") ?? "";
    const [live, recorded] = await Promise.all([liveRecipes(), recordings(recipe)]);
    this.#exchanges = recorded;
    if (live?.recipes.includes(recipe)) this.#mode = "live";
    else if (recorded.length) this.#mode = "replay";
    this.dataset.mode = this.#mode;
    const notes = {
      live: "Live from this server. A chunk is one read: the browser joins what arrives together.",
      replay: "Replay of a recorded run: start `make serve` for the live stream.",
      none: "There is no server here and no recorded run: start `make serve` for the live stream.",
    };
    const model = this.#mode === "live" && recipe.startsWith("llm_") ? live?.model : "";
    const note = notes[/** @type {keyof notes} */ (this.#mode)];
    write(this.#find("lp-note"), model ? `${note} ${model}` : note);

    const paths = recorded.map(({ path }) => path);
    const wanted = this.getAttribute("path") ?? paths[0] ?? "/";
    if (!paths.includes(wanted)) paths.unshift(wanted);
    const select = /** @type {HTMLSelectElement} */ (this.#find("lp-request"));
    for (const path of paths) {
      select.add(new Option(path, path, path === wanted, path === wanted));
    }
    select.hidden = paths.length === 1;
    this.#find("lp-path").textContent = wanted;
    this.#find("lp-path").hidden = !select.hidden;
    this.#say("idle", "");
  }

  async #start() {
    if (this.#mode === "none") return;
    this.#stop();
    const run = (this.#run = new AbortController());
    this.#clear();
    this.#say("running", "Waiting for the first chunk …");
    const path = /** @type {HTMLSelectElement} */ (this.#find("lp-request")).value;
    try {
      const answer = await this.#ask(path, run.signal);
      if (run.signal.aborted) return;
      const { status, reason, type } = answer;
      this.#partial = answer.partial;
      const isSSE = status === 200 && /^text\/event-stream\b/i.test(type);
      this.#decoder = isSSE ? new SSEDecoder() : null;
      this.toggleAttribute("data-sse", isSSE);
      this.#fact("answer", [`${status} ${reason}`.trim(), type].filter(Boolean).join(" · "));
      for await (const chunk of answer.chunks) {
        if (run.signal.aborted) return;
        if (this.#count.chunks === 0) this.#say("running", "Receiving …");
        this.#take(chunk);
      }
      if (run.signal.aborted) return;
      const { chunks, bytes: size } = this.#count;
      const end = answer.end();
      const done = `Done: ${count(chunks, "chunk")}, ${bytes(size)} in ${shortTime(end)}.`;
      const refused = `The server answered ${status} ${reason}`.trim() + ".";
      this.#finish(status >= 400 ? "failed" : "done", status === 200 ? done : refused, end);
    } catch (error) {
      if (run.signal.aborted) return;
      const elapsed = performance.now() - this.#started;
      const message = await this.#explain(error);
      if (!run.signal.aborted) this.#finish("failed", message, elapsed);
    }
  }

  /**
   * @param {string} path
   * @param {AbortSignal} signal
   * @returns {Promise<Answer>}
   */
  async #ask(path, signal) {
    if (this.#mode === "live") {
      const body = this.#exchanges.find((one) => one.path === path)?.body ?? null;
      return ask(this.getAttribute("recipe") ?? "", { path, body }, signal);
    }
    const exchange = this.#exchanges.find((one) => one.path === path);
    if (!exchange) throw new Error(`There is no recorded run of ${path}`);
    return replay(exchange);
  }

  /**
   * Says what went wrong and what to do: a browser's error names neither.
   * @param {unknown} error
   */
  async #explain(error) {
    if (this.#mode === "replay") {
      return `${error instanceof Error ? error.message : error}: start \`make serve\`.`;
    }
    const { chunks } = this.#count;
    if ((await liveRecipes()) === null) {
      return chunks === 0
        ? "The server does not answer. Start it with `make serve`, then run this again."
        : `The server is gone after ${count(chunks, "chunk")}. Start it again with \`make serve\`.`;
    }
    return `The connection broke after ${count(chunks, "chunk")}, before the end of the ` +
      "answer. The server is still there: its log says what failed.";
  }

  #stop() {
    if (!this.#run) return;
    this.#run.abort();
    const message = `Stopped after ${count(this.#count.chunks, "chunk")}.`;
    this.#finish("stopped", message, performance.now() - this.#started);
  }

  /** @param {Chunk} chunk */
  #take({ at, size, data, text }) {
    if (this.#count.chunks++ === 0) this.#fact("first", shortTime(at));
    this.#count.bytes += size;
    this.#timeline.add(at, size);
    // A page in the background is not painted: what waits must stay bounded too.
    this.#text += text;
    if (this.#text.length > 2 * KEPT) this.#text = this.#newest(this.#text);
    for (const event of this.#decoder?.push(data) ?? []) {
      this.#count.events++;
      this.#addRow("", seconds(at), event.id, event.event, event.data);
    }
    this.#frame ||= requestAnimationFrame(() => this.#paint());
  }

  /** @param {string} text */
  #newest(text) {
    if (text.length > KEPT) this.#find("lp-cut").hidden = false;
    return text.slice(-KEPT);
  }

  /**
   * @param {string} className
   * @param {...string} cells
   */
  #addRow(className, ...cells) {
    const row = document.createElement("tr");
    row.className = className;
    for (const text of cells) row.insertCell().textContent = this.#newest(text);
    this.#rows.push(row);
    if (this.#rows.length > 2 * ROWS) this.#rows = this.#rows.slice(-ROWS);
  }

  /** @param {number} [end] the time at which it was all over, in ms */
  #paint(end) {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const elapsed = end ?? performance.now() - this.#started;
    this.#fact("chunks", this.#count.chunks.toLocaleString("en"));
    this.#fact("bytes", this.#count.bytes.toLocaleString("en"));
    const orMore = this.#partial ? " or more" : ""; // some may be among what was left out
    this.#fact("events", this.#count.events.toLocaleString("en") + orMore);
    this.#fact("total", shortTime(elapsed));
    this.#timeline.draw(elapsed, end === undefined);

    const table = this.#find("lp-events");
    const rows = this.querySelector("tbody") ?? table;
    let dropped = append(table, rows, this.#rows, ROWS);
    this.#rows = [];
    if (this.#text) {
      const text = document.createTextNode(this.#newest(this.#text));
      dropped = append(this.#find("lp-text"), this.#find("lp-text"), [text], Infinity) || dropped;
      this.#text = "";
    }
    if (dropped || this.#count.events > ROWS) this.#find("lp-cut").hidden = false;
  }

  /**
   * @param {"done" | "stopped" | "failed"} state
   * @param {string} message
   * @param {number} end
   */
  #finish(state, message, end) {
    this.#run = null;
    clearInterval(this.#ticker);
    const rest = this.#decoder?.end();
    if (rest && state !== "stopped") {
      this.#addRow("lp-unfinished", seconds(end), "", "cut off", rest);
      message += " The last event was cut off before its blank line: an EventSource drops it.";
    }
    this.#paint(end);
    this.#say(state, message);
  }

  #clear() {
    this.#count = { chunks: 0, bytes: 0, events: 0 };
    this.#decoder = null;
    this.#partial = false;
    this.#timeline.clear();
    [this.#text, this.#rows] = ["", []];
    this.#find("lp-text").replaceChildren();
    this.querySelector("tbody")?.replaceChildren();
    this.#find("lp-cut").hidden = true;
    this.#find("lp-result").hidden = false;
    for (const name of ["first", "answer"]) this.#fact(name, "–");
    this.#started = performance.now();
    this.#paint();
    // The clock runs on between two chunks, unless movement is unwelcome.
    if (!calm.matches) this.#ticker = setInterval(() => this.#paint(), 100);
  }

  /**
   * @param {"idle" | "running" | "done" | "stopped" | "failed"} state
   * @param {string} message
   */
  #say(state, message) {
    this.dataset.state = state;
    write(this.#find("lp-status"), message);
    // Truly disabled, a button would lose the focus under the reader's fingers.
    this.#find("lp-run").setAttribute("aria-disabled", `${this.#mode === "none"}`);
    this.#find("lp-stop").setAttribute("aria-disabled", `${state !== "running"}`);
  }

  /** @param {string | null} view */
  #view(view) {
    this.dataset.view = view ?? "raw";
    for (const button of this.querySelectorAll("button[value]")) {
      button.setAttribute("aria-pressed", `${button.getAttribute("value") === view}`);
    }
  }

  /**
   * @param {string} name
   * @param {string} value
   */
  #fact(name, value) {
    const node = this.querySelector(`[data-fact="${name}"]`);
    if (node && node.textContent !== value) node.textContent = value;
  }

  /** @param {string} className */
  #find(className) {
    return /** @type {HTMLElement} */ (this.querySelector(`.${className}`));
  }
}

/** @param {number} ms */
function seconds(ms) {
  return `${(ms / 1000).toFixed(2)} s`;
}

// The theme's instant navigation may run a page's scripts again.
if (!customElements.get("live-panel")) customElements.define("live-panel", LivePanel);
