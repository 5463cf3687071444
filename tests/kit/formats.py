"""Write the same three orders in each format, as recipes send them.

python -m tests.kit.formats     writes docs/learn/wire_formats.txt

The recipes run as they are; only what their producers tell is replaced by the orders.
"""

import base64
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from cookbook.background import serving
from cookbook.catalog import ROOT
from recipes import chunk_framing, file_download, plain_text, sse_basic
from tests.kit import docs
from tests.kit.asgi import drive
from tests.kit.layers import Wire, sections
from tests.kit.servers import WAIT

RECORD = ROOT / "docs/learn/wire_formats.txt"
SIZE = 29  # bytes of a chunk: it ends in the middle of a letter
ITEMS = chunk_framing.ITEMS[:3]
TEXT = [f"{n}: {2 * n} of {item}\n" for n, item in enumerate(ITEMS, start=1)]
MARK = "four-words-nobody-writes"  # in place of a random one
# Rules of event streams that surprise, each with a case of sse_cases.json.
RULES = {
    "One space after the colon is removed, and no more.": "data-two-spaces",
    "No space is needed.": "data-url",
    "CR, LF and CR LF each end a line.": "wpt-frs-line-endings",
    "Two `data` are two lines of one event.": "spec-ex-stock",
    "`data` alone is an empty text, and is sent on.": "data-no-colon",
    "An event without `data` never arrives.": "event-without-data-not-fired",
    "What is not ended by an empty line is lost.": "eof-after-good-event",
    "An `id` holds until the next one.": "id-only-block-carries",
    "An `id` with the character NUL is ignored.": "wpt-format-field-id-null-3",
    "`retry` takes digits, and nothing else.": "retry-letters",
    "Names of fields are lower case.": "retry-uppercase-field",
    "A BOM is removed at the start, and nowhere else.": "wpt-format-bom",
    "Wrong UTF-8 becomes U+FFFD, and no error.": "utf8-latin1-bytes",
    "Other line ends of Unicode end no line.": "data-u2028",
}


def shown(raw: bytes) -> str:
    """Show bytes as Python writes them, with a new line after each line feed."""
    lines = raw.split(b"\n")
    texts = [repr(line + b"\n")[2:-1] for line in lines[:-1]]
    if lines[-1]:
        texts.append(repr(lines[-1])[2:-1])
    return "".join(f"{text}\n" for text in texts)


def text() -> bytes:
    """Let plain_text send the orders, a line each."""

    async def orders(_: plain_text.Order) -> AsyncIterator[str]:
        for line in TEXT:
            yield line

    with mock.patch.object(plain_text, "packing_slip_async", orders):
        return drive(plain_text.app, "/async/1").body


def ndjson() -> bytes:
    """Let chunk_framing send its first three orders."""
    with mock.patch.object(chunk_framing, "ITEMS", ITEMS):
        return drive(chunk_framing.app, "/orders.ndjson").body


def events() -> bytes:
    """Let sse_basic send the orders, by the layer that is written by hand."""
    lines = ndjson().decode().splitlines()

    async def orders() -> AsyncIterator[sse_basic.Event]:
        for number, line in enumerate(lines, start=1):
            yield sse_basic.Event(line, "order", str(number))

    with mock.patch.object(sse_basic, "order_events", orders):
        return drive(sse_basic.app, "/by-hand").body


def multipart() -> tuple[str, bytes]:
    """Let file_download send three ranges of a file; give the type, and the body."""
    ranges = []
    start = 0
    for line in TEXT:
        end = start + len(line.encode())
        ranges.append(f"{start}-{end - 1}")
        start = end
    mark = SimpleNamespace(token_hex=lambda _: MARK)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"FILES_DIR": folder}),
        mock.patch.object(file_download, "secrets", mark),
    ):
        (Path(folder) / "orders.txt").write_bytes("".join(TEXT).encode())
        fields = {"Range": f"bytes={','.join(ranges)}"}
        run = drive(file_download.app, "/files/orders.txt", headers=fields)
    return run.headers["content-type"], run.body


def chunked() -> bytes:
    """Let uvicorn send the lines in chunks that end anywhere; give all bytes."""
    with (
        mock.patch.object(chunk_framing, "ITEMS", ITEMS),
        serving(chunk_framing.app) as url,
        socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), WAIT) as wire,
    ):
        target = f"/orders.ndjson?size={SIZE}"
        wire.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        answer = Wire(wire)
        answer.head()
        while answer.chunk():
            pass
        return answer.raw


def cases() -> dict[str, dict[str, Any]]:
    """Read the cases of the kit, by their names."""
    found = json.loads((ROOT / "tests/kit/sse_cases.json").read_text("utf-8"))
    return {case["name"]: case for case in found}


def sent(case: dict[str, Any]) -> bytes:
    """Give the bytes of a case."""
    if case["encoding"] == "base64":
        return base64.b64decode(case["stream"])
    stream: str = case["stream"]
    return stream.encode(case["encoding"])


def rules() -> str:
    """Write a table: the rule, a stream, and what a browser makes of it."""
    rows = []
    known = cases()
    for rule, name in RULES.items():
        case = known[name]
        got = []
        for event in case["expected"]:
            what = json.dumps(event["data"])
            if event["id"]:
                what += f" with id {event['id']}"
            got.append(f"`{what}`")
        # A page shows two spaces as one.
        stream = repr(sent(case))[2:-1].replace("  ", r"\x20\x20")
        if name.startswith("retry") and case["retry"] is None:
            got.append("the time stays")
        rows.append([rule, f"`{stream}`", ", ".join(got) or "nothing"])
    return docs.table(["rule", "bytes", "what comes out"], rows)


def record() -> str:
    """Write each format, a section each."""
    kind, body = multipart()
    head, _, framed = chunked().partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    return sections(
        {
            "text": shown(text()),
            "ndjson": shown(ndjson()),
            "events": shown(events()),
            "multipart-type": f"content-type: {kind}\n",
            "multipart": shown(body),
            "chunked": shown(framed),
            "rules": rules(),
        }
    )


def main(path: Path = RECORD) -> None:
    """Write the record."""
    path.write_text(record(), "utf-8")


if __name__ == "__main__":
    main()
