// @ts-check

/** Reads the `curl` lines of the recipes, as `cookbook/catalog.py` does. */

/**
 * What a recipe is asked. `line` is the command, if there is one; `body` is null for
 * none, and `file` the name of a file that is sent instead; after `seconds` the client
 * leaves, null if it waits for the end.
 * @typedef {{line: string, method: string, path: string, headers: Record<string, string>,
 *   body: string | null, file: string | null, seconds: number | null}} Wanted
 */

const JSON_TYPE = "application/json";
const FORM_TYPE = "application/x-www-form-urlencoded";
const WITH_VALUE = new Set(["-o", "--output"]); // options whose value means nothing here

/**
 * A request without a body.
 * @param {string} path
 * @returns {Wanted}
 */
export function get(path) {
  const nothing = { headers: {}, body: null, file: null, seconds: null };
  return { line: "", method: "GET", path, ...nothing };
}

/**
 * Reads a command. Options that only change what curl prints are passed over.
 * @param {string} line such as `curl -N http://127.0.0.1:8000/feed -H 'Last-Event-ID: 3'`
 * @returns {Wanted}
 */
export function parseCurl(line) {
  const wanted = { ...get("/"), line };
  let method = "";
  let type = "";
  const words = shellWords(line);
  while (words.length) {
    const word = words.shift() ?? "";
    const next = () => words.shift() ?? "";
    if (word === "-X" || word === "--request") {
      method = next();
    } else if (word === "-H" || word === "--header") {
      const [, name, value] = /^([^:]*):\s*(.*)$/s.exec(next()) ?? [];
      if (name) wanted.headers[name] = value ?? "";
    } else if (word === "--json") {
      take(wanted, next());
      type = JSON_TYPE;
    } else if (word === "-d" || word === "--data" || word === "--data-binary") {
      take(wanted, next());
      type ||= FORM_TYPE;
    } else if (word === "-F" || word === "--form") {
      wanted.file = next().replace(/^[^=]*=@?/, "");
    } else if (word === "-T" || word === "--upload-file") {
      wanted.file = next();
      method ||= "PUT";
    } else if (word === "-m" || word === "--max-time") {
      wanted.seconds = Number(next());
    } else if (WITH_VALUE.has(word)) {
      next();
    } else {
      const url = /^https?:\/\/[^/?#]+\/?([^#]*)/.exec(word);
      if (url) wanted.path = `/${url[1]}`;
    }
  }
  const sends = wanted.body !== null || wanted.file !== null;
  wanted.method = method || (sends ? "POST" : "GET");
  if (type && !header(wanted, "content-type")) wanted.headers["Content-Type"] = type;
  return wanted;
}

/**
 * @param {Wanted} wanted
 * @param {string} data a body, or the file that holds it: `@orders.json`
 */
function take(wanted, data) {
  if (data.startsWith("@")) wanted.file = data.slice(1);
  else wanted.body = wanted.body === null ? data : `${wanted.body}&${data}`;
}

/**
 * Gives the value of a header, whose name may be written in any case.
 * @param {Wanted} wanted
 * @param {string} name in lower case
 */
export function header({ headers }, name) {
  return Object.entries(headers).find(([key]) => key.toLowerCase() === name)?.[1] ?? "";
}

/**
 * Cuts a command into words, as a shell does: by spaces, but not between quotes.
 * @param {string} line
 * @returns {string[]}
 */
function shellWords(line) {
  const words = line.match(/(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"\\])+/gs) ?? [];
  return words.map((word) =>
    word.replace(/'([^']*)'|"((?:\\.|[^"\\])*)"|\\(.)/gs, (_, single, double, one) =>
      single ?? double?.replace(/\\(["\\$`])/g, "$1") ?? one,
    ),
  );
}
