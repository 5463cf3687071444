r"""Drive an ASGI application with a request body that arrives chunk by chunk.

It keeps to the contract of `tests.kit.asgi`, and adds what an upload needs: `receive`
gives the next chunk each time, then an empty message that ends the body, and after that
waits until the client is gone or the response is complete. The journal says in which
order things happened: `asked 2` when the application asks for the second chunk,
`answered 1` when it has sent the first one of its answer.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message

from tests.kit.asgi import TURNS, WAIT, Outcome


@dataclass
class Upload(Outcome):
    """What became of one upload."""

    headers: dict[str, str] = field(default_factory=dict)


def upload(
    app: ASGIApp,
    path: str,
    chunks: Sequence[bytes],
    *,
    length: int | None = None,
    stall_at: int | None = None,
    leave_at: int | None = None,
    cancel_at: int | None = None,
) -> Upload:
    """Send `chunks` to `path`, and give what was answered.

    `length` is the Content-Length that the client names. The client does not take
    chunk `stall_at` of the answer, and leaves `TURNS` turns of the event loop later. It
    leaves when it is asked for chunk `leave_at`. The server gives the request up when
    it asks for chunk `cancel_at`.

    Raises:
        AssertionError: the answer took too long.
    """
    moments = {"stall": stall_at, "leave": leave_at, "cancel": cancel_at}
    return asyncio.run(_upload(app, path, chunks, length, moments))


async def _upload(
    app: ASGIApp,
    path: str,
    chunks: Sequence[bytes],
    length: int | None,
    moments: dict[str, int | None],
) -> Upload:
    run = Upload()
    over, gone = asyncio.Event(), asyncio.Event()
    coming = iter([(chunk, True) for chunk in chunks] + [(b"", False)])
    asked = 0

    async def receive() -> Message:
        nonlocal asked
        asked += 1
        run.journal.append(f"asked {asked}")
        if asked == moments["leave"]:
            gone.set()
            over.set()
        if asked == moments["cancel"]:
            task.cancel()
            await asyncio.sleep(0)
        if gone.is_set() or (part := next(coming, None)) is None:
            await over.wait()
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part[0], "more_body": part[1]}

    async def send(message: Message) -> None:
        if gone.is_set():
            return
        if message["type"] == "http.response.start":
            run.status = message["status"]
            run.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            run.journal.append(f"start {run.status}")
        elif body := message.get("body", b""):
            if len(run.chunks) + 1 == moments["stall"]:
                run.journal.append(f"stalled {moments['stall']}")
                await gone.wait()
                return
            run.chunks.append(body)
            run.journal.append(f"answered {len(run.chunks)}")
        if message["type"] == "http.response.body" and not message.get("more_body"):
            run.journal.append("end")
            over.set()

    headers = [(b"host", b"127.0.0.1:8000")]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    task = asyncio.ensure_future(app(scope, receive, send))
    if moments["stall"]:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        run.journal.append("left")
        gone.set()
        over.set()
    done, _ = await asyncio.wait([task], timeout=WAIT)
    assert done, f"waited {WAIT} s for the answer: {run.journal}"
    if task.cancelled():
        run.journal.append("cancelled")
    elif task.exception():
        run.error = task.exception()
        run.journal.append(f"raised {type(run.error).__name__}")
    else:
        run.journal.append("returned")
    return run
