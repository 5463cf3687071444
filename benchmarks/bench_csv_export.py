"""A table as CSV: a row a chunk against 64 KiB a chunk, and the limit of the work.

FastAPI's own JSON Lines (`yield` in the route) is not here: it is another format, with
other work in each row, and a ratio between the two would say nothing about either.
"""

import csv
import io
from datetime import datetime
from decimal import Decimal
from typing import Any

from benchmarks.harness import Bench, Report, Target, app, loop, node
from recipes.csv_export import FORMULA, Order, orders

OURS = "The recipe: 64 KiB a chunk"
SYNC = "Plain generator, a row a yield"
ASYNC = "Async generator, a row a yield"
LIMIT = "No HTTP: csv.writer alone"
BY_SYNC = "At least 25 times as fast as the plain generator"
BY_ASYNC = "At least 5 times as fast as the async generator"
BY_LIMIT = "At least 80 % of the speed of `csv.writer` alone"
PATH = "/orders.csv?rows={n}"
VERSIONS = "benchmarks.versions.csv_export"


def read(body: bytes) -> list[Any]:
    """Take a body apart into orders; the formula mark is ours, not the table's."""

    def plain(cell: str) -> str:
        return cell[1:] if cell[:1] == "'" and cell[1:2] in FORMULA else cell

    header, *rows = csv.reader(io.StringIO(body.decode(), newline=""))
    if header != list(Order._fields):
        return [header]
    return [
        Order(
            int(order_id),
            datetime.fromisoformat(placed_at),
            plain(customer),
            plain(item),
            int(quantity),
            Decimal(price),
        )
        for order_id, placed_at, customer, item, quantity, price in rows
    ]


def targets(report: Report) -> list[Target]:
    """Say what the recipe promises."""
    found = [
        Target(BY_SYNC, 25, report.ratio(SYNC), "times"),
        Target(BY_ASYNC, 5, report.ratio(ASYNC), "times"),
        Target(BY_LIMIT, 80, report.ratio(LIMIT) * 100, "%"),
    ]
    if report.memory:
        promise = f"At most 10 MB more memory for {report.memory.large:,} rows"
        growth = report.memory.growth / 1e6
        found.append(Target(promise, 10, growth, "MB", at_most=True))
    return found


BENCH = Bench(
    slug="csv_export",
    unit="rows",
    versions=[
        app(
            SYNC,
            f"{VERSIONS}:by_sync_generator",
            PATH,
            b"\r\n",
            "A `def` that yields each row as a chunk of its own. Starlette fetches "
            "each row from a thread.",
        ),
        app(
            ASYNC,
            f"{VERSIONS}:by_async_generator",
            PATH,
            b"\r\n",
            "An `async def` that yields each row as a chunk of its own. No thread "
            "takes part.",
        ),
        app(
            OURS,
            "recipes.csv_export:app",
            PATH,
            b"\r\n",
            "The recipe as it is on this page. It gathers about 64 KiB of rows for "
            "each chunk.",
        ),
        app(
            "Raw ASGI, the same chunks",
            f"{VERSIONS}:raw",
            PATH,
            b"\r\n",
            "The recipe's chunks without FastAPI: a function that hands each chunk to "
            "uvicorn itself. The difference is what FastAPI and Starlette cost.",
        ),
        node(
            "Node http",
            "benchmarks/versions/csv_export.mjs",
            PATH,
            b"\r\n",
            "The same table from JavaScript, with the `http` module of Node, also "
            "about 64 KiB a chunk.",
        ),
        loop(
            LIMIT,
            "benchmarks.versions.csv_loop",
            "Python's `csv.writer` writes the same rows, and the text is thrown away. "
            "There is no server and no client. A version that formats its rows with "
            "`csv.writer` can hardly be faster.",
        ),
    ],
    ours=OURS,
    read=read,
    expected=lambda n: list(orders(n)),
    extra=1,  # the header
    memory=(10_000, 5_000_000),
    quick_memory=(1_000, 10_000),
    targets=targets,
    why={
        BY_ASYNC: "formatting the rows is most of the work. Even `csv.writer` alone, "
        "without a server, is less than five times as fast as the async generator."
    },
)
