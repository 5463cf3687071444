// @ts-check

/**
 * `<live-panel recipe="plain_text" path="/async/1"></live-panel>` runs a recipe on the
 * page: it shows the answer while it arrives, and a timeline of its reads. Served by
 * the project's own server, the panel asks the recipe itself; on a static site it
 * replays the recorded transcript. With the attribute `autostart` it begins by itself,
 * unless the reader has asked for less motion. With `wrong="<slug>/<mistake>"` instead
 * of `recipe`, it runs a pitfall beside the right version: see pair.js.
 */

import { get } from "./curl.js";
import { KEPT, append, count, toEnd, write } from "./dom.js";
import { Figure, keyOf, similar } from "./figure.js";
import { RequestForm } from "./form.js";
import { Pair } from "./pair.js";
import { ask, held, here, liveIndex, recordings, replay } from "./source.js";
import { LONGEST, SSEDecoder } from "./sse.js";
import { bytes, shortTime } from "./timeline.js";

/** @typedef {import("./curl.js").Wanted} Wanted */
/** @typedef {import("./source.js").Answer} Answer */
/** @typedef {import("./source.js").Chunk} Chunk */
/** @typedef {import("./transcript.js").Exchange} Exchange */
/** @typedef {"idle" | "running" | "done" | "stopped" | "failed"} State */

const ROWS = 500; // events that stay in the page
const PATIENT = 2000; // characters of a text in which each comma may end a line
const VIEWS = ["text", "events", "raw"];
const NOTES = {
  live: "Live from this server. The server sends chunks; your browser may join or split them. This panel counts its reads.",
  replay: "Replay of a recorded run: start `make serve` for the live stream, and to edit the request.",
  none: "There is no server here and no recorded run: start `make serve` for the live stream.",
  problem: "This recipe does not run here.",
};
const THROUGH = "through a buffering proxy";
const HOLDERS = {
  nginx: "nginx stands between: it collects and compresses, and ignores what the recipe asks for.",
  panel: "No such proxy is here, so this panel holds the stream back until its end, as one would.",
};
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// The only markup that is ever parsed; what a stream says is set as text.
const template = document.createElement("template");
template.innerHTML = `
  <form class="lp-bar lp-ask" novalidate>
    <button class="lp-run">Run</button>
    <button type="button" class="lp-stop">Stop</button>
    <span class="lp-choice" hidden>
      <span aria-hidden="true"></span>
      <select class="lp-request" aria-label="Request"></select>
    </span>
    <span class="lp-field">
      <span class="lp-method"></span>
      <input class="lp-path" aria-label="Path and query" autocomplete="off"
        autocapitalize="off" spellcheck="false" enterkeyhint="go">
    </span>
    <textarea class="lp-body" aria-label="Body of the request" rows="2" hidden
      autocomplete="off" autocapitalize="off" spellcheck="false"></textarea>
  </form>
  <p class="lp-sent"></p>
  <p class="lp-through" hidden>
    <label><input type="checkbox" class="lp-switch"> ${THROUGH}</label> <span hidden></span>
  </p>
  <p class="lp-note"><span></span> <a class="lp-page" target="_blank" rel="noopener" hidden>Open its page (new tab)</a></p>
  <p class="lp-status" role="status"></p>
  <div class="lp-result" hidden>
    <div class="lp-newest"></div>
    <div class="lp-bar lp-views lp-sse" role="group" aria-label="Show the stream as">
      <button type="button" value="text">text</button>
      <button type="button" value="events">events</button>
      <button type="button" value="raw">raw</button>
    </div>
    <pre class="lp-answer lp-box" tabindex="0" role="region" aria-label="Answer"></pre>
    <div class="lp-events lp-box" tabindex="0" role="region" aria-label="Events of the stream">
      <table class="lp-table">
        <thead><tr><th>time</th><th>id</th><th>event</th><th>data</th></tr></thead>
        <tbody></tbody>
      </table>
    </div>
    <pre class="lp-text lp-box" tabindex="0" role="region" aria-label="Text of the stream"></pre>
    <p class="lp-cut" hidden>The panel keeps only the newest ${KEPT / 1000}
      kB<span class="lp-sse"> and ${ROWS} events</span>.</p>
    <div class="lp-earlier"></div>
  </div>`;

class LivePanel extends HTMLElement {
  #pair = /** @type {Pair | null} */ (null); // what stands here instead, if it does
  #mode = /** @type {keyof typeof NOTES} */ ("none");
  #form = /** @type {RequestForm | null} */ (null);
  #recorded = /** @type {Exchange[]} */ ([]);
  #proxy = /** @type {string | null} */ (null); // that holds streams back, if there is one
  #run = /** @type {AbortController | null} */ (null); // of the request under way
  #decoder = /** @type {SSEDecoder | null} */ (null);
  #now = /** @type {Figure | null} */ (null); // the newest run
  #before = /** @type {Figure | null} */ (null); // the last run of another request
  #started = 0;
  #ticker = 0;
  #deadline = 0;
  #frame = 0;
  #text = ""; // arrived, not painted yet
  #answer = ""; // the same of the tokens' texts
  #rows = /** @type {Node[]} */ ([]);
  #last = ""; // the name of the last event
  #view = ""; // that the reader has chosen

  connectedCallback() {
    // Moving the element connects it again.
    if (this.dataset.state) return;
    if (this.hasAttribute("wrong")) this.#pair = new Pair(this);
    else this.#build();
  }

  /** Leaving the page, also by the theme's instant navigation, ends the stream. */
  disconnectedCallback() {
    this.#pair?.stop();
    this.#stop();
  }

  /** What the panel counts: a browser sees no chunks. */
  get #noun() {
    return this.#mode === "replay" ? "chunk" : "read";
  }

  /** @param {number} chunks */
  #count(chunks) {
    return count(chunks, this.#noun);
  }

  get #switch() {
    return /** @type {HTMLInputElement} */ (this.#find("lp-switch"));
  }

  /** What stands between the recipe and the panel, in words. */
  get #through() {
    return this.#switch.checked ? THROUGH : "";
  }

  get #recipe() {
    return this.getAttribute("recipe") ?? "";
  }

  #build() {
    this.replaceChildren(template.content.cloneNode(true));
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", `Run ${this.#recipe}`);
    this.#find("lp-ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#start();
    });
    this.#find("lp-stop").addEventListener("click", () => this.#stop());
    for (const button of this.querySelectorAll("button[value]")) {
      button.addEventListener("click", () => {
        this.#view = button.getAttribute("value") ?? "";
        this.#show();
      });
    }
    this.addEventListener("keydown", (key) => {
      if (key.key !== "Escape" || !this.#run) return;
      key.stopPropagation(); // Escape would also close the theme's search
      this.#stop();
    });
    this.#switch.addEventListener("change", () => {
      this.#stop();
      this.#say("idle", "");
      this.#find("lp-through").lastElementChild?.toggleAttribute("hidden", !this.#through);
    });
    this.#form = new RequestForm(this, this.#recipe, () => {
      this.#stop();
      this.#say("idle", "");
    });
    this.#show();
    this.#say("idle", "");
    this.#chooseMode();
  }

  async #chooseMode() {
    const index = await liveIndex();
    const live = index && Object.hasOwn(index.recipes, this.#recipe) ?
      index.recipes[this.#recipe] : undefined;
    if (!live) this.#recorded = await recordings(this.#recipe);
    if (live) this.#mode = live.problem ? "problem" : "live";
    else if (this.#recorded.length) this.#mode = "replay";

    let note = NOTES[this.#mode];
    if (live?.problem) note += ` ${live.problem}`;
    else if (live?.needs.includes("model")) note += ` ${index?.model ?? ""}`;
    write(/** @type {HTMLElement} */ (this.#find("lp-note").firstElementChild), note);
    const link = /** @type {HTMLAnchorElement} */ (this.#find("lp-page"));
    link.hidden = this.#mode !== "live" || !live?.page;
    if (live?.page) link.href = here(live.page);
    this.#proxy = this.#mode === "live" ? (index?.buffering ?? null) : null;
    const holder = HOLDERS[this.#proxy ? "nginx" : "panel"];
    write(/** @type {HTMLElement} */ (this.#find("lp-through").lastElementChild), holder);
    this.#find("lp-through").hidden = this.#mode !== "live" && this.#mode !== "replay";

    const choices = live ? [...live.requests] : this.#recorded.map(({ wanted }) => wanted);
    const path = this.getAttribute("path") ?? choices[0]?.path ?? "/";
    let chosen = choices.findIndex((one) => one.path === path);
    if (chosen < 0) [chosen] = [0, choices.unshift(get(path))];
    this.#form?.offer(choices, chosen, this.#mode === "live");
    this.#say("idle", "");
    this.dataset.mode = this.#mode;
    if (this.hasAttribute("autostart") && !calm.matches) this.#start();
  }

  async #start() {
    if (this.#mode !== "live" && this.#mode !== "replay") return;
    this.#stop();
    const { wanted, problem } = this.#form?.read() ?? { wanted: null, problem: "" };
    if (!wanted) return this.#say("failed", problem);
    const run = (this.#run = new AbortController());
    const figure = this.#open(wanted);
    this.#say("running", "Waiting for the first byte …");
    try {
      const answer = await this.#ask(wanted, run.signal);
      if (run.signal.aborted) return;
      this.#head(figure, answer);
      for await (const chunk of answer.chunks) {
        if (run.signal.aborted) return;
        if (figure.chunks === 0) this.#say("running", "Receiving …");
        this.#take(figure, chunk);
        if (this.#decoder?.tooLong) {
          const limit = bytes(LONGEST).replace("bytes", "characters");
          throw new RangeError(`One event has more than ${limit} and no end. The panel gives up.`);
        }
      }
      if (!run.signal.aborted) this.#end(figure, answer);
    } catch (error) {
      if (run.signal.aborted) return;
      const elapsed = performance.now() - this.#started;
      const message = await this.#explain(error, figure.chunks);
      if (run.signal.aborted) return;
      this.#finish("failed", message, elapsed);
      run.abort(); // a stream that was given up must not go on
    }
  }

  /**
   * @param {Wanted} wanted
   * @param {AbortSignal} signal
   * @returns {Promise<Answer>}
   */
  async #ask(wanted, signal) {
    if (this.#mode === "live") {
      if (wanted.seconds) {
        this.#deadline = setTimeout(() => this.#timeUp(wanted), wanted.seconds * 1000);
      }
      const proxy = this.#through ? this.#proxy : null;
      const answer = await ask(this.#recipe, wanted, signal, proxy);
      return this.#through && !proxy ? held(answer) : answer;
    }
    const exchange = this.#recorded.find((one) => keyOf(one.wanted) === keyOf(wanted));
    if (!exchange) throw new Error(`There is no recorded run of ${wanted.path}`);
    return this.#through ? held(replay(exchange)) : replay(exchange);
  }

  /**
   * @param {Figure} figure
   * @param {Answer} answer
   */
  #head(figure, { status, reason, type, partial }) {
    figure.partial = partial;
    figure.fact("answer", [`${status} ${reason}`.trim(), type].filter(Boolean).join(" · "));
    const isSSE = status === 200 && /^text\/event-stream\b/i.test(type);
    this.#decoder = isSSE ? new SSEDecoder() : null;
    figure.counts(isSSE);
    this.toggleAttribute("data-sse", isSSE);
    if (!isSSE) this.removeAttribute("data-tokens");
    this.#show();
  }

  /**
   * @param {Figure} figure
   * @param {Answer} answer that has come to its end
   */
  #end({ chunks, bytes: size }, { status, reason, endless, end }) {
    const got = `${this.#count(chunks)}, ${bytes(size)} in ${shortTime(end())}.`;
    const answered = `The server answered ${`${status} ${reason}`.trim()}`;
    if (endless) {
      this.#finish("stopped", `The recording stops here, the stream goes on: ${got}`, end());
    } else if (status >= 300) {
      this.#finish(status >= 400 ? "failed" : "done", `${answered}.`, end());
    } else {
      this.#finish("done", status === 200 ? `Done: ${got}` : `${answered}: ${got}`, end());
    }
  }

  /**
   * Says what went wrong and what to do: a browser's error names neither.
   * @param {unknown} error
   * @param {number} chunks that had come
   */
  async #explain(error, chunks) {
    if (error instanceof RangeError) return error.message;
    if (this.#mode === "replay") {
      return `${error instanceof Error ? error.message : error}: start \`make serve\`.`;
    }
    if ((await liveIndex()) === null) {
      return chunks === 0
        ? "The server does not answer. Start it with `make serve`, then run this again."
        : `The server is gone after ${this.#count(chunks)}. Start it again with \`make serve\`.`;
    }
    return `The connection broke after ${this.#count(chunks)}, before the end of the ` +
      "answer. The server is still there: its log says what failed.";
  }

  /** @param {string} [message] says why, if it was not the reader */
  #stop(message) {
    if (!this.#run) return;
    this.#run.abort();
    const said = message ?? `Stopped after ${this.#count(this.#now?.chunks ?? 0)}.`;
    this.#finish("stopped", said, performance.now() - this.#started);
  }

  /** @param {Wanted} wanted */
  #timeUp({ seconds }) {
    const got = `${this.#count(this.#now?.chunks ?? 0)}, ${bytes(this.#now?.bytes ?? 0)}`;
    this.#stop(`Stopped after ${seconds} s, as \`--max-time ${seconds}\` does: ${got}. ` +
      "The stream had not ended.");
  }

  /**
   * @param {Figure} figure
   * @param {Chunk} chunk
   */
  #take(figure, { at, size, data, text }) {
    figure.add(at, size);
    // A page in the background is not painted: what waits must stay bounded too.
    this.#text += text;
    if (this.#text.length > 2 * KEPT) this.#text = this.#newest(this.#text);
    for (const event of this.#decoder?.push(data) ?? []) {
      figure.events++;
      this.#last = event.event;
      this.#addRow("", seconds(at), event.id, event.event, event.data);
      const token = event.event === "token" ? tokenOf(event.data) : null;
      if (token === null) continue;
      this.#answer += token;
      if (this.#answer.length > 2 * KEPT) this.#answer = this.#newest(this.#answer);
      if (this.toggleAttribute("data-tokens", true)) this.#show();
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
    for (const text of cells) row.insertCell().append(...breakable(this.#newest(text)));
    this.#rows.push(row);
    if (this.#rows.length > 2 * ROWS) this.#rows = this.#rows.slice(-ROWS);
  }

  /** @param {number} [end] the time at which it was all over, in ms */
  #paint(end) {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const [now, before] = [this.#now, this.#before];
    if (!now) return;
    const running = end === undefined;
    now.elapsed = end ?? performance.now() - this.#started;
    // While it runs, the axis has at least a second, so that it does not jump at first.
    const length = running ? Math.max(now.elapsed, 1000) : now.elapsed;
    const together = before !== null && similar(length, before.elapsed, now.width);
    now.paint(running, together ? Math.max(length, before.elapsed) : length);
    before?.paint(false, together ? Math.max(length, before.elapsed) : before.elapsed);
    before?.scale(together || running ? "" : "This picture has another time scale than the one " +
      `above: the run took ${shortTime(before.elapsed)}, the one above ${shortTime(length)}.`);

    const table = this.#find("lp-events");
    const rows = this.querySelector("tbody") ?? table;
    let dropped = append(table, rows, this.#rows, ROWS);
    this.#rows = [];
    const texts = { "lp-text": this.#text, "lp-answer": this.#answer };
    for (const [name, text] of Object.entries(texts)) {
      if (!text) continue;
      const node = document.createTextNode(this.#newest(text));
      dropped = append(this.#find(name), this.#find(name), [node], Infinity) || dropped;
    }
    [this.#text, this.#answer] = ["", ""];
    if (dropped || now.events > ROWS) this.#find("lp-cut").hidden = false;
  }

  /**
   * @param {"done" | "stopped" | "failed"} state
   * @param {string} message
   * @param {number} end
   */
  #finish(state, message, end) {
    this.#run = null;
    clearInterval(this.#ticker);
    clearTimeout(this.#deadline);
    const rest = this.#decoder?.end();
    if (rest && state !== "stopped") {
      this.#addRow("lp-unfinished", seconds(end), "", "cut off", rest);
      message += " The last event was cut off before its blank line: an EventSource drops it.";
    } else if (this.hasAttribute("data-tokens") && this.#last && state === "done") {
      message += ` The last event was \`${this.#last.slice(0, 30).replaceAll("`", "'")}\`.`;
    }
    this.#paint(end);
    this.#say(state, message);
  }

  /**
   * Clears the stage for a run. The last run of another request stays beside it.
   * @param {Wanted} wanted
   */
  #open(wanted) {
    const figure = new Figure(wanted, this.#noun, this.#through);
    const again = this.#now?.key === figure.key;
    if (again) {
      this.#now?.node.remove();
    } else if (this.#now) {
      this.#before?.node.remove();
      this.#before = this.#now;
      this.#before.retire();
      this.#find("lp-earlier").append(this.#before.node);
    }
    this.#now = figure;
    this.#find("lp-newest").append(figure.node);
    // What was a token stream will be one again; of another request nothing is known.
    if (!again) this.removeAttribute("data-tokens");
    figure.counts(this.hasAttribute("data-sse"));
    this.#show();
    this.#decoder = null;
    [this.#text, this.#answer, this.#rows, this.#last] = ["", "", [], ""];
    for (const name of ["lp-text", "lp-answer"]) this.#find(name).replaceChildren();
    this.querySelector("tbody")?.replaceChildren();
    this.#find("lp-cut").hidden = true;
    this.#find("lp-result").hidden = false;
    this.#started = performance.now();
    this.#paint();
    // The clock runs on between two chunks, unless movement is unwelcome.
    if (!calm.matches) this.#ticker = setInterval(() => this.#paint(), 100);
    return figure;
  }

  /**
   * @param {State} state
   * @param {string} message
   */
  #say(state, message) {
    this.dataset.state = state;
    write(this.#find("lp-status"), message);
    // Truly disabled, a button would lose the focus under the reader's fingers.
    this.#find("lp-run").setAttribute("aria-disabled", `${this.#mode === "none"}`);
    this.#find("lp-stop").setAttribute("aria-disabled", `${state !== "running"}`);
  }

  /** Shows the stream as the reader has chosen or, if it has no such view, as suits it. */
  #show() {
    const views = this.hasAttribute("data-sse") ? VIEWS : ["raw"];
    const possible = views.slice(views.length > 1 && !this.hasAttribute("data-tokens") ? 1 : 0);
    const view = possible.includes(this.#view) ? this.#view : (possible[0] ?? "raw");
    if (view === this.dataset.view) return;
    this.dataset.view = view;
    for (const button of this.querySelectorAll("button[value]")) {
      button.setAttribute("aria-pressed", `${button.getAttribute("value") === view}`);
    }
    // A box that was hidden could not follow the stream.
    for (const box of this.#run ? this.querySelectorAll(".lp-box") : []) {
      toEnd(/** @type {HTMLElement} */ (box));
    }
  }

  /** @param {string} className */
  #find(className) {
    return /** @type {HTMLElement} */ (this.querySelector(`.${className}`));
  }
}

/**
 * Lets a browser break a line after a comma, as JSON without spaces needs it.
 * @param {string} text
 * @returns {(string | Node)[]}
 */
function breakable(text) {
  if (text.length > PATIENT) return [text];
  const [first = "", ...rest] = text.split(/(?<=,)/);
  return [first, ...rest.flatMap((part) => [document.createElement("wbr"), part])];
}

/** @param {number} ms */
function seconds(ms) {
  return `${(ms / 1000).toFixed(2)} s`;
}

/**
 * Gives the text of a token.
 * @param {string} data
 * @returns {string | null} null if the data is no JSON with a `text`
 */
function tokenOf(data) {
  try {
    const { text } = JSON.parse(data);
    return typeof text === "string" ? text : null;
  } catch {
    return null;
  }
}

// The theme's instant navigation may run a page's scripts again.
if (!customElements.get("live-panel")) customElements.define("live-panel", LivePanel);
