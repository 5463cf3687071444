// @ts-check

/** Reads the `curl` lines of the recipes, as `cookbook/curl.py` does. */

/**
 * What a recipe is asked. `line` is the command, if there is one; `body` is null for
 * none; after `seconds` the client leaves, null if it waits for the end.
 * @typedef {{line: string, method: string, path: string, headers: Record<string, string>,
 *   body: string | null, seconds: number | null}} Wanted
 */

const WITH_VALUE = new Set(["-o", "--output"]); // options whose value means nothing here

/**
 * A request without a body.
 * @param {string} path
 * @returns {Wanted}
 */
export function get(path) {
  return { line: "", method: "GET", path, headers: {}, body: null, seconds: null };
}

/**
 * Reads a command. Options that only change what curl prints are passed over, and of the
 * headers only those are given that the command itself names.
 * @param {string} line such as `curl -N http://127.0.0.1:8000/feed -H 'Last-Event-ID: 3'`
 * @returns {Wanted & {file: string | null}} with the name of a file that is its body
 */
export function parseCurl(line) {
  const wanted = { ...get("/"), line, file: /** @type {string | null} */ (null) };
  let method = "";
  const words = shellWords(line);
  while (words.length) {
    const word = words.shift() ?? "";
    const next = () => words.shift() ?? "";
    if (word === "-X" || word === "--request") {
      method = next();
    } else if (word === "-H" || word === "--header") {
      const [, name, value] = /^([^:]*):\s*(.*)$/s.exec(next()) ?? [];
      if (name) wanted.headers[name] = value ?? "";
    } else if (["--json", "-d", "--data", "--data-binary"].includes(word)) {
      const data = next();
      if (data.startsWith("@")) wanted.file = data.slice(1);
      else wanted.body = data;
    } else if (word === "-F" || word === "--form") {
      wanted.file = next().replace(/^[^=]*=@?/, "");
    } else if (word === "-T" || word === "--upload-file") {
      wanted.file = next();
      method ||= "PUT";
    } else if (word === "--max-time") {
      wanted.seconds = Number(next());
    } else if (WITH_VALUE.has(word)) {
      next();
    } else {
      const url = /^https?:\/\/[^/?#]+\/?([^#]*)/.exec(word);
      if (url) wanted.path = `/${url[1]}`;
    }
  }
  wanted.method = method || (wanted.body === null && wanted.file === null ? "GET" : "POST");
  return wanted;
}

/**
 * Gives the headers that a reader is told of: those of the command, as it writes them.
 * @param {Wanted} wanted
 */
export function told({ line, headers }) {
  return Object.entries(line ? parseCurl(line).headers : headers);
}

/**
 * Tells whether a browser lets a page set a header.
 * @param {string} name
 */
export function maySend(name) {
  return new Request(location.href, { headers: { [name]: "1" } }).headers.has(name);
}

/**
 * Tells whether a request says that its body is JSON.
 * @param {Wanted} wanted
 */
export function sendsJSON({ headers }) {
  const type = Object.entries(headers).find(([name]) => name.toLowerCase() === "content-type");
  return /\bjson\b/.test(type?.[1] ?? "");
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
