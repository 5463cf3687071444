r"""Record what a recipe puts on the wire.

A transcript holds, for each `Try it:` line of a recipe, the response's head, then every
chunk with the time since the request and its size, then counts. Lines of a chunk are
indented by two spaces; control characters and backslashes are escaped as in Python; a
lone backslash at the end says that the chunk ends with no line feed. Long chunks are
shortened, and then a digest of the whole body follows the counts. An endless stream, as
`--max-time` marks it, is recorded for its first chunks, and ends with `stopped`. An
answer that breaks off is an error here; cookbook/pairs.py records those as `cut`.
`python -m cookbook.transcript` records all anew, with slugs only those.
"""

import hashlib
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from email.message import Message
from email.parser import BytesHeaderParser
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO
from unittest.mock import patch
from urllib.parse import urlsplit

from cookbook import upstream
from cookbook.background import serving
from cookbook.catalog import ROOT, Recipe, recipes
from cookbook.curl import Request
from cookbook.llm import provider, scripted

HEAD, TAIL = 5, 1  # lines that are kept of a chunk too long to show
FIRST = 5  # chunks that are recorded of an endless stream
SLOW = {"llm_durable": 10.0}  # Its tokens are joined if they come too soon.
WAIT = 15.0  # seconds without a byte before a recording fails
VOLATILE = {"date", "x-request-id"}  # header fields that are never the same twice
TIME = re.compile(r"^\d+\.\d{3} s", re.MULTILINE)
# What a feed that can be resumed says differently each time it is started.
FEED = re.compile(r"(?<=^  id: )[0-9a-f]{16}(?=-\d+$)", re.MULTILINE)
WAITS = re.compile(r"(?<=bytes\n  retry: )\d{4}$", re.MULTILINE)
# What a provider sends without a pause is passed on in as many chunks as it happens.
RELAYED = "data: [DONE]"
CHUNK = re.compile(r"^-, [\d,]+ bytes\n|(?<=^-, end: )[\d,]+ chunks, ", re.MULTILINE)
REFERENCE = re.compile(r'(?<="reference":")[0-9a-f]{16}')  # of a failure in the log
KEPT = re.compile(r'(?<="id":")[0-9a-f]{24}(?=")')  # of an answer that is stored
SIGNED = re.compile(r"(?<==ada\.)[0-9a-f]{64}")  # with a key of the process
ASKED = re.compile(r'(?<="asked_at":")[^"]+')
TOKEN = re.compile(r"eyJ[\w-]{40,}\.[\w-]+\.[\w-]+")  # JSON, signed at a time
VARYING = (FEED, WAITS, REFERENCE, KEPT, SIGNED, ASKED, TOKEN)  # in what is sent


def file_of(recipe: Recipe) -> Path:
    """Say where a recipe's transcript is kept."""
    return ROOT / "docs" / "transcripts" / f"{recipe.slug}.txt"


def without_times(transcript: str) -> str:
    """Give all of a transcript that has to be the same in every recording."""
    for varying in (TIME, *VARYING):
        transcript = varying.sub("-", transcript)
    sections = transcript.split("--8<-- [start:")
    for number, text in enumerate(sections):
        if RELAYED in text:
            sections[number] = CHUNK.sub("", text)
    return "--8<-- [start:".join(sections)


def section(path: str) -> str:
    """Name the part of a transcript that holds the request for `path`."""
    return re.sub(r"\W+", "-", path.split("?")[0]).strip("-_").replace("_", "-")


def record(recipe: Recipe) -> str:
    """Run a recipe and write down every request that its docstring names."""
    parts = []
    with says_the_same(recipe), serving(recipe.load()) as address:
        # So that no recording times the start-up.
        jar: dict[str, str] = {}
        list(exchange(address, Request("/openapi.json"), jar))
        for line, request in zip(recipe.tries, recipe.requests, strict=True):
            body = "\n".join(exchange(address, request, jar))
            name = section(request.path)
            parts.append(
                f"--8<-- [start:{name}]\n$ {line}\n{body}\n--8<-- [end:{name}]\n"
            )
    return "\n".join(parts)


@contextmanager
def says_the_same(recipe: Recipe) -> Iterator[None]:
    """Give a recipe whom it talks to, and let them always say the same."""
    with ExitStack() as stack:
        # What a recipe has kept from an earlier recording would be told again.
        folder = stack.enter_context(TemporaryDirectory())
        stack.enter_context(patch.object(tempfile, "tempdir", folder))
        if "upstream" in recipe.needs:
            stack.enter_context(upstream.started())
        if "model" in recipe.needs:
            pace = SLOW.get(recipe.slug, 1.0)
            script = stack.enter_context(scripted.running(pace=pace))
            known = provider.Provider("scripted", "", url=script.url, env=script.env)
            stack.enter_context(provider.visible(known))
        yield


def exchange(
    address: str, request: Request, jar: dict[str, str] | None = None
) -> Iterator[str]:
    """Send one request and write down the answer, a line at a time.

    `jar` is given the cookies that the answer sets; a request that names a jar has its
    cookies sent. Raises EOFError if the answer breaks off.
    """
    url = urlsplit(address)
    jar = {} if jar is None else jar
    fields = {"host": url.netloc, **request.headers}
    if request.jar:
        fields["cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
    if request.body:
        fields["content-length"] = str(len(request.body))
    heading = f"{request.method} {request.path} HTTP/1.1"
    asked = [heading, *(f"{name}: {value}" for name, value in fields.items())]
    head_bytes = "\r\n".join([*asked, "", ""]).encode("ascii")
    with socket.create_connection((url.hostname, url.port), WAIT) as connection:
        connection.sendall(head_bytes + request.body)
        started = time.perf_counter()
        with connection.makefile("rb") as stream:
            yield read_line(stream).decode("ascii").rstrip()
            head = read_head(stream)
            for cookie in head.get_all("set-cookie", []):
                name, _, value = cookie.split(";")[0].partition("=")
                jar[name] = value
            kept = [(k, v) for k, v in head.items() if k.lower() not in VOLATILE]
            yield from (f"{name}: {value}" for name, value in kept)
            yield ""
            count = size = 0
            shortened = False
            digest = hashlib.sha256()
            end = "end"
            for chunk in read_chunks(stream, head):
                yield f"{time.perf_counter() - started:.3f} s, {len(chunk):,} bytes"
                shown = show(chunk, head.get_content_charset("utf-8"))
                yield from shown
                shortened |= any(line.startswith("…") for line in shown)
                count, size = count + 1, size + len(chunk)
                digest.update(chunk)
                if request.seconds and count == FIRST:
                    end = "stopped"
                    break
            seconds = time.perf_counter() - started
            yield f"{seconds:.3f} s, {end}: {count} chunks, {size:,} bytes"
            if shortened:
                yield f"sha256 {digest.hexdigest()}"


def read_line(stream: BinaryIO) -> bytes:
    """Read one line. Raises EOFError if the answer breaks off."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError("the answer broke off")
    return line


def read_head(stream: BinaryIO) -> Message:
    """Read the header fields, up to the empty line."""
    lines = list(iter(partial(read_line, stream), b"\r\n"))
    return BytesHeaderParser().parsebytes(b"".join(lines))


def read_chunks(stream: BinaryIO, head: Message) -> Iterator[bytes]:
    """Read a body chunk by chunk (RFC 9112, 7.1), or whole if it has a length."""
    if "content-length" in head:
        size = int(head["content-length"])
        body = stream.read(size)
        yield body
        if len(body) < size:
            raise EOFError("the answer broke off")
    elif head.get("transfer-encoding") == "chunked":
        while size := int(read_line(stream), 16):
            yield stream.read(size)
            read_line(stream)


def show(chunk: bytes, charset: str) -> list[str]:
    """Write a chunk as indented lines, the long ones shortened in the middle."""
    *lines, rest = chunk.decode(charset, "surrogateescape").split("\n")
    shown = ["  " + escape(line) for line in lines]
    if rest:
        shown.append(f"  {escape(rest)}\\")
    cut = lines[HEAD:-TAIL]
    if len(cut) > 2:
        left_out = sum(len(line.encode(charset, "surrogateescape")) + 1 for line in cut)
        note = f"… {len(cut):,} lines, {left_out:,} bytes"
        shown[HEAD : HEAD + len(cut)] = [note]
    return shown


def escape(line: str) -> str:
    r"""Make what cannot be seen visible: `\r`, `\t`, a backslash and their like."""
    return "".join(
        c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode()
        for c in line
    )


def main() -> None:
    """Record every recipe, or those that the command line names."""
    wanted = sys.argv[1:]
    for recipe in recipes():
        if wanted and recipe.slug not in wanted:
            continue
        print(f"recording {recipe.slug}", flush=True)  # noqa: T201 - this is a command
        file_of(recipe).write_text(record(recipe), "utf-8")


if __name__ == "__main__":
    main()
