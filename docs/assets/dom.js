// @ts-check

/** Small parts that put text on the page; as text, never as markup. */

/** How many characters of a stream stay in the page. */
export const KEPT = 100_000;

/**
 * Appends to a list, in a box that scrolls. The oldest nodes go when there are more
 * than `most`, or more than KEPT characters; a reader who was at the end stays there.
 * @param {HTMLElement} box
 * @param {Element} list
 * @param {Node[]} nodes
 * @param {number} most
 * @returns {boolean} whether something went
 */
export function append(box, list, nodes, most) {
  if (nodes.length === 0) return false;
  const following = box.scrollHeight - box.scrollTop - box.clientHeight < 8;
  list.append(...nodes);
  const before = list.childNodes.length;
  let length = list.textContent?.length ?? 0;
  while (list.firstChild && (list.childNodes.length > most || length > KEPT)) {
    length -= list.firstChild.textContent?.length ?? 0;
    list.firstChild.remove();
  }
  if (following) toEnd(box);
  return list.childNodes.length < before;
}

/**
 * Scrolls to the end, so far that no row of a table is half hidden below its header.
 * @param {HTMLElement} box that scrolls
 */
export function toEnd(box) {
  const table = box.querySelector("table");
  if (table) table.style.marginBottom = "";
  box.scrollTop = box.scrollHeight;
  if (!table || box.scrollTop === 0) return;
  const edge = table.tHead?.getBoundingClientRect().bottom ?? 0;
  for (const row of table.tBodies[0]?.rows ?? []) {
    const { top, bottom } = row.getBoundingClientRect();
    if (bottom <= edge) continue;
    if (top < edge && bottom - edge < box.clientHeight / 2) {
      table.style.marginBottom = `${Math.ceil(bottom - edge)}px`;
      box.scrollTop = box.scrollHeight;
    }
    return;
  }
}

/**
 * Sets a text; what stands between backticks becomes code.
 * @param {HTMLElement} node
 * @param {string} text
 */
export function write(node, text) {
  const parts = text.split("`").map((part, i) => {
    if (i % 2 === 0) return part;
    const code = document.createElement("code");
    code.textContent = part;
    return code;
  });
  node.replaceChildren(...parts);
}

/**
 * @param {number} number
 * @param {string} noun
 */
export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}
