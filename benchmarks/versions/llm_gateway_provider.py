"""A provider that is never the bottleneck: tokens in OpenAI's format, made beforehand.

The model of a request is how many tokens it gets, at once; each is an HTTP chunk of its
own, as a provider sends them, but many of them go to the kernel together. With a model
like `20/500`, 500 tokens come with 20 milliseconds before each, and each holds when
that was, in nanoseconds of the clock that all processes of a machine share.
"""

import asyncio
import json
import re
import sys
import time

from benchmarks.versions.llm_provider import AFTER, BEFORE, chunk

TOGETHER = 500  # tokens that are written at once
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def framed(data: bytes) -> bytes:
    """Make an HTTP chunk (RFC 9112, 7.1)."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def token(text: bytes) -> bytes:
    """Make the HTTP chunk of one token."""
    return framed(BEFORE + text + AFTER)


FIRST = HEAD + framed(chunk({"role": "assistant", "content": ""}))
LAST = framed(chunk({}, "stop")) + framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection, until it is closed."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: *(\d+)", head.lower())
            body = await reader.readexactly(int(found[1]) if found else 0)
            if body:
                pause, _, tokens = json.loads(body)["model"].rpartition("/")
            else:  # A GET, of the client that measures.
                asked = re.search(rb"\?tokens=([\d/]+)", head)
                pause, _, tokens = (
                    (asked[1] if asked else b"0").decode().rpartition("/")
                )
            writer.write(FIRST)
            if pause:
                await paced(writer, int(pause) / 1000, int(tokens))
            else:
                await at_once(writer, int(tokens))
            writer.write(LAST)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def at_once(writer: asyncio.StreamWriter, tokens: int) -> None:
    """Write tokens as fast as they are read."""
    for start in range(0, tokens, TOGETHER):
        numbers = range(start, min(start + TOGETHER, tokens))
        writer.write(b"".join(token(b"t%d" % number) for number in numbers))
        await writer.drain()


async def paced(writer: asyncio.StreamWriter, pause: float, tokens: int) -> None:
    """Write a token after each pause."""
    for _ in range(tokens):
        await asyncio.sleep(pause)
        writer.write(token(b"t%d" % time.monotonic_ns()))
        await writer.drain()


async def main() -> None:
    """Serve on a free port."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sys.stderr.write(f"http://127.0.0.1:{port}\n")
    sys.stderr.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
