"""Say of each recipe what happens with two workers, in one table.

python -m tests.kit.workers     writes docs/production/workers.txt
"""

from pathlib import Path

from cookbook import catalog
from cookbook.catalog import ROOT
from tests.kit import docs

TABLE = ROOT / "docs/production/workers.txt"
SAME, SHARE, OWN = "the same", "set this", "not shared"

# What the recipes' pages say, in one line each. Every recipe needs its line.
WORKERS = {
    "plain_text": (SAME, "Nothing is kept between two requests."),
    "csv_export": (SAME, "Nothing is kept between two requests."),
    "file_download": (SHARE, "`FILES_DIR`: without it each makes its own samples."),
    "file_upload": (SHARE, "`UPLOADS_DIR`: without it each has a folder of its own."),
    "ndjson_database": (SHARE, "`DATABASE_URL`, or each makes a file of its own."),
    "http_proxy": (
        OWN,
        "Each has its own limit of connections, so twice as many are open.",
    ),
    "chunk_framing": (SAME, "Nothing is kept between two requests."),
    "sse_basic": (SAME, "Nothing is kept between two requests."),
    "sse_keepalive": (SAME, "A feed and its pings live where the request came in."),
    "sse_resumable": (
        SHARE,
        "`STREAM_STORE` (Redis), or who comes back gets a `reset`.",
    ),
    "sse_progress": (OWN, "Each has jobs of its own; the other one answers 404."),
    "sse_notifications": (OWN, "Two shops: a change stays with its worker."),
    "sse_database": (SHARE, "`DATABASE_URL`: one table, and a watcher in each."),
    "sse_broadcast": (SHARE, "`REDIS_URL`, or a listener hears its own worker alone."),
    "sse_disconnect": (OWN, "Each has a hundred places, so two hundred fit."),
    "mid_stream_errors": (SAME, "Nothing is shared. Collect the logs of both."),
    "llm_text": (SAME, "Each has its own connections to the provider."),
    "llm_openai": (SAME, "Who holds the connection stops the answer."),
    "llm_anthropic": (SAME, "Who holds the connection stops the answer."),
    "llm_collect": (SHARE, "`DATABASE_URL`: all write into the same table."),
    "llm_errors": (SAME, "Each counts its own failures."),
    "llm_cancel": (SHARE, "`REDIS_URL`, or a stop reaches the right worker by luck."),
    "llm_gateway": (OWN, "Each key has twice as much; `/usage` tells a half."),
    "llm_chat": (OWN, "Three streams for each client and worker."),
    "llm_durable": (
        SHARE,
        "Not by `--workers`: start two uvicorns with one `DATABASE_URL`, "
        "each with its own `DBOS__VMID`.",
    ),
    "cross_origin": (SHARE, "`COOKIE_KEY`: a cookie is good with one key alone."),
    "stream_limits": (
        SHARE,
        "`REDIS_URL` and `SESSION_KEY`, or each counts for itself.",
    ),
    "stream_middleware": (SAME, "Each logs its own streams; the id is in the line."),
    "graceful_shutdown": (SAME, "Each says farewell to its own streams."),
    "typed_client": (SAME, "Both have the same models; nothing is kept."),
}


def table(root: Path = ROOT) -> str:
    """Write a row for each recipe, in the order of the menu.

    Raises KeyError if a recipe has no line.
    """
    rows = []
    for _, pairs in catalog.by_theme(root):
        for recipe, page in pairs:
            what, why = WORKERS[recipe.slug]
            link = f"[{page.title}](../recipes/{recipe.slug}.md)"
            rows.append([link, what, why])
    return docs.table(["recipe", "with two workers", "why, and what"], rows)


if __name__ == "__main__":
    TABLE.write_text(table(), "utf-8")
