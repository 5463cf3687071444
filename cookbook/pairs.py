r"""Wrong and right, side by side: which pitfalls a page runs beside the right version.

A page asks for it with `<live-panel wrong="<slug>/<mistake>"></live-panel>`. The wrong
request is the last one that the pitfall's `Try it:` makes. The right one is the same
request, asked of the recipe, unless `right="<path>"` names another one that the
docstring of the pitfall or of the recipe holds. With `reconnect` both are asked again,
as an `EventSource` does.

`python -m cookbook.pairs` records what both answer, for a site without a server, to
docs/transcripts/pitfalls/<slug>/<mistake>.txt; with names only those. The recordings
are transcripts as in cookbook/transcript.py: first the wrong answer, then the right.
An answer that breaks off ends with `cut`, one that the client leaves with `stopped`.
"""

import importlib
import logging
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.types import ASGIApp

from cookbook import catalog
from cookbook.background import serving
from cookbook.catalog import ROOT, Pitfall, Recipe
from cookbook.curl import Request
from cookbook.transcript import VOLATILE, read_chunks, read_head, read_line, show

PANEL = re.compile(
    r'<live-panel wrong="(?P<wrong>[^"]*)"(?: right="(?P<right>[^"]*)")?'
    r"(?P<again> reconnect)?></live-panel>"
)
LEAVE = 5.0  # seconds after which a client leaves; docs/assets/pair.js has it, too
Asked = tuple[str, Request]  # a line of `Try it:`, and what it asks for


@dataclass(frozen=True)
class Pair:
    """A pitfall and the right version of the same thing."""

    pitfall: Pitfall
    recipe: Recipe
    wrong: Asked
    right: Asked
    own: bool  # whether the pitfall's own application has the right version

    @property
    def file(self) -> Path:
        """Where its recording is kept."""
        return ROOT / "docs/transcripts/pitfalls" / f"{self.pitfall.name}.txt"

    @property
    def leave(self) -> float:
        """The seconds after which a client leaves both."""
        limits = [asked.seconds for _, asked in (self.wrong, self.right)]
        return min([LEAVE, *filter(None, limits)])


def pair(name: str, right: str | None, root: Path = ROOT) -> Pair:
    """Look up what a page's panel names; LookupError if there is no such thing."""
    source = root / "recipes/pitfalls" / f"{name}.py"
    if source not in catalog.pitfall_sources(root):
        raise LookupError(f"there is no pitfall {name!r}")
    pitfall = catalog.read_pitfall(source)
    recipe = catalog.read(root / "recipes" / f"{pitfall.slug}.py")
    if pitfall.needs or not pitfall.requests:
        raise LookupError(f"{name} cannot be run in a panel")
    wrong = pitfall.requests[-1]
    if right is None:
        return Pair(pitfall, recipe, wrong, wrong, own=False)
    own = [asked for asked in pitfall.requests if asked[1].path == right]
    tried = zip(recipe.tries, recipe.requests, strict=True)
    found = own or [asked for asked in tried if asked[1].path == right]
    if not found:
        raise LookupError(f"neither {name} nor {recipe.slug} tries {right!r}")
    return Pair(pitfall, recipe, wrong, found[0], own=bool(own))


def pairs(root: Path = ROOT) -> list[Pair]:
    """List the pairs that the pages show, each once."""
    found: dict[str, Pair] = {}
    for page in sorted((root / "docs/pitfalls").glob("*.md")):
        for panel in PANEL.finditer(page.read_text("utf-8")):
            one = pair(panel["wrong"], panel["right"], root)
            found[one.pitfall.name] = one
    return list(found.values())


@contextmanager
def served(one: Pair) -> Iterator[tuple[str, str]]:
    """Serve both in this process; give the address of the wrong and of the right one.

    What fails in the wrong one is meant to fail, so no log speaks of it.
    """
    module = f"recipes.pitfalls.{one.pitfall.name.replace('/', '.')}"
    app: ASGIApp = importlib.import_module(module).app
    with ExitStack() as stack:
        logging.disable(logging.CRITICAL)
        stack.callback(logging.disable, logging.NOTSET)
        wrong = stack.enter_context(serving(app))
        if one.own:
            yield wrong, wrong
            return
        if "upstream" in one.recipe.needs:
            from cookbook import upstream

            stack.enter_context(upstream.started())
        yield wrong, stack.enter_context(serving(one.recipe.load()))


def record(one: Pair) -> str:
    """Ask both, and write down what they answer."""
    with served(one) as addresses:
        parts = []
        for address, (line, asked) in zip(
            addresses, (one.wrong, one.right), strict=True
        ):
            list(exchange(address, Request("/openapi.json"), LEAVE))  # Warms it up.
            body = "\n".join(exchange(address, asked, one.leave))
            parts.append(f"$ {line}\n{body}\n")
    return "\n".join(parts)


def exchange(address: str, asked: Request, leave: float) -> Iterator[str]:
    """Send one request and write down the answer, until its end or `leave` seconds."""
    url = urlsplit(address)
    fields = {"host": url.netloc, **asked.headers}
    if asked.body:
        fields["content-length"] = str(len(asked.body))
    lines = [f"{asked.method} {asked.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    head_bytes = "\r\n".join([*lines, "", ""]).encode("ascii")
    count = size = 0
    end = "end"
    with socket.create_connection((url.hostname, url.port), leave) as connection:
        connection.sendall(head_bytes + asked.body)
        started = time.perf_counter()

        def patience() -> None:
            left = started + leave - time.perf_counter()
            connection.settimeout(max(left, 0.001))

        with connection.makefile("rb") as stream:
            try:
                yield read_line(stream).decode("ascii").rstrip()
                head = read_head(stream)
                kept = [(k, v) for k, v in head.items() if k.lower() not in VOLATILE]
                yield from (f"{name}: {value}" for name, value in kept)
                yield ""
                patience()
                for chunk in read_chunks(stream, head):
                    if chunk:
                        elapsed = time.perf_counter() - started
                        yield f"{elapsed:.3f} s, {len(chunk):,} bytes"
                        yield from show(chunk, "utf-8")
                        count, size = count + 1, size + len(chunk)
                    patience()
            except TimeoutError:
                end = "stopped"
            except (EOFError, ValueError, ConnectionError):
                end = "cut"
    elapsed = time.perf_counter() - started
    yield f"{elapsed:.3f} s, {end}: {count} chunks, {size:,} bytes"


def main() -> None:
    """Record every pair that a page shows, or those that the command line names."""
    wanted = sys.argv[1:]
    for one in pairs():
        if wanted and one.pitfall.name not in wanted:
            continue
        one.file.parent.mkdir(parents=True, exist_ok=True)
        one.file.write_text(record(one), "utf-8")


if __name__ == "__main__":
    main()
