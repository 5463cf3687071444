"""Server-Sent Events: what each layer costs for an event, from the same producer."""

import json
from typing import Any

from benchmarks.harness import Bench, app, node

OURS = "The recipe, by hand: frame"
MODULE = "benchmarks.versions.sse_basic"
VERSIONS = f"{MODULE}:app"
END = b"\n\n"


def read(body: bytes) -> list[Any]:
    """Take a body apart into the fields of its events; the order of fields is free."""
    *blocks, rest = body.decode().replace("\r\n", "\n").split("\n\n")
    events: list[Any] = []
    for block in blocks:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        events.append({**fields, "data": json.loads(fields["data"])})
    return [*events, rest] if rest else events


def expected(n: int) -> list[Any]:
    """Say what the events are, without the code that is measured."""
    return [
        {"event": "order", "id": str(i), "data": {"id": i, "state": "paid"}}
        for i in range(1, n + 1)
    ]


BENCH = Bench(
    slug="sse_basic",
    unit="events",
    versions=[
        app(
            "Native, data=",
            VERSIONS,
            "/native?events={n}",
            END,
            "FastAPI's own `fastapi.sse`. You give it an object, and FastAPI makes the "
            "JSON.",
        ),
        app(
            "Native, raw_data=",
            VERSIONS,
            "/native-raw?events={n}",
            END,
            "`fastapi.sse` again, but you give it the finished text.",
        ),
        # sse-starlette ends its lines with CR LF, which the standard allows as well.
        app(
            "sse-starlette",
            VERSIONS,
            "/sse-starlette?events={n}",
            b"\r\n\r\n",
            "The library of this name, which makes the events from the same text.",
        ),
        app(
            "StreamingResponse of f-strings",
            VERSIONS,
            "/f-string?events={n}",
            END,
            "What many tutorials show: an f-string for each event, in a plain "
            "`StreamingResponse`. It checks nothing, and a line break in the data "
            "breaks the event.",
        ),
        app(
            OURS,
            VERSIONS,
            "/by-hand?events={n}",
            END,
            "The recipe's last layer: its function `frame` writes the event, in a "
            "plain `StreamingResponse`. The others are compared with it because it "
            "does what the format asks, and no more. It is not the layer to start "
            "with.",
        ),
        app(
            "By hand, waiting events joined",
            VERSIONS,
            "/joined?events={n}",
            END,
            "`frame` again, but all events that wait for the client are sent as one "
            "chunk. An event that is alone is sent at once.",
        ),
        app(
            "Raw ASGI, frame",
            f"{MODULE}:raw",
            "/?events={n}",
            END,
            "`frame` without FastAPI: a function that hands each event to uvicorn "
            "itself. The difference is what FastAPI and Starlette cost.",
        ),
        node(
            "Node http",
            "benchmarks/versions/sse_basic.mjs",
            "/?events={n}",
            END,
            "The same events from JavaScript, with the `http` module of Node.",
        ),
    ],
    ours=OURS,
    read=read,
    expected=expected,
    warm_up=500,
    quick_size=500,
)
