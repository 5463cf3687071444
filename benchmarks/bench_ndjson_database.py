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
ROW_BY_ROW = "SQLite, session.stream and json.dumps"
PG_OURS = "PostgreSQL, the recipe: the database writes"
PG_ROW_BY_ROW = "PostgreSQL, session.stream and json.dumps"
PSQL = "No HTTP: psql, COPY (SELECT row_to_json …)"


def version(name: str, database: str, app: str, path: str) -> Version:
    """Give a version that serves one of the applications on one of the databases."""
    command = (sys.executable, "-m", MODULE, database, app)
    shown = f"python -m {MODULE} {database} {app}"
    return Version(name, shown, command, path, b"\n")


def versions() -> list[Version]:
    """List the versions that this machine can run."""
    found = [
        version(ROW_BY_ROW, "sqlite", "by_row", "/orders?limit={n}"),
        version("SQLite, the recipe: models", "sqlite", "recipe", "/models?limit={n}"),
        version("SQLite, the recipe: orjson", "sqlite", "recipe", "/rows?limit={n}"),
        version(OURS, "sqlite", "recipe", "/database?limit={n}"),
    ]
    if not programs():
        return found
    path = "/database?limit={n}"
    psql = (sys.executable, "-m", MODULE, "postgresql", "psql")
    return [
        *found,
        version(PG_ROW_BY_ROW, "postgresql", "by_row", "/orders?limit={n}"),
        version(
            "PostgreSQL, the recipe: orjson", "postgresql", "recipe", "/rows?limit={n}"
        ),
        version(PG_OURS, "postgresql", "recipe", path),
        Version(PSQL, f"python -m {MODULE} postgresql psql", psql, None),
    ]


def read(body: bytes) -> list[Any]:
    """Take a body apart into orders; the last line only says that it is complete."""
    rows = [json.loads(line) for line in body.splitlines()]
    if rows and "done" in rows[-1]:
        del rows[-1]
    return [Order.model_validate(row) for row in rows]


def targets(report: Report) -> list[Target]:
    """Say what the recipe promises."""
    sqlite = report[ROW_BY_ROW].ratio
    found = [Target("times as fast as row by row on SQLite", 10, sqlite, sqlite >= 10)]
    if programs():
        ours = report[PG_OURS].seconds
        slow = report[PG_ROW_BY_ROW].seconds / ours
        psql = report[PSQL].seconds / ours
        found += [
            Target("times as fast as row by row on PostgreSQL", 10, slow, slow >= 10),
            Target("of the speed of psql's own COPY", 0.6, psql, psql >= 0.6),
        ]
    if report.memory:
        growth = report.memory.growth / 1e6
        promise = f"MB more memory for {report.memory.large:,} rows, at most"
        found.append(Target(promise, 20, growth, growth < 20))
    return found


BENCH = Bench(
    slug="ndjson_database",
    unit="rows",
    versions=versions(),
    ours=OURS,
    read=read,
    expected=lambda n: [sample(number) for number in range(1, n + 1)],
    extra=1,  # the last line; the others end with an empty one
    memory=(10_000, 1_000_000),
    quick_memory=(1_000, 10_000),
    targets=targets,
)
