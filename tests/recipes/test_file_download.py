"""docs/recipes/file_download.md: every claim the page makes, proved against the recipe.

What only a real server, curl or a browser can show is in tests/servers and
tests/browser.
"""

import asyncio
import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from email import message_from_bytes
from email.message import Message
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote, unquote

import pytest
from aiofiles.base import AiofilesContextManager
from aiofiles.threadpool.binary import AsyncBufferedReader
from anyio import AsyncFile
from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.testclient import TestClient
from httpx2 import Response
from hypothesis import given
from hypothesis import strategies as st

from recipes import file_download
from recipes.file_download import CHUNK, condition, ranges, read, seconds
from tests.kit.asgi import Run, drive, note

BYTES = bytes(n % 251 for n in range(3 * CHUNK + 5))  # no chunk is like another
SIZE = len(BYTES)
WRITTEN = 1_767_258_000  # 2026-01-01 09:00:00 UTC
DATE = "Thu, 01 Jan 2026 09:00:00 GMT"
ETAG = f'"{WRITTEN * 10**9:x}-{SIZE:x}"'
SAMPLE = "8f01ede3c3d3234343c01b978f672c7cc785ae79b9a96d9eb5c17a88624dba47"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with one file, for an application that starts now."""
    monkeypatch.setenv("FILES_DIR", str(tmp_path))
    put(tmp_path, "tea.bin", BYTES)
    return tmp_path


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    """Ask an application that sends the files in `folder`."""
    assert folder.is_dir()
    with TestClient(file_download.app) as running:
        yield running


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    os.utime(path, (WRITTEN, WRITTEN))
    return path


def get(client: TestClient, **headers: str) -> Response:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get("/files/tea.bin", headers=fields)


# --- The catalogue --------------------------------------------------------------------


def test_without_a_folder_it_makes_two_files_that_are_always_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FILES_DIR", raising=False)
    with TestClient(file_download.app) as client:
        assert client.get("/files").json() == {"orders.txt": 2**25, "Größen.txt": 23}
        response = client.get("/files/orders.txt")
        assert hashlib.sha256(response.content).hexdigest() == SAMPLE
        assert response.headers["last-modified"] == DATE
        assert response.headers["etag"] == f'"{WRITTEN * 10**9:x}-2000000"'
        small = client.get("/files/Größen.txt")
        assert small.text == "tea: 50 g, 100 g, 1 kg\n"


def test_the_samples_are_gone_with_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FILES_DIR", raising=False)
    with TestClient(file_download.app) as client:
        folder = cast(Path, client.app_state["folder"])
        assert sorted(path.name for path in folder.iterdir())
    assert not folder.exists()


def test_a_folder_of_your_own_is_listed_as_it_is_now(
    client: TestClient, folder: Path
) -> None:
    assert client.get("/files").json() == {"tea.bin": SIZE}
    put(folder, "pot.bin", b"12345")
    assert client.get("/files").json() == {"tea.bin": SIZE, "pot.bin": 5}
    assert client.get("/files/pot.bin").content == b"12345"
    (folder / "pot.bin").unlink()
    response = client.get("/files/pot.bin")
    assert response.status_code == 404
    assert response.json() == {"detail": "There is no such file"}


def test_links_folders_devices_and_hidden_files_are_left_out(
    client: TestClient, folder: Path
) -> None:
    """Attack: Links, folders, pipes and hidden files in the folder: each is a 404."""
    (folder / "link.txt").symlink_to("/etc/hostname")
    (folder / "inside.txt").symlink_to(folder / "tea.bin")
    (folder / "folder").mkdir()
    put(folder / "folder", "deep.txt", b"deep")
    os.mkfifo(folder / "pipe")
    put(folder, ".hidden", b"secret")
    assert list(client.get("/files").json()) == ["tea.bin"]
    for name in ["link.txt", "inside.txt", "folder", "pipe", ".hidden"]:
        assert client.get(f"/files/{quote(name)}").status_code == 404
    assert client.get("/files/folder/deep.txt").status_code == 404
    assert client.get("/files/folder%2Fdeep.txt").status_code == 404


@pytest.mark.parametrize(
    "name", ["a\r\nSet-Cookie: a=b", "a\nb", "a\x7fb", "a\tb", "\x1f", "bad\udcff"]
)
def test_a_name_that_no_header_can_hold_is_left_out(
    client: TestClient, folder: Path, name: str
) -> None:
    put(folder, name, b"secret")
    assert list(client.get("/files").json()) == ["tea.bin"]
    asked = quote(os.fsencode(name))
    assert client.get(f"/files/{asked}").status_code == 404


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Größen & Maße.txt", "Gr__en & Ma_e.txt"),
        ("注文.csv", "__.csv"),
        ("100 €; 50%.txt", "100 _; 50_.txt"),
        ('"quoted".txt', "_quoted_.txt"),
        ("back\\slash.txt", "back_slash.txt"),
        ("narrow\u202fspace.png", "narrow_space.png"),
        ("a.b.", "a.b."),
        ("x" * 255, "x" * 255),
    ],
)
def test_a_name_in_any_script_arrives_whole(
    client: TestClient, folder: Path, name: str, plain: str
) -> None:
    put(folder, name, b"content")
    assert name in client.get("/files").json()
    response = client.get(f"/files/{quote(name)}")
    assert response.content == b"content"
    found = re.fullmatch(
        r"attachment; filename=\"([ -~]*)\"; filename\*=UTF-8''([\w.~%-]+)",
        response.headers["content-disposition"],
        re.ASCII,
    )
    assert found
    assert (found[1], unquote(found[2], errors="strict")) == (plain, name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("orders.csv", "text/csv"),
        ("orders.csv.gz", "application/octet-stream"),
        ("orders", "application/octet-stream"),
        ("film.mp4", "video/mp4"),
    ],
)
def test_the_type_follows_from_the_name(
    client: TestClient, folder: Path, name: str, kind: str
) -> None:
    put(folder, name, b"content")
    assert client.get(f"/files/{name}").headers["content-type"] == kind


TRAVERSALS = [
    "../secret.txt",
    "..%2Fsecret.txt",
    "%2e%2e/secret.txt",
    "%2e%2e%2fsecret.txt",
    "..%5Csecret.txt",
    "..%252Fsecret.txt",
    "%2Fetc%2Fpasswd",
    "/etc/passwd",
    "tea.bin%00.txt",
    "tea.bin%00",
    "tea.bin/",
    "./tea.bin",
    "..",
    "%C0%AE%C0%AE%2Fsecret.txt",
    "%FF",
    "TEA.BIN",
    "",
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_path_leads_out_of_the_catalogue(
    folder: Path, path: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Attack: Dots, slashes or their escapes in a path: none leads outside."""
    secret = folder.parent / "secret.txt"
    secret.write_bytes(b"secret")
    assert tmp_path_factory.getbasetemp() in secret.parents
    # No client in between that would clean the path up.
    run = drive(file_download.app, f"/files/{path}")
    # A slash at the end is FastAPI's to take away, with a redirect to the same server.
    assert run.status == (307 if path in {"", "tea.bin/"} else 404)
    assert b"secret" not in run.body


# --- A whole file ---------------------------------------------------------------------


def test_a_file_comes_whole_with_what_a_client_needs_to_resume(
    client: TestClient,
) -> None:
    response = get(client)
    assert response.status_code == 200
    assert response.content == BYTES
    assert dict(response.headers) == {
        "accept-ranges": "bytes",
        "cache-control": "no-cache",
        "content-disposition": (
            "attachment; filename=\"tea.bin\"; filename*=UTF-8''tea.bin"
        ),
        "content-length": str(SIZE),
        "content-type": "application/octet-stream",
        "etag": ETAG,
        "last-modified": DATE,
    }


def test_it_comes_in_chunks_of_256_kib() -> None:
    assert CHUNK == 256 * 1024


@pytest.mark.usefixtures("folder")
def test_each_chunk_is_sent_before_the_next_one_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noted_reads(monkeypatch)
    run = drive(file_download.app, "/files/tea.bin")
    assert [len(chunk) for chunk in run.chunks] == [CHUNK, CHUNK, CHUNK, 5]
    steps = [line for line in run.journal if line.split()[0] in {"read", "chunk"}]
    assert steps == [
        step for n in range(1, 5) for step in (f"read {len(run.chunks[n - 1])}",
        f"chunk {n}")
    ]  # fmt: skip


def noted_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note every read, and when the file is closed."""
    plain_read = AsyncBufferedReader.read
    plain_exit = AiofilesContextManager.__aexit__

    async def noted_read(self: AsyncBufferedReader, size: int) -> bytes:
        chunk = await plain_read(self, size)
        note(f"read {len(chunk)}")
        return chunk

    async def noted_exit(
        self: AiofilesContextManager[Any],
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await plain_exit(self, kind, error, trace)
        note("closed")

    monkeypatch.setattr(AsyncBufferedReader, "read", noted_read)
    monkeypatch.setattr(AiofilesContextManager, "__aexit__", noted_exit)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("stall_at", [None, 2])
def test_a_client_that_stalls_or_leaves_ends_the_reading_and_closes_the_file(
    stall_at: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted_reads(monkeypatch)
    target = "/files/tea.bin"
    run = drive(file_download.app, target, stall_at=stall_at, disconnect_at=2)
    assert run.before("disconnect").count(f"read {CHUNK}") == 2
    assert "read 5" not in run.journal
    assert "closed" in run.before("returned")


@pytest.mark.usefixtures("folder")
def test_a_complete_download_closes_the_file_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noted_reads(monkeypatch)
    run = drive(file_download.app, "/files/tea.bin")
    assert "closed" in run.before("returned")


@pytest.mark.usefixtures("folder")
def test_another_request_is_answered_between_two_chunks() -> None:
    run = drive(file_download.app, "/files/tea.bin", also="/files", also_at=1)
    assert run.also
    assert run.also.status == 200
    assert run.body == BYTES


def test_an_empty_file_is_an_empty_answer(client: TestClient, folder: Path) -> None:
    put(folder, "tea.bin", b"")
    response = get(client)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == "0"
    refused = get(client, range="bytes=0-")
    assert refused.status_code == 416
    assert refused.headers["content-range"] == "bytes */0"


def test_head_says_the_same_without_the_file(client: TestClient) -> None:
    whole = get(client)
    for headers in ({}, {"Range": "bytes=0-1"}, {"Range": "bytes=999999999-"}):
        # RFC 9110, 14.2: only a GET has ranges.
        head = client.head("/files/tea.bin", headers=headers)
        assert head.status_code == 200
        assert head.headers == whole.headers
        assert head.content == b""
    assert client.head("/files/no.bin").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_any_other_method_is_refused(client: TestClient, method: str) -> None:
    response = client.request(method, "/files/tea.bin")
    assert response.status_code == 405


# --- Ranges ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-4", 0, 4),
        ("bytes=5-", 5, SIZE - 1),
        ("bytes=-5", SIZE - 5, SIZE - 1),
        ("bytes=0-", 0, SIZE - 1),
        (f"bytes=0-{SIZE}", 0, SIZE - 1),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE - 1),
        (f"bytes=10-{SIZE - 2}", 10, SIZE - 2),
        (f"bytes=-{SIZE * 2}", 0, SIZE - 1),
        ("bytes=7-999999999999999999", 7, SIZE - 1),
        ("BYTES=0-4", 0, 4),
        ("bytes= 0-4 ", 0, 4),
        # What lies behind the end does not count, as long as something is left.
        (f"bytes=0-4,{SIZE}-", 0, 4),
        (f"bytes=0-4,{SIZE + 1}-{SIZE + 9},-0", 0, 4),
    ],
)
def test_one_range_is_a_206_with_just_these_bytes(
    client: TestClient, asked: str, first: int, last: int
) -> None:
    response = get(client, range=asked)
    assert response.status_code == 206
    assert response.content == BYTES[first : last + 1]
    assert response.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
    assert response.headers["content-length"] == str(last + 1 - first)
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["etag"] == ETAG


@pytest.mark.parametrize(
    "asked", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=-0"]
)
def test_a_range_behind_the_end_is_a_416_that_says_the_size(
    client: TestClient, asked: str
) -> None:
    response = get(client, range=asked)
    assert response.status_code == 416
    assert response.headers["content-range"] == f"bytes */{SIZE}"
    assert response.content == b""


@pytest.mark.parametrize(
    "asked",
    [
        "lines=1-2",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "bytes=a-b",
        "bytes=1",
        "bytes=--5",
        "bytes=+1-5",
        "bytes=1_0-20",
        "bytes=0-1,",
        "bytes=0-1,x",
        "bytes=1-2-3",
        f"bytes=0-{'9' * 5000}",
        "bytes=" + ",".join(f"{n}-{n}" for n in range(11)),
        "bytes=0-,0-",
        f"bytes=0-9,5-{SIZE}",
    ],
)
def test_a_range_that_means_nothing_or_costs_too_much_is_ignored(
    client: TestClient, asked: str
) -> None:
    """Attack: A range that means nothing, or eleven of them: the field is ignored."""
    response = get(client, range=asked)
    assert (response.status_code, response.content) == (200, BYTES)
    assert "content-range" not in response.headers


def parts(response: Response) -> list[Message]:
    """Take a multipart body apart with the standard library."""
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n"
    message = message_from_bytes(head.encode() + response.content)
    assert message.is_multipart()
    return cast(list[Message], message.get_payload())


def test_several_ranges_come_in_parts_in_the_order_asked_for(
    client: TestClient,
) -> None:
    tail = (SIZE - 3, SIZE - 1)
    wanted = [(100, 199), (0, 9), tail, (9, 9), (CHUNK - 1, 2 * CHUNK + 1)]
    field = ", ".join(f"{first}-{last}" for first, last in wanted)
    response = get(client, range=f"bytes={field}")
    assert response.status_code == 206
    assert "content-range" not in response.headers
    assert response.headers["content-length"] == str(len(response.content))
    assert response.headers["etag"] == ETAG
    found = parts(response)
    for part, (first, last) in zip(found, wanted, strict=True):
        assert part["content-range"] == f"bytes {first}-{last}/{SIZE}"
        assert part["content-type"] == "application/octet-stream"
        assert part.get_payload(decode=True) == BYTES[first : last + 1]


def test_these_are_the_bytes_of_several_ranges(
    client: TestClient, folder: Path
) -> None:
    put(folder, "tea.bin", b"green tea")
    response = get(client, range="bytes=0-4,6-8")
    kind, _, mark = response.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    assert re.fullmatch("[0-9a-f]{32}", mark)
    assert response.content.decode() == (
        f"\r\n--{mark}\r\nContent-Type: application/octet-stream\r\n"
        "Content-Range: bytes 0-4/9\r\n\r\ngreen"
        f"\r\n--{mark}\r\nContent-Type: application/octet-stream\r\n"
        "Content-Range: bytes 6-8/9\r\n\r\ntea"
        f"\r\n--{mark}--\r\n"
    )
    again = get(client, range="bytes=0-4,6-8").headers["content-type"]
    assert again != response.headers["content-type"], "a file could hold the boundary"


def test_ten_ranges_are_the_most(client: TestClient) -> None:
    field = "bytes=" + ",".join(f"{n}-{n}" for n in range(10))
    assert len(parts(get(client, range=field))) == 10


def test_ranges_that_fill_the_whole_file_are_no_overlap(
    client: TestClient, folder: Path
) -> None:
    put(folder, "tea.bin", b"tea")
    assert len(parts(get(client, range="bytes=0-0,1-2"))) == 2
    assert get(client, range="bytes=0-1,1-2").status_code == 200


numbers = st.integers(0, 30).map(str) | st.just("")
items = st.tuples(numbers, numbers).map("-".join) | st.text(
    "0123456789-, x", max_size=9
)


@pytest.mark.timeout(60)
@given(st.lists(items, min_size=1, max_size=12), st.integers(0, 20))
def test_no_range_leads_out_of_the_file(wanted: list[str], size: int) -> None:
    """Attack: Any list of ranges: none leads out of the file."""
    found = ranges("bytes=" + ",".join(wanted), size)
    if found is None:
        return
    assert len(found) <= 10
    assert sum(map(len, found)) <= size
    for part in found:
        assert 0 <= part.start < part.stop <= size


def test_other_digits_are_no_numbers() -> None:
    assert ranges("bytes=\u0663-\u0664", 9) is None


@pytest.mark.timeout(60)
@given(st.text(), st.integers(0, 20))
def test_any_text_is_a_range_field_without_an_error(field: str, size: int) -> None:
    assert ranges(field, size) is None or field.lower().startswith("bytes=")


# --- Conditions -----------------------------------------------------------------------

BEFORE, AFTER = (
    formatdate(WRITTEN - 1, usegmt=True),
    formatdate(WRITTEN + 1, usegmt=True),
)
OTHER = '"other"'

CONDITIONS: list[tuple[Mapping[str, str], int]] = [
    ({}, 200),
    ({"if-none-match": ETAG}, 304),
    ({"if-none-match": f"W/{ETAG}"}, 304),
    ({"if-none-match": f"{OTHER}, {ETAG}"}, 304),
    ({"if-none-match": "*"}, 304),
    ({"if-none-match": OTHER}, 200),
    ({"if-none-match": ETAG.strip('"')}, 200),
    ({"if-modified-since": DATE}, 304),
    ({"if-modified-since": AFTER}, 304),
    ({"if-modified-since": BEFORE}, 200),
    ({"if-modified-since": "yesterday"}, 200),
    ({"if-modified-since": "Thursday, 01-Jan-26 09:00:00 GMT"}, 304),
    ({"if-modified-since": "Thu Jan  1 09:00:00 2026"}, 304),
    ({"if-modified-since": "Thu Jan  1 08:59:59 2026"}, 200),
    ({"if-modified-since": "Thu, 01 Jan 2026 09:99999999900:00 GMT"}, 200),
    ({"if-unmodified-since": "Thu, 01 Jan 2026 09:99999999900:00 GMT"}, 200),
    # RFC 9110, 13.1.3: the date does not count beside a tag.
    ({"if-none-match": OTHER, "if-modified-since": DATE}, 200),
    ({"if-match": ETAG}, 200),
    ({"if-match": f"{OTHER},{ETAG}"}, 200),
    ({"if-match": f"{OTHER} , {ETAG}"}, 200),
    ({"if-match": "*"}, 200),
    ({"if-match": OTHER}, 412),
    ({"if-match": f"W/{ETAG}"}, 412),
    ({"if-unmodified-since": DATE}, 200),
    ({"if-unmodified-since": AFTER}, 200),
    ({"if-unmodified-since": BEFORE}, 412),
    ({"if-unmodified-since": "yesterday"}, 200),
    ({"if-match": ETAG, "if-unmodified-since": BEFORE}, 200),
    ({"if-match": OTHER, "if-none-match": ETAG}, 412),
    ({"if-match": ETAG, "if-none-match": ETAG}, 304),
]


@pytest.mark.parametrize(("headers", "status"), CONDITIONS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_condition_is_weighed_as_rfc_9110_says(
    client: TestClient, method: str, headers: Mapping[str, str], status: int
) -> None:
    response = client.request(method, "/files/tea.bin", headers={**headers})
    assert response.status_code == status
    assert response.headers["etag"] == ETAG
    assert response.headers["last-modified"] == DATE
    if status != 200:
        assert response.content == b""
    if status == 304:
        assert response.headers["cache-control"] == "no-cache"
        assert "content-length" not in response.headers
        assert "content-type" not in response.headers


def test_a_condition_comes_before_the_range(client: TestClient) -> None:
    assert get(client, range="bytes=0-1", if_none_match=ETAG).status_code == 304
    assert get(client, range="bytes=99999999-", if_match=OTHER).status_code == 412


@pytest.mark.parametrize(
    ("if_range", "status"),
    [
        (ETAG, 206),
        (DATE, 206),
        (OTHER, 200),
        (f"W/{ETAG}", 200),
        (BEFORE, 200),
        (AFTER, 200),
        ("", 200),
    ],
)
def test_a_range_of_another_version_is_the_whole_file(
    client: TestClient, if_range: str, status: int
) -> None:
    response = get(client, range="bytes=5-", if_range=if_range)
    assert response.status_code == status
    assert response.content == (BYTES[5:] if status == 206 else BYTES)
    beyond = get(client, range=f"bytes={SIZE}-", if_range=if_range)
    assert beyond.status_code == (416 if status == 206 else 200)


@pytest.mark.timeout(60)
@given(st.text() | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ [+\w-]\d*"))
def test_any_text_is_a_date_or_not_a_number(text: str) -> None:
    assert math.isnan(found := seconds(text)) or isinstance(found, float)


@pytest.mark.timeout(60)
@given(st.dictionaries(st.sampled_from(sorted({k for c, _ in CONDITIONS for k in c})),
                       st.text(max_size=30)))  # fmt: skip
def test_any_condition_has_an_answer(asked: dict[str, str]) -> None:
    assert condition(asked, ETAG, DATE) in {200, 304, 412}


def test_the_etag_tells_every_version_from_the_next(
    client: TestClient, folder: Path
) -> None:
    tags = {get(client).headers["etag"]}
    path = folder / "tea.bin"
    os.utime(path, ns=(0, WRITTEN * 10**9 + 1))  # Written a nanosecond later.
    tags.add(get(client).headers["etag"])
    path.write_bytes(BYTES[:-1])
    os.utime(path, (WRITTEN, WRITTEN))  # As old, but shorter.
    tags.add(get(client).headers["etag"])
    assert len(tags) == 3
    assert all(re.fullmatch('"[0-9a-f]+-[0-9a-f]+"', tag) for tag in tags), "strong"


# --- A file that changes while it is being sent ---------------------------------------


Change = Callable[[Path], None]


def changing(folder: Path, monkeypatch: pytest.MonkeyPatch, change: Change) -> Run:
    """Change the file after the first chunk has been read, and see what is sent."""
    plain_read = AsyncBufferedReader.read
    count = 0

    async def read_then_change(self: AsyncBufferedReader, size: int) -> bytes:
        nonlocal count
        chunk = await plain_read(self, size)
        count += 1
        if count == 2:
            change(folder / "tea.bin")
        return chunk

    monkeypatch.setattr(AsyncBufferedReader, "read", read_then_change)
    return drive(file_download.app, "/files/tea.bin")


def truncate(path: Path) -> None:
    os.truncate(path, 10)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def overwrite(path: Path) -> None:
    path.write_bytes(bytes(SIZE))


@pytest.mark.parametrize("change", [truncate, append, overwrite])
def test_a_file_that_changes_breaks_the_download_off(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    run = changing(folder, monkeypatch, change)
    assert run.headers["content-length"] == str(SIZE)
    assert run.body == BYTES[:CHUNK], "no byte of the chunk in question"
    assert run.journal[-1] == "raised OSError"
    assert "end" not in run.journal
    assert "changed while it was being sent" in str(run.error)


def replace(path: Path) -> None:
    new = path.with_name("new.bin")
    new.write_bytes(bytes(SIZE))
    new.replace(path)


@pytest.mark.parametrize("change", [replace, Path.unlink])
def test_a_file_that_is_replaced_or_deleted_is_sent_to_its_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    run = changing(folder, monkeypatch, change)
    assert run.body == BYTES
    assert run.headers["etag"] == ETAG
    assert run.journal[-1] == "returned"


def test_a_file_that_ends_early_ends_the_reading(tmp_path: Path) -> None:
    # As on a network file system that still tells the old size.
    path = put(tmp_path, "tea.bin", b"tea")

    class Reader:
        def fileno(self) -> int:
            return file.fileno()

        async def seek(self, _: int) -> None: ...

        async def read(self, _: int) -> bytes:
            return b""

    async def everything() -> list[bytes]:
        etag = file_download.etag_of(path.stat())
        reader = cast(AsyncBufferedReader, Reader())
        return [chunk async for chunk in read(reader, [b"head", range(3)], etag)]

    with path.open("rb") as file, pytest.raises(OSError, match="changed"):
        asyncio.run(everything())


# --- What the page says of FileResponse -----------------------------------------------


@pytest.fixture
def plain(folder: Path) -> TestClient:
    """Ask an application that sends the same file by `FileResponse`."""
    app = FastAPI()

    @app.get("/files/tea.bin")
    @app.head("/files/tea.bin")
    def download() -> FileResponse:
        return FileResponse(folder / "tea.bin")

    return TestClient(app)


def test_file_response_knows_ranges_and_head_and_sends_a_tag(plain: TestClient) -> None:
    response = get(plain, range="bytes=5-9")
    assert (response.status_code, response.content) == (206, BYTES[5:10])
    assert get(plain, range="bytes=5-9", if_range=OTHER).status_code == 200
    head = plain.head("/files/tea.bin")
    assert head.headers["content-length"] == str(SIZE)
    assert head.headers["etag"] == response.headers["etag"]


def test_file_response_sends_again_what_the_client_has(plain: TestClient) -> None:
    etag = get(plain).headers["etag"]
    assert get(plain, if_none_match=etag).status_code == 200
    assert get(plain, if_modified_since=DATE).status_code == 200


def test_file_response_refuses_what_rfc_9110_tells_it_to_ignore(
    plain: TestClient,
) -> None:
    assert get(plain, range="lines=1-2").status_code == 400
    assert get(plain, range=f"bytes=0-4,{SIZE}-").status_code == 416


def test_file_response_sends_a_mixture_of_two_versions(
    plain: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_read = AsyncFile.read

    async def read_then_overwrite(self: AsyncFile[bytes], size: int = -1) -> bytes:
        chunk = await plain_read(self, size)
        overwrite(folder / "tea.bin")
        return chunk

    monkeypatch.setattr(AsyncFile, "read", read_then_overwrite)
    response = get(plain)
    assert response.status_code == 200
    assert len(response.content) == SIZE
    assert response.content not in {BYTES, bytes(SIZE)}
