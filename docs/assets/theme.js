// @ts-check

/**
 * What the theme leaves out, put in before its own script runs: the search's index is
 * fetched when somebody searches, and a keyboard and a screen reader can use every part.
 * Named in `extra.polyfills`, the theme's list of scripts that come first.
 */
(() => {
  const FIELD = "[data-md-component=search-query]";

  // The index is larger than a page, and the theme fetches it with each. It waits here
  // until the search has the focus; a page that marks what was found needs it at once.
  const wanted = new Promise((resolve) => {
    if (new URLSearchParams(location.search).has("h")) resolve(null);
    addEventListener("focusin", ({ target }) => {
      if (target instanceof Element && target.matches(FIELD)) resolve(null);
    });
  });
  const { open, send } = XMLHttpRequest.prototype;
  const held = new WeakSet();
  /** @param {any[]} given */
  XMLHttpRequest.prototype.open = function (...given) {
    if (String(given[1]).endsWith("/search/search_index.json")) held.add(this);
    return Reflect.apply(open, this, given);
  };
  XMLHttpRequest.prototype.send = function (body) {
    if (!held.has(this)) return send.call(this, body);
    wanted.then(() => send.call(this, body));
  };

  // The search takes `Cache-Control: no-cache` for one in a field named Cache-Control,
  // which does not exist, and finds nothing. Readers paste headers: no colon gets there.
  const QUERY = 2; // the type of the theme's message to its search worker
  const { postMessage } = Worker.prototype;
  /** @param {any[]} given */
  Worker.prototype.postMessage = function (...given) {
    const { type, data } = given[0] ?? {};
    if (type === QUERY) given[0] = { type, data: String(data).replaceAll(":", " ") };
    return Reflect.apply(postMessage, this, given);
  };

  // What is too wide scrolls in its own box: the keyboard must be able to get there.
  const BOXES = [
    [".md-typeset__scrollwrap", "Table"],
    [".diagram", "Diagram"],
    [".course-stream, .course-picture", "Output"],
  ];
  const reach = () => {
    for (const [boxes, name] of BOXES) {
      for (const box of document.querySelectorAll(boxes)) {
        const wide = box.scrollWidth > box.clientWidth;
        if (!wide && !box.hasAttribute("tabindex")) continue;
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", `${name}, scrolls sideways`);
        box.setAttribute("tabindex", wide ? "0" : "-1");
      }
    }
  };
  addEventListener("load", reach);
  addEventListener("resize", reach);
  // What was folded, or behind a tab, has its width only now.
  addEventListener("toggle", reach, true);
  addEventListener("change", reach);

  // On a narrow screen the menu is made of labels, which a keyboard passes over. Enter on
  // one that has the focus is a click: the theme's script sees to that.
  const MENU = ".md-header__button[for=__drawer], .md-nav :is(.md-nav__link, .md-nav__title)[for]";
  const narrow = matchMedia("(max-width: 76.2344em)"); // as the theme's style says
  const menu = () => {
    for (const label of document.querySelectorAll(MENU)) {
      if (narrow.matches) label.setAttribute("tabindex", "0");
      else label.removeAttribute("tabindex");
    }
  };
  narrow.addEventListener("change", menu);

  addEventListener("DOMContentLoaded", () => {
    document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
    const opens = document.querySelector(".md-header__button[for=__drawer]");
    opens?.setAttribute("role", "button");
    opens?.setAttribute("aria-label", "Menu");
    menu();
  });
})();
