"""See what four clients make of a stream that fails.

python -m tests.kit.failures     writes docs/learn/mid_stream_errors.txt, two tables
"""

import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx2
from playwright.sync_api import Browser, Page

from cookbook.catalog import ROOT
from tests.kit import docs
from tests.kit.browser import chromium, new_page
from tests.kit.servers import WAIT, uvicorn

APP = "tests.kit.uncaught:app"
TABLE = ROOT / "docs/learn/mid_stream_errors.txt"
ITEM = re.compile(r'^(?:data: )?\{"type":"(order|failed|done)"|^\d+ (?=\w)', re.M)
CLIENTS = ["curl", "httpx2", "`fetch`", "`EventSource`"]
# What is asked for, by the words of the tables.
CAUGHT = {
    "plain text": "/recipe/text",
    "NDJSON": "/recipe/ndjson",
    "`fastapi.sse`": "/recipe/native",
    "sse-starlette": "/recipe/sse-starlette",
    "events by hand": "/recipe/by-hand",
    "before the first order": "/recipe/native?fail_at=1",
}
UNCAUGHT = {
    "NDJSON": "/ndjson",
    "`fastapi.sse`": "/native",
    "sse-starlette": "/sse-starlette",
    "events by hand": "/by-hand",
    "`HTTPException(404)` in `fastapi.sse`": "/refused",
}
FETCH = """async (path) => {
  let text = "";
  let status = 0;
  try {
    const response = await fetch(path);
    status = response.status;
    const decoder = new TextDecoder();
    for await (const chunk of response.body) {
      text += decoder.decode(chunk, { stream: true });
    }
    return { status, text, end: "ends" };
  } catch (error) {
    return { status, text, end: `\\`${error}\\`` };
  }
}"""
# All of them at once, since a browser waits three seconds before it connects again.
EVENTS = """(paths) => Promise.all(paths.map((path) => new Promise((resolve) => {
  const seen = [];
  let opened = 0;
  const source = new EventSource(path);
  const end = (text) => {
    source.close();
    resolve({ seen, end: text });
  };
  source.onopen = () => {
    opened += 1;
    if (opened === 2) end("asks again, gets 200");
  };
  for (const name of ["order", "failed", "done"]) {
    source.addEventListener(name, () => seen.push(name));
  }
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return;
    end(opened ? "asks again, gets 204, closes" : "closes");
  };
})))"""


def count(names: list[str], end: str) -> str:
    """Say which items came, and how it ended: `3 orders, failed; ends`."""
    orders = names.count("order")
    words = [f"{orders} orders"] if orders else []
    words += [f"`{name}`" for name in names if name != "order"]
    return f"{', '.join(words) or 'nothing'}; {end}"


def told(status: int, text: str, end: str) -> str:
    """Say what a client that sees the status and the text makes of them."""
    if status != 200:
        return f"status {status}; {end}"
    return count([name or "order" for name in ITEM.findall(text)], end)


def by_curl(url: str) -> str:
    """Ask with curl, and give its exit code."""
    command = ["curl", "-sSN", "--max-time", f"{WAIT}", "-w", "\n%{http_code}", url]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", check=False
    )
    text, _, status = done.stdout.rpartition("\n")
    return told(int(status), text, f"exit code {done.returncode}")


def by_httpx2(url: str) -> str:
    """Ask with httpx2, and name what it raises."""
    body = b""
    end = "ends"
    with httpx2.stream("GET", url, timeout=WAIT) as response:
        try:
            for piece in response.iter_bytes():
                body += piece
        except httpx2.HTTPError as error:
            end = f"`{type(error).__name__}`"
    return told(response.status_code, body.decode(), end)


def by_fetch(page: Page, path: str) -> str:
    """Ask with `fetch`, and give what its promise is rejected with.

    A stream of the browser that fails throws away what nobody has read yet: if it fails
    at once, how much comes is a matter of luck.
    """
    seen = page.evaluate(FETCH, path)
    if path in UNCAUGHT.values():
        return f"nothing for sure; {seen['end']}"
    return told(seen["status"], seen["text"], seen["end"])


def rows(page: Page, url: str, asked: dict[str, str]) -> list[list[str]]:
    """Ask for every path with every client."""
    paths = list(asked.values())
    urls = [url + path for path in paths]
    outside: list[Callable[[str], str]] = [by_curl, by_httpx2]
    with ThreadPoolExecutor() as pool:
        columns = [list(pool.map(client, urls)) for client in outside]
    columns.append(list(map(partial(by_fetch, page), paths)))
    seen = page.evaluate(EVENTS, paths)
    columns.append([count(one["seen"], one["end"]) for one in seen])
    return [[*row] for row in zip(asked, *columns, strict=True)]


def tables(browser: Browser) -> str:
    """Run every client against every stream that fails."""
    text = ""
    with uvicorn(APP) as server, new_page(browser, []) as page:
        page.goto(f"{server.url}/openapi.json")
        for name, asked in {"caught": CAUGHT, "uncaught": UNCAUGHT}.items():
            text += f"--8<-- [start:{name}]\n"
            text += docs.table(["", *CLIENTS], rows(page, server.url, asked))
            text += f"--8<-- [end:{name}]\n"
    return text


if __name__ == "__main__":
    with chromium() as started:
        TABLE.write_text(tables(started), "utf-8")
