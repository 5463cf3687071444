// @ts-check

import { KEPT, append, count, write } from "./dom.js";
import { Figure } from "./figure.js";
import { here, liveIndex, recordings, replay, send } from "./source.js";
import { SSEDecoder } from "./sse.js";
import { bytes, shortTime } from "./timeline.js";

/** @typedef {import("./curl.js").Wanted} Wanted */
/** @typedef {import("./source.js").Answer} Answer */
/**
 * How one of the two is asked: what, and a function that sends it. `again` is null, or
 * the id after which a client that comes again wants to go on.
 * @typedef {{wanted: Wanted, file: string,
 *   ask: (signal: AbortSignal, again: string | null) => Promise<Answer>}} Way
 */

const LEAVE = 5000; // ms after which the panel leaves; cookbook/pairs.py has it, too
const RETRY = 3000; // ms that an EventSource waits if the stream does not say
const NOTES = {
  live: "Live: the wrong program runs in a process of its own. Both are asked at the same moment.",
  replay: "Replay of a recorded run: start `make serve` for the live streams.",
  none: "There is no server here and no recorded run: start `make serve` for the live streams.",
};
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let known = /** @type {ReturnType<typeof liveIndex> | null} */ (null); // by all of a page

const template = document.createElement("template");
template.innerHTML = `
  <div class="lp-bar">
    <button type="button" class="lp-run">Run wrong and right</button>
    <button type="button" class="lp-stop" aria-disabled="true">Stop</button>
  </div>
  <p class="lp-note"></p>
  <p class="lp-status" role="status"></p>
  <div class="lp-result" hidden></div>`;
const below = document.createElement("template");
below.innerHTML = `
  <p class="lp-ended"></p>
  <pre class="lp-box lp-came" tabindex="0" role="region"></pre>`;

/** One of the two, while it runs and after it. */
class Side {
  ended = "";
  #decoder = /** @type {SSEDecoder | null} */ (null);
  #connections = 0;
  #text = "";
  #last = ""; // the name of the last event

  /**
   * @param {"wrong" | "right"} kind
   * @param {Way} way
   * @param {boolean} isLive
   */
  constructor(kind, way, isLive) {
    this.way = way;
    this.figure = new Figure(way.wanted, isLive ? "read" : "chunk");
    const node = (this.node = this.figure.node);
    node.classList.add(`lp-${kind}`);
    const name = kind === "wrong" ? "Wrong" : "Right";
    node.setAttribute("aria-label", `${name}: ${node.getAttribute("aria-label")}`);
    const mark = node.querySelector(".lp-before-mark");
    mark?.replaceChildren(`${kind === "wrong" ? "✗" : "✓"} ${name}:`);
    mark?.removeAttribute("hidden");
    const file = document.createElement("span");
    file.append("in ", ...breakable(way.file));
    node.querySelector(".lp-title")?.append(file);
    node.append(below.content.cloneNode(true));
    this.box = /** @type {HTMLElement} */ (node.querySelector(".lp-came"));
    this.box.setAttribute("aria-label", `What the ${kind} program sent`);
  }

  /**
   * Asks, and follows the answer to its end; as often as an EventSource would, if
   * `reconnects`.
   * @param {AbortSignal} signal ends it; its reason says why
   * @param {number} started on the clock of `performance.now()`
   * @param {boolean} reconnects
   */
  async run(signal, started, reconnects) {
    let again = /** @type {string | null} */ (null);
    do {
      this.#connections++;
      this.ended = await this.#once(signal, started, reconnects, again);
      again = this.#decoder?.lastEventId ?? "";
      if (this.ended) break;
      await wait(this.#decoder?.retry ?? RETRY, signal);
      if (signal.aborted) this.ended = this.#left(signal);
    } while (!this.ended);
    const limit = typeof signal.reason === "number" ? signal.reason : Infinity;
    this.figure.elapsed = Math.min(performance.now() - started, limit);
    const node = /** @type {HTMLElement} */ (this.node.querySelector(".lp-ended"));
    write(node, this.ended);
  }

  /**
   * @param {AbortSignal} signal
   * @param {number} started
   * @param {boolean} reconnects
   * @param {string | null} again
   * @returns {Promise<string>} how it ended; "" if it has to be asked once more
   */
  async #once(signal, started, reconnects, again) {
    const figure = this.figure;
    const from = performance.now() - started;
    let answered = false;
    try {
      const answer = await this.way.ask(signal, again);
      if (signal.aborted) return this.#left(signal);
      const { status, reason, type } = answer;
      answered = status > 0;
      const words = [`${status || ""} ${reason}`.trim(), type].filter(Boolean);
      figure.fact("answer", words.join(" · ") || "–");
      const isSSE = status === 200 && /^text\/event-stream\b/i.test(type);
      this.#decoder = isSSE ? new SSEDecoder() : null;
      figure.counts(isSSE);
      this.#last = "";
      for await (const chunk of until(signal, answer.chunks)) {
        if (signal.aborted) return this.#left(signal);
        figure.add(from + chunk.at, chunk.size);
        this.#text += chunk.text;
        for (const event of this.#decoder?.push(chunk.data) ?? []) {
          figure.events++;
          this.#last = event.event;
        }
      }
      if (answer.endless) await wait(Infinity, signal); // only the recording ended
      if (signal.aborted) return this.#left(signal);
      if (status >= 400) return `Refused with ${words[0]}.`;
      const got = `${this.#counted()} in ${shortTime(performance.now() - started)}`;
      if (!reconnects || !isSSE) return `It ended as complete: ${got}.`;
      return this.#last === "end" ? `Its client closed at the event \`end\`: ${got}.` : "";
    } catch {
      if (signal.aborted) return this.#left(signal);
      const got = this.figure.bytes ? `after ${this.#counted()}` : "before the first byte";
      return answered ? `It broke off ${got}. No word says why.` : "Nobody answered.";
    }
  }

  /**
   * Says what was missing when the panel left.
   * @param {AbortSignal} signal
   */
  #left({ reason }) {
    if (typeof reason !== "number") return `Stopped after ${this.#counted()}.`;
    const time = shortTime(reason);
    if (this.#connections > 1) {
      return `It was asked ${this.#connections} times in ${time}, and would be for ever.`;
    }
    if (!this.figure.bytes) return `Nothing came in ${time}. Then the panel left.`;
    return `It was still open after ${time}, with ${this.#counted()}. Then the panel left.`;
  }

  #counted() {
    const { events, bytes: size } = this.figure;
    return this.#decoder ? `${count(events, "event")}, ${bytes(size)}` : bytes(size);
  }

  /**
   * @param {boolean} running
   * @param {number} elapsed ms
   * @param {number} length ms that the axis holds
   */
  paint(running, elapsed, length) {
    const runs = running && !this.ended;
    if (runs) this.figure.elapsed = elapsed;
    this.figure.paint(runs, length);
    if (!this.#text) return;
    const text = document.createTextNode(this.#text.slice(-KEPT));
    append(this.box, this.box, [text], Infinity);
    this.#text = "";
  }
}

/** A pitfall and the right version, run at the same moment on one time scale. */
export class Pair {
  #ways = /** @type {Way[]} */ ([]);
  #sides = /** @type {Side[]} */ ([]);
  #mode = /** @type {keyof typeof NOTES} */ ("none");
  #run = /** @type {AbortController | null} */ (null);
  #started = 0;

  /** @param {HTMLElement} panel */
  constructor(panel) {
    this.panel = panel;
    this.name = panel.getAttribute("wrong") ?? "";
    panel.replaceChildren(template.content.cloneNode(true));
    panel.setAttribute("role", "group");
    panel.setAttribute("aria-label", `Run wrong and right: ${this.name}`);
    this.#find("lp-run").addEventListener("click", () => this.#start());
    this.#find("lp-stop").addEventListener("click", () => this.stop());
    panel.addEventListener("keydown", (key) => {
      if (key.key !== "Escape" || !this.#run) return;
      key.stopPropagation(); // Escape would also close the theme's search
      this.stop();
    });
    this.#say("idle", "");
    this.#choose();
  }

  /** Ends both streams. */
  stop() {
    this.#run?.abort("the reader");
  }

  async #choose() {
    known ??= liveIndex();
    this.#ways = this.#live(await known) ?? [];
    if (this.#ways.length) this.#mode = "live";
    else {
      const recorded = await recordings(`pitfalls/${this.name}`);
      const files = this.#files();
      this.#ways = recorded.slice(0, 2).map((exchange, i) => ({
        wanted: exchange.wanted,
        file: files[i] ?? "",
        ask: async () => replay(exchange),
      }));
      if (this.#ways.length === 2) this.#mode = "replay";
    }
    write(this.#find("lp-note"), NOTES[this.#mode]);
    this.#say("idle", "");
    this.panel.dataset.mode = this.#mode;
  }

  /** The files of the two; the right one is the recipe's if it is not in the wrong one. */
  #files() {
    const [slug] = this.name.split("/");
    return [`recipes/pitfalls/${this.name}.py`, `recipes/${slug}.py`];
  }

  /**
   * Finds both requests among those of the server, as cookbook/pairs.py does.
   * @param {Awaited<ReturnType<typeof liveIndex>>} index
   * @returns {Way[] | null} null if one of the two cannot be asked
   */
  #live(index) {
    const tried = index && Object.hasOwn(index.pitfalls, this.name) ?
      (index.pitfalls[this.name] ?? []) : [];
    const wanted = tried.at(-1);
    const slug = this.name.split("/")[0] ?? "";
    if (!index || !wanted) return null;
    const path = this.panel.getAttribute("right");
    const own = tried.find((one) => one.path === path);
    const recipe = Object.hasOwn(index.recipes, slug) ? index.recipes[slug] : undefined;
    const its = path === null ? wanted : recipe?.requests.find((one) => one.path === path);
    const right = own ?? (recipe?.problem ? undefined : its);
    if (!right) return null;
    const [wrongs, rights] = [`pitfalls-live/${this.name}`, `live/${slug}`];
    const [wrongFile = "", rightFile = ""] = this.#files();
    return [
      way(wrongs, wanted, wrongFile),
      own ? way(wrongs, own, wrongFile) : way(rights, right, rightFile),
    ];
  }

  async #start() {
    if (this.#mode === "none") return;
    this.stop();
    const run = (this.#run = new AbortController());
    if (this.#mode === "live") {
      this.#say("running", "Starting the wrong program in a process of its own …");
      const problem = await this.#begin(run.signal);
      if (this.#run !== run) return;
      if (run.signal.aborted || problem) {
        this.#run = null;
        return this.#say(problem ? "failed" : "stopped", problem || "Stopped.");
      }
    }
    const isLive = this.#mode === "live";
    this.#sides = this.#ways.map((one, i) => new Side(i ? "right" : "wrong", one, isLive));
    const result = this.#find("lp-result");
    result.replaceChildren(...this.#sides.map(({ node }) => node));
    result.hidden = false;
    this.#say("running", "Both are running …");
    const limits = this.#ways.map(({ wanted }) => (wanted.seconds ?? Infinity) * 1000);
    const leave = Math.min(LEAVE, ...limits);
    const deadline = setTimeout(() => run.abort(leave), leave);
    this.#started = performance.now();
    // The clock runs on between two chunks, unless movement is unwelcome.
    const ticker = setInterval(() => this.#paint(true), calm.matches ? 500 : 100);
    const again = this.panel.hasAttribute("reconnect");
    const [signal, started] = [run.signal, this.#started];
    await Promise.all(this.#sides.map((side) => side.run(signal, started, again)));
    clearTimeout(deadline);
    clearInterval(ticker);
    if (this.#run !== run) return; // run anew meanwhile
    this.#run = null;
    this.#paint(false);
    this.#say("done", "Both have ended.");
  }

  /**
   * Has the server start the wrong program.
   * @param {AbortSignal} signal
   * @returns {Promise<string>} what is in the way, if anything
   */
  async #begin(signal) {
    try {
      const address = here(`pitfalls-live/${this.name}`);
      const response = await fetch(address, { method: "POST", signal });
      return response.ok ? "" : (await response.text()).trim();
    } catch {
      return signal.aborted ? "" :
        "The server does not answer. Start it with `make serve`, then run this again.";
    }
  }

  /** @param {boolean} running */
  #paint(running) {
    const elapsed = performance.now() - this.#started;
    const ends = this.#sides.map(({ figure }) => figure.elapsed);
    const length = running ? Math.max(elapsed, 1000) : Math.max(...ends);
    for (const side of this.#sides) side.paint(running, elapsed, length);
  }

  /**
   * @param {"idle" | "running" | "done" | "stopped" | "failed"} state
   * @param {string} message
   */
  #say(state, message) {
    this.panel.dataset.state = state;
    write(this.#find("lp-status"), message);
    // Truly disabled, a button would lose the focus under the reader's fingers.
    this.#find("lp-run").setAttribute("aria-disabled", `${this.#mode === "none"}`);
    this.#find("lp-stop").setAttribute("aria-disabled", `${state !== "running"}`);
  }

  /** @param {string} className */
  #find(className) {
    return /** @type {HTMLElement} */ (this.panel.querySelector(`.${className}`));
  }
}

/**
 * @param {string} room of the site, where the program answers
 * @param {Wanted} wanted
 * @param {string} file
 * @returns {Way}
 */
function way(room, wanted, file) {
  const ask = async (/** @type {AbortSignal} */ signal, /** @type {string | null} */ again) => {
    const headers = again ? { ...wanted.headers, "last-event-id": again } : wanted.headers;
    return send(here(`${room}${wanted.path}`), { ...wanted, headers }, signal);
  };
  return { wanted, file, ask };
}

/**
 * Lets a browser break a path after a slash.
 * @param {string} path
 */
function breakable(path) {
  const [first = "", ...rest] = path.split(/(?<=\/)/);
  return [first, ...rest.flatMap((part) => [document.createElement("wbr"), part])];
}

/**
 * Gives what comes before the signal; a recording does not mind it by itself.
 * @template T
 * @param {AbortSignal} signal
 * @param {AsyncIterable<T>} source
 */
async function* until(signal, source) {
  const iterator = source[Symbol.asyncIterator]();
  const aborted = wait(Infinity, signal).then(() => null);
  for (;;) {
    const next = await Promise.race([iterator.next(), aborted]);
    if (!next || next.done) return;
    yield next.value;
  }
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal ends it early
 * @returns {Promise<void>}
 */
function wait(ms, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    if (ms !== Infinity) setTimeout(resolve, ms);
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
