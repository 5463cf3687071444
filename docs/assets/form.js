// @ts-check

import { maySend, parseCurl, sendsJSON, told } from "./curl.js";
import { write } from "./dom.js";
import { addressOf } from "./source.js";

/** @typedef {import("./curl.js").Wanted} Wanted */

/** What is asked, and what of it the reader has changed. */
export class RequestForm {
  #choices = /** @type {Wanted[]} */ ([]);
  #chosen = 0;
  #live = false;

  /**
   * @param {HTMLElement} panel holds the fields
   * @param {string} recipe
   * @param {() => void} changed is called when another request is chosen
   */
  constructor(panel, recipe, changed) {
    this.recipe = recipe;
    const find = (/** @type {string} */ name) => panel.querySelector(`.lp-${name}`);
    this.choice = /** @type {HTMLElement} */ (find("choice"));
    this.select = /** @type {HTMLSelectElement} */ (find("request"));
    this.method = /** @type {HTMLElement} */ (find("method"));
    this.path = /** @type {HTMLInputElement} */ (find("path"));
    this.body = /** @type {HTMLTextAreaElement} */ (find("body"));
    this.sent = /** @type {HTMLElement} */ (find("sent"));
    this.select.addEventListener("change", () => {
      this.#choose(this.select.selectedIndex);
      changed();
    });
    // After an edit no request is the chosen one, so that each can be chosen anew.
    for (const field of [this.path, this.body]) {
      field.addEventListener("input", () => {
        this.select.selectedIndex = -1;
        this.#name();
        field.removeAttribute("aria-invalid");
      });
    }
    this.body.addEventListener("keydown", (key) => {
      if (key.key !== "Enter" || !(key.ctrlKey || key.metaKey)) return;
      key.preventDefault();
      this.body.form?.requestSubmit();
    });
  }

  /**
   * Offers requests. On a live site they can be edited.
   * @param {Wanted[]} choices
   * @param {number} chosen
   * @param {boolean} live
   */
  offer(choices, chosen, live) {
    this.#choices = choices;
    this.#live = live;
    for (const { method, path } of choices) this.select.add(new Option(`${method} ${path}`));
    this.choice.hidden = choices.length < 2;
    this.path.readOnly = !live;
    this.select.selectedIndex = chosen;
    this.#choose(chosen);
  }

  /** @param {number} chosen */
  #choose(chosen) {
    const wanted = this.#choices[chosen];
    if (!wanted) return;
    this.#chosen = chosen;
    this.#name();
    this.method.textContent = wanted.method;
    this.path.value = wanted.path;
    this.body.value = wanted.body ?? "";
    this.body.hidden = wanted.body === null;
    // A text field has its own line ends: what needs others cannot be edited here.
    this.body.readOnly = !this.#live || this.body.value !== wanted.body;
    for (const field of [this.path, this.body]) field.removeAttribute("aria-invalid");
    this.#tell(wanted);
  }

  /** Says which request is chosen: what is drawn over the list's own field. */
  #name() {
    const [number, all] = [this.select.selectedIndex + 1, this.#choices.length];
    const name = number ? `Request ${number} of ${all}` : `Edited request (${all} to choose)`;
    this.choice.querySelector("span")?.replaceChildren(name);
  }

  /**
   * Says what else is sent.
   * @param {Wanted} wanted
   */
  #tell(wanted) {
    const headers = told(wanted);
    const lines = headers.map(([name, value]) => `\`${name}: ${value.replaceAll("`", "'")}\``);
    const withheld = this.#live ? headers.filter(([name]) => !maySend(name)) : [];
    const opening = withheld.length ? "In curl, this request has" : "With";
    const parts = lines.length ? [`${opening} ${lines.join(" and ")}.`] : [];
    const { file } = parseCurl(wanted.line);
    if (file) parts.push(`With the file \`${file}\`.`);
    for (const [name] of withheld) {
      parts.push(`A browser does not let a page set \`${name}\`, so it is left out here.`);
    }
    if (wanted.seconds) parts.push(`It is stopped after ${wanted.seconds} s.`);
    write(this.sent, parts.join(" "));
  }

  /**
   * Gives the request as it is to be sent.
   * @returns {{wanted: Wanted, problem: ""} | {wanted: null, problem: string}} or what is
   *   wrong with it
   */
  read() {
    const base = this.#choices[this.#chosen];
    if (!base) return { wanted: null, problem: "There is nothing to ask here." };
    const path = this.path.value.trim();
    const problem = path === base.path ? "" : pathProblem(this.recipe, path);
    if (problem) return this.#refuse(this.path, problem);
    const body = this.body.readOnly ? base.body : this.body.value;
    const { file } = parseCurl(base.line);
    if (this.#live && file && body === null) {
      return { wanted: null, problem: `The panel cannot send \`${file}\`, which is no text: use curl.` };
    }
    if (body !== base.body && sendsJSON(base)) {
      try {
        JSON.parse(body ?? "");
      } catch (error) {
        const why = error instanceof Error ? error.message : error;
        return this.#refuse(this.body, `The body is not valid JSON: ${why}.`);
      }
    }
    return { wanted: { ...base, path, body }, problem: "" };
  }

  /**
   * @param {HTMLElement} field
   * @param {string} problem
   * @returns {{wanted: null, problem: string}}
   */
  #refuse(field, problem) {
    field.setAttribute("aria-invalid", "true");
    field.focus();
    return { wanted: null, problem };
  }
}

/**
 * Says what is wrong with a path that a reader has typed.
 * @param {string} recipe
 * @param {string} path
 */
function pathProblem(recipe, path) {
  if (!path.startsWith("/")) return "A path begins with a slash, as in `/orders?rows=10`.";
  if (path.includes("#")) return "A server never sees what follows a `#`: write it as `%23`.";
  try {
    addressOf(recipe, path);
    return "";
  } catch {
    return "This path leads out of the recipe.";
  }
}
