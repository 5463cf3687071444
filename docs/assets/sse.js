// @ts-check

/**
 * One event, as an EventSource would dispatch it.
 * @typedef {{event: string, data: string, id: string}} SSEEvent
 */

/** How many characters an event may have: an event that never ends must not fill the memory. */
export const LONGEST = 4_000_000;

/**
 * Turns the bytes of a text/event-stream into events, by the rules of WHATWG HTML,
 * 9.2.6 "Interpreting an event stream". The bytes may be cut anywhere.
 */
export class SSEDecoder {
  /** Milliseconds to wait before a reconnection; null until the stream names them. */
  retry = /** @type {number | null} */ (null);
  /** What a reconnection would send as Last-Event-ID. */
  lastEventId = "";
  /** Whether an event was longer than LONGEST; nothing is decoded from then on. */
  tooLong = false;

  // An event stream is UTF-8 whatever its charset says, and may begin with one BOM.
  #decoder = new TextDecoder("utf-8");
  #line = ""; // the begun line, not yet ended
  #afterCR = false; // a CR ended the last line; a LF that follows belongs to it
  #id = ""; // becomes lastEventId at the next blank line, and survives it
  #event = "";
  #data = /** @type {string[]} */ ([]);
  #block = /** @type {string[]} */ ([]); // the lines since the last blank one
  #length = 0; // characters of that block

  /** @param {string} lastEventId what a connection before this one had as its last id */
  constructor(lastEventId = "") {
    this.lastEventId = lastEventId;
    this.#id = lastEventId;
  }

  /**
   * Takes the next bytes and gives the events that they complete.
   * @param {Uint8Array} bytes
   * @returns {SSEEvent[]}
   */
  push(bytes) {
    if (this.tooLong) return [];
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return []; // not even a whole character
    // A CR ends its line at once: waiting for a possible LF would hold the event back.
    if (this.#afterCR && text.startsWith("\n")) text = text.slice(1);
    this.#afterCR = text === "" ? false : text.endsWith("\r");
    const [first, ...rest] = text.split(/\r\n|\r|\n/);
    this.#line += first;
    const events = [];
    for (const next of rest) {
      const event = this.#take(this.#line);
      if (event) events.push(event);
      this.#line = next;
    }
    if (this.#length + this.#line.length > LONGEST) {
      this.tooLong = true;
      this.#forget();
      this.#line = "";
    }
    return events;
  }

  /**
   * Says that the stream is over. The rules discard an event without its blank line.
   * @returns {string} the lines of such an event, or "" if the stream ended cleanly
   */
  end() {
    const line = this.#line + this.#decoder.decode();
    if (line !== "" && !line.startsWith(":")) this.#block.push(line);
    return this.#block.join("\n");
  }

  /**
   * @param {string} line without its end
   * @returns {SSEEvent | null} the event that a blank line completes
   */
  #take(line) {
    if (line === "") return this.#dispatch();
    if (line.startsWith(":")) return null;
    this.#block.push(line);
    this.#length += line.length + 1;
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    // One space after the colon is decoration; a second one is content.
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.retry = Number(value);
    return null;
  }

  /** @returns {SSEEvent | null} */
  #dispatch() {
    this.lastEventId = this.#id;
    const [event, data] = [this.#event || "message", this.#data];
    this.#forget();
    // `data:` alone makes an event with empty data; no data line at all makes none.
    return data.length ? { event, data: data.join("\n"), id: this.#id } : null;
  }

  #forget() {
    this.#event = "";
    this.#data = [];
    this.#block = [];
    this.#length = 0;
  }
}
