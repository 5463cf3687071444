"""docs/recipes/file_upload.md: every claim the page makes, proved against the recipe.

Clients that leave and clients that wait, as a server sees them, are in tests/servers.
"""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.types import Message

from recipes import file_upload
from recipes.file_upload import BATCH, LIMIT, RESERVE, Part, batches
from tests.kit.servers import WAIT

GONE: Message = {"type": "http.disconnect"}
TOO_LARGE = "Content Too Large"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder for an application that starts now."""
    monkeypatch.setenv("UPLOADS_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    """Ask an application that stores in `folder`."""
    assert folder.is_dir()
    with TestClient(file_upload.app) as running:
        yield running


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sent(*bodies: bytes) -> list[Message]:
    """Say what a server hands on of a body that has not come to its end."""
    return [{"type": "http.request", "body": b, "more_body": True} for b in bodies]


def post(
    folder: Path, messages: Sequence[Message], length: int | None = None
) -> tuple[int, bytes, list[list[str]]]:
    """Send these messages; give status, body, and what was in the folder at each."""
    seen: list[list[str]] = []
    answers: list[Message] = []
    rest = iter(messages)
    headers = [] if length is None else [(b"content-length", str(length).encode())]

    async def receive() -> Message:
        seen.append(names_in(folder))
        found = next(rest, None)
        if found is None:
            await asyncio.Event().wait()  # for ever
        return cast(Message, found)

    async def send(message: Message) -> None:
        answers.append(message)

    async def request() -> None:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/uploads",
            "query_string": b"",
            "headers": headers,
            "state": {"folder": folder},
        }
        async with asyncio.timeout(WAIT):
            await file_upload.app(scope, receive, send)

    asyncio.run(request())
    body = b"".join(message.get("body", b"") for message in answers[1:])
    return answers[0]["status"], body, seen


def test_an_upload_is_stored_under_its_hash(client: TestClient, folder: Path) -> None:
    content = os.urandom(3 * BATCH + 5)
    response = client.post("/uploads", content=content)
    name = hashlib.sha256(content).hexdigest()
    assert response.status_code == 201
    assert response.json() == {"sha256": name, "size": len(content)}
    assert (folder / name).read_bytes() == content
    assert client.get("/uploads").json() == {name: len(content)}


def test_the_same_content_twice_is_one_file(client: TestClient) -> None:
    answers = [client.post("/uploads", content=b"tea").json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert client.get("/uploads").json() == {answers[0]["sha256"]: 3}


def test_an_empty_upload_is_an_empty_file(client: TestClient, folder: Path) -> None:
    name = hashlib.sha256().hexdigest()
    assert client.post("/uploads").json() == {"sha256": name, "size": 0}
    assert (folder / name).read_bytes() == b""


def test_without_a_folder_uploads_are_gone_with_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("UPLOADS_DIR", raising=False)
    with TestClient(file_upload.app) as client:
        folder = cast(Path, client.app_state["folder"])
        client.post("/uploads", content=b"tea")
        assert len(list(folder.iterdir())) == 1
    assert not folder.exists()


def test_a_folder_that_is_not_there_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UPLOADS_DIR", str(tmp_path / "new" / "kept"))
    with TestClient(file_upload.app) as client:
        assert client.post("/uploads", content=b"tea").status_code == 201
    assert len(list((tmp_path / "new" / "kept").iterdir())) == 1


def test_the_client_names_nothing(client: TestClient, folder: Path) -> None:
    """Attack: An upload brings a path as its name: its hash is the name."""
    evil = {
        "Content-Disposition": 'attachment; filename="../evil"',
        "Content-Type": "multipart/form-data; boundary=x",
        "Content-Encoding": "gzip",
        "Slug": "../evil",
    }
    stored = client.post("/uploads", content=b"tea", headers=evil).json()
    assert [path.name for path in folder.iterdir()] == [stored["sha256"]]
    assert client.post("/uploads/..%2Fevil", content=b"tea").status_code == 404
    assert client.put("/uploads", content=b"tea").status_code == 405
    assert [path.name for path in folder.iterdir()] == [stored["sha256"]]


def test_a_batch_is_on_its_way_to_the_disk_before_the_next_chunk_is_asked_for(
    folder: Path,
) -> None:
    sizes: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            sizes.append(part.size)
            yield bytes(BATCH)

    async def run() -> None:
        async for batch in batches(chunks()):
            part.write(batch)

    with (folder / "x.part").open("wb") as file:
        part = Part(file, folder)
        asyncio.run(run())
    assert sizes == [0, BATCH, 2 * BATCH]


@pytest.mark.parametrize("size", [1, 7, 100, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH])
def test_chunks_are_gathered_to_batches(size: int) -> None:
    content = os.urandom(2 * BATCH + 50) if size > 50 else os.urandom(2000)

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(content), size):
            yield content[at : at + size]

    async def gather() -> list[bytes]:
        return [batch async for batch in batches(chunks())]

    found = asyncio.run(gather())
    assert b"".join(found) == content
    assert all(BATCH <= len(batch) < BATCH + size for batch in found[:-1])
    assert BATCH == 256 * 1024


def test_while_it_arrives_it_has_another_name(folder: Path) -> None:
    end: Message = {"type": "http.request", "body": b"tea", "more_body": False}
    status, _, seen = post(folder, [*sent(bytes(BATCH), b"green "), end])
    assert status == 201
    assert all(len(names) == 1 for names in seen)
    assert all(names[0].endswith(".part") for names in seen)
    (stored,) = folder.iterdir()
    assert stored.name == hashlib.sha256(bytes(BATCH) + b"green tea").hexdigest()


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_client_that_leaves_leaves_nothing(folder: Path, count: int) -> None:
    messages = [*sent(*[bytes(BATCH)] * count), GONE]
    status, _, seen = post(folder, messages, length=100 * BATCH)
    assert status == 499
    assert len(seen) == count + 1
    assert seen[0][0].endswith(".part")
    assert list(folder.iterdir()) == []


def test_a_client_that_sends_nothing_for_too_long_gets_408(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: An upload stalls: 408, and nothing is left on the disk."""
    assert file_upload.SILENCE == 60
    monkeypatch.setattr(file_upload, "SILENCE", 0.01)
    status, body, seen = post(folder, sent(b"green "), length=9)
    assert (status, body) == (408, b'{"detail":"Nothing has come for too long"}')
    assert len(seen) == 2
    assert list(folder.iterdir()) == []


def test_what_announces_too_much_is_refused_before_it_is_read(folder: Path) -> None:
    """Attack: An upload announces too many bytes: 413 before a byte of it is read."""
    status, body, seen = post(folder, [], length=LIMIT + 1)
    assert (status, body.decode()) == (413, TOO_LARGE)
    assert seen == [], "the server was never asked for the body"
    assert list(folder.iterdir()) == []


def test_the_limit_itself_is_allowed(folder: Path, roomy: None) -> None:
    assert roomy is None
    status, _, seen = post(folder, [GONE], length=LIMIT)
    assert (status, len(seen)) == (499, 1)
    assert LIMIT == 10_000_000_000


def test_what_announces_nothing_is_counted() -> None:
    route = next(
        route
        for route in file_upload.app.routes
        if "POST" in getattr(route, "methods", ())
    )
    assert getattr(route, "max_body_size", None) == LIMIT


def test_a_body_that_grows_over_the_limit_is_refused_and_leaves_nothing(
    client: TestClient, folder: Path
) -> None:
    """Attack: An upload grows over the limit: 413, and nothing is left on the disk."""
    # FastAPI has the limit in its own keeping: take a smaller one of the same kind.
    small = FastAPI(lifespan=file_upload.lifespan)
    small.post("/uploads", status_code=201, max_body_size=5)(file_upload.upload)

    def chunks() -> Iterator[bytes]:
        yield b"green"
        yield b"!"

    with TestClient(small) as limited:
        response = limited.post("/uploads", content=chunks())
        assert "content-length" not in response.request.headers
        assert (response.status_code, response.json()["detail"]) == (413, TOO_LARGE)
        assert list(folder.iterdir()) == []
        assert limited.post("/uploads", content=b"green").status_code == 201
    assert client.post("/uploads", content=chunks()).status_code == 201


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the disk more room than an upload may take."""
    set_free(monkeypatch, RESERVE + LIMIT)


def set_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """Let the disk say that it has so many bytes left."""
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


@pytest.mark.parametrize(("length", "status"), [(1000, 499), (1001, 413)])
def test_what_the_disk_cannot_hold_is_refused_before_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, length: int, status: int
) -> None:
    """Attack: An upload that the disk cannot hold: 413 before a byte of it is read."""
    assert RESERVE == 1_000_000_000
    set_free(monkeypatch, RESERVE + 1000)
    got, body, seen = post(folder, [GONE], length=length)
    assert got == status
    assert len(seen) == (1 if status == 499 else 0)
    if status == 413:
        assert body == b'{"detail":"There is no room for it on the disk"}'
    assert list(folder.iterdir()) == []


def test_a_disk_that_fills_up_meanwhile_ends_the_upload(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free(monkeypatch, RESERVE + BATCH - 1)
    status, _, seen = post(folder, sent(bytes(BATCH), bytes(BATCH)))
    assert (status, len(seen)) == (413, 1)
    assert list(folder.iterdir()) == []


def test_the_disk_has_it_all_before_it_gets_its_name(
    client: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, list[str]]] = []

    def fsync(number: int) -> None:
        names = [path.name for path in folder.iterdir()]
        synced.append((os.fstat(number).st_size, names))

    monkeypatch.setattr(os, "fsync", fsync)
    client.post("/uploads", content=b"green tea")
    ((size, names),) = synced
    assert size == 9
    assert [name.endswith(".part") for name in names] == [True]
