"""Rows of a database as NDJSON: who reads them, and who writes the JSON.

All versions read the same orders. Those of PostgreSQL share a server that one of them
starts; without PostgreSQL on the machine they are left out.
"""

import json
import sys
from typing import Any

from benchmarks.harness import Bench, Report, Target, Version
from recipes.ndjson_database import Order, sample
from tests.kit.postgres import programs

MODULE = "benchmarks.versions.ndjson_database"
OURS = "SQLite, the recipe: the database writes"
ROW_BY_ROW = "SQLite, row by row"
PG_OURS = "PostgreSQL, the recipe: the database writes"
PG_ROW_BY_ROW = "PostgreSQL, row by row"
PSQL = "No HTTP: psql, COPY (SELECT row_to_json …)"
BY_SQLITE = "At least 10 times as fast as row by row on SQLite"
BY_POSTGRESQL = "At least 10 times as fast as row by row on PostgreSQL"
BY_PSQL = "At least 60 % of the speed of psql's own `COPY`"
DRIVERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}


def version(
    name: str, database: str, what: str, path: str | None, about: str
) -> Version:
    """Give a version that serves one of the applications on one of the databases."""
    # Where there is no PostgreSQL, its versions are left out.
    here = database == "sqlite" or programs()
    command = (sys.executable if here else "postgres", "-m", MODULE, database, what)
    shown = f"python -m {MODULE} {database} {what}"
    if path is None:
        return Version(name, shown, command, None, about=about)
    runs = ("uvicorn", "recipes.ndjson_database", DRIVERS[database])
    return Version(name, shown, command, path, b"\n", runs, about)


VERSIONS = [
    version(
        ROW_BY_ROW,
        "sqlite",
        "by_row",
        "/orders?limit={n}",
        "What many examples show: SQLAlchemy's `session.stream`, and `json.dumps` for "
        "each row, which is a chunk of its own.",
    ),
    version(
        "SQLite, the recipe: models",
        "sqlite",
        "recipe",
        "/models?limit={n}",
        "The recipe's first endpoint: each row becomes a Pydantic model, which checks "
        "it, and FastAPI writes the line.",
    ),
    version(
        "SQLite, the recipe: orjson",
        "sqlite",
        "recipe",
        "/rows?limit={n}",
        "The recipe's second endpoint: it checks nothing, and `orjson` writes a page "
        "of rows as one chunk.",
    ),
    version(
        OURS,
        "sqlite",
        "recipe",
        "/database?limit={n}",
        "The recipe's last endpoint: SQLite writes the JSON itself, and Python passes "
        "a page of it on as one chunk.",
    ),
    version(
        PG_ROW_BY_ROW,
        "postgresql",
        "by_row",
        "/orders?limit={n}",
        "The same code as for SQLite, but the rows come from PostgreSQL.",
    ),
    version(
        "PostgreSQL, the recipe: orjson",
        "postgresql",
        "recipe",
        "/rows?limit={n}",
        "The recipe's second endpoint, but the rows come from PostgreSQL.",
    ),
    version(
        PG_OURS,
        "postgresql",
        "recipe",
        "/database?limit={n}",
        "The recipe's last endpoint, but PostgreSQL writes the JSON.",
    ),
    version(
        PSQL,
        "postgresql",
        "psql",
        None,
        "PostgreSQL's own command line program writes the same rows as JSON into a "
        "file. There is no web server and no client.",
    ),
]


def read(body: bytes) -> list[Any]:
    """Take a body apart into orders; the last line only says that it is complete."""
    rows = [json.loads(line) for line in body.splitlines()]
    if rows and "done" in rows[-1]:
        del rows[-1]
    return [Order.model_validate(row) for row in rows]


def targets(report: Report) -> list[Target]:
    """Say what the recipe promises."""
    found = [Target(BY_SQLITE, 10, report.ratio(ROW_BY_ROW), "times")]
    if PSQL not in report.left_out:
        ours = report[PG_OURS].seconds
        slow, psql = (report[name].seconds / ours for name in (PG_ROW_BY_ROW, PSQL))
        found += [
            Target(BY_POSTGRESQL, 10, slow, "times"),
            Target(BY_PSQL, 60, psql * 100, "%"),
        ]
    if report.memory:
        promise = f"At most 20 MB more memory for {report.memory.large:,} rows"
        growth = report.memory.growth / 1e6
        found.append(Target(promise, 20, growth, "MB", at_most=True))
    return found


BENCH = Bench(
    slug="ndjson_database",
    unit="rows",
    versions=VERSIONS,
    ours=OURS,
    read=read,
    expected=lambda n: [sample(number) for number in range(1, n + 1)],
    extra=1,  # the last line; the others end with an empty one
    memory=(10_000, 1_000_000),
    quick_memory=(1_000, 10_000),
    targets=targets,
)
