"""Write what a chunk and an event cost, from the figures of the benchmarks.

python -m tests.kit.costs     writes docs/learn/costs.txt

It measures nothing: the figures are those of docs/benchmarks. `make bench` renews them.
"""

import json
import statistics
from pathlib import Path

from cookbook.catalog import ROOT
from tests.kit import docs
from tests.kit.layers import sections

TIMES = "\N{MULTIPLICATION SIGN}"
TABLES = ROOT / "docs/learn/costs.txt"
# Names of the benchmarks, and what the page calls them; the first is the measure.
CHUNK = {
    "Async generator": "async generator",
    "The endpoint is the generator": "`async def` endpoint that yields",
    "Plain generator": "plain generator",
}
ROWS = {
    "The recipe: 64 KiB a chunk": "`async def` endpoint, 64 KiB of rows a `yield`",
    "Async generator, a row a yield": "async generator, a row a `yield`",
    "Plain generator, a row a yield": "plain generator, a row a `yield`",
}

FEEDS = "docs/learn/feeds.json"  # written by `python -m benchmarks.feeds`
EVENT = {
    "plain": "plain chunks",
    "ndjson-by-hand": "NDJSON, by hand",
    "ndjson": "NDJSON, by FastAPI",
    "sse-by-hand": "SSE, by hand",
    "sse": "SSE, by FastAPI",
    "websocket": "WebSocket, by FastAPI",
}


def microseconds(slug: str, root: Path = ROOT) -> dict[str, float]:
    """Say how long each version of a benchmark takes for a unit, in microseconds."""
    path = root / f"docs/benchmarks/{slug}.json"
    return {
        result["name"]: 1e6
        * statistics.median(r["seconds"] / r["units"] for r in result["rounds"])
        for result in json.loads(path.read_text("utf-8"))["results"]
    }


def short(value: float) -> str:
    """Write two digits of a number: 3.6, 84, 120."""
    return f"{value:.2g}" if value < 100 else f"{round(value, -1):,.0f}"


def feeds(root: Path = ROOT) -> dict[str, float]:
    """Say what an event costs in each format, in microseconds of the processor."""
    found = json.loads((root / FEEDS).read_text("utf-8"))
    return {
        name: 1e6 * statistics.median(rounds) / found["events"]
        for name, rounds in found["seconds"].items()
    }


def events(root: Path = ROOT) -> str:
    """Compare the formats with plain chunks."""
    found = feeds(root)
    rows = [
        [
            name,
            f"{short(found[key])} µs",
            f"{short(found[key] / found['plain'])}{TIMES}",
        ]
        for key, name in EVENT.items()
    ]
    return docs.table(["an event as", "processor's time", "compared"], rows)


def table(slug: str, names: dict[str, str], what: str, root: Path = ROOT) -> str:
    """Compare some versions of a benchmark with the first of them."""
    found = microseconds(slug, root)
    measure = found[next(iter(names))]
    rows = [
        [name, f"{short(found[key])} µs", f"{short(found[key] / measure)}{TIMES}"]
        for key, name in names.items()
    ]
    return docs.table([what, "time", "compared"], rows)


def tables(root: Path = ROOT) -> str:
    """Write all tables, a section each."""
    return sections(
        {
            "chunk": table("plain_text", CHUNK, "a short line, from", root),
            "rows": table("csv_export", ROWS, "a row of CSV, from", root),
            "event": events(root),
        }
    )


if __name__ == "__main__":
    TABLES.write_text(tables(), "utf-8")
