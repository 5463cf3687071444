"""docs/recipes/chunk_framing.md: every claim the page makes, proved on the recipe."""

import itertools
import json
from collections.abc import Callable, Iterable

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from cookbook.catalog import ROOT
from recipes import chunk_framing
from recipes.chunk_framing import (
    BODY,
    CHUNK,
    LINE,
    Line,
    LineReader,
    answers,
    orders,
    rechunk,
    to_line,
)
from tests.kit.asgi import drive
from tests.kit.upload import upload
from tests.kit.work import Seen, counting

client = TestClient(chunk_framing.app)
SAMPLE = (ROOT / "docs/clients/orders.ndjson").read_bytes()
TEA = b'{"id":1,"item":"tea","amount":1}'


def pieces(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut `body` at these places."""
    places = [0, *sorted(cuts), len(body)]
    return [body[a:b] for a, b in itertools.pairwise(places)]


@st.composite
def split(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> list[bytes]:
    """Draw a body, cut at any places; a chunk may be empty."""
    body = draw(bodies)
    cuts = draw(st.lists(st.integers(0, len(body)), max_size=12))
    return pieces(body, cuts)


def read(chunks: Iterable[bytes]) -> list[Line]:
    """Read all lines of a stream, the last one too."""
    reader = LineReader()
    lines = [line for chunk in chunks for line in reader.feed(chunk)]
    return [*lines, reader.complete(b"")] if reader.begun else lines


def expected(body: bytes) -> list[Line]:
    """Read them again in a way that needs the whole body."""
    *ended, last = body.split(b"\n")
    whole = [*ended, last] if last else ended
    return [Line(n, content[: LINE + 1]) for n, content in enumerate(whole, start=1)]


def told(body: bytes) -> list[dict[str, object]]:
    """Read an answer with the standard library."""
    assert body.endswith(b"\n")
    return [json.loads(line) for line in body.decode().splitlines()]


def ask(*chunks: bytes) -> list[dict[str, object]]:
    """Upload chunks, and give the answers; the answer must be whole."""
    run = upload(chunk_framing.app, "/orders", chunks)
    assert (run.status, run.journal[-1]) == (200, "returned")
    return told(run.body)


# Lines


lines_of_text = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"\r", b"\0", "é🍵".encode(), b"\xff"])
    | st.binary(max_size=4),
    max_size=12,
).map(b"".join)


@pytest.mark.timeout(60)
@given(split(lines_of_text))
def test_lines_are_the_same_wherever_the_chunks_are_cut(chunks: list[bytes]) -> None:
    assert read(chunks) == expected(b"".join(chunks))


def test_not_one_cut_of_the_sample_changes_a_line() -> None:
    whole = expected(SAMPLE)
    assert [line.number for line in whole] == [1, 2, 3, 4, 5]
    assert read(pieces(SAMPLE, range(1, len(SAMPLE)))) == whole
    for cuts in itertools.combinations_with_replacement(range(len(SAMPLE) + 1), 2):
        assert read(pieces(SAMPLE, cuts)) == whole


def test_a_line_is_given_as_soon_as_its_line_feed_is_there() -> None:
    reader = LineReader()
    assert list(reader.feed(b"tea")) == []
    assert list(reader.feed(b"pot\nho")) == [Line(1, b"teapot")]
    assert list(reader.feed(b"ney\n")) == [Line(2, b"honey")]


@pytest.mark.parametrize("cut", [LINE - 1, LINE, LINE + 1, LINE + 2])
def test_a_line_may_have_as_many_bytes_as_it_says_and_not_one_more(cut: int) -> None:
    """Attack: A line is one byte too long: refused by number, reading goes on."""
    chunks = pieces(b"x" * LINE + b"\n" + b"y" * (LINE + 1) + b"\n" + TEA, [cut])
    contents = [line.content for line in read(chunks)]
    assert contents == [b"x" * LINE, b"y" * (LINE + 1), TEA]
    first, second, third, done = ask(*chunks)
    assert first["error"] == "Invalid JSON: expected value at byte 1"
    assert second == {"line": 2, "error": "longer than 1,000 bytes"}
    assert third == {"line": 3, "taken": 1}
    assert done == {"done": True, "lines": 3}


def test_of_a_line_in_ten_thousand_chunks_no_more_is_held_than_shows_its_fault() -> (
    None
):
    """Attack: A line never ends: about 1 kB of it is held."""
    reader = LineReader()
    for _ in range(10_000):
        assert list(reader.feed(b"x" * 100)) == []
        assert len(reader.begun) <= LINE + 1 == 1001
    assert list(reader.feed(b"\n" + TEA)) == [Line(1, b"x" * (LINE + 1))]
    assert reader.begun == TEA


# The work


def one_long_line(n: int) -> None:
    reader = LineReader()
    for _ in range(n):
        list(reader.feed(Seen(b"x" * 20)))
    assert len(next(reader.feed(Seen(b"\n"))).content) == n * 20


def one_chunk(n: int) -> None:
    assert len(list(LineReader().feed(Seen(b"honey\n" * n)))) == n


def byte_by_byte(n: int) -> None:
    reader = LineReader()
    found = [
        line for _ in range(n) for c in b"tea\n" for line in reader.feed(Seen([c]))
    ]
    assert len(found) == n


def long_lines_in_halves(n: int) -> None:
    reader = LineReader()
    half = Seen(b"x" * 500)
    found = [
        x for _ in range(n) for part in (half, half + b"\n") for x in reader.feed(part)
    ]
    assert len(found) == n


def small_into_large(n: int) -> None:
    assert len(list(rechunk([Seen(b"honey")] * n, 1000))) == n * 5 / 1000


def large_into_small(n: int) -> None:
    assert len(list(rechunk([Seen(b"honey" * n)], 5))) == n


LOADS = [
    (one_long_line, 10_000),
    (one_chunk, 4_000),
    (byte_by_byte, 2_000),
    (long_lines_in_halves, 1_000),
    (small_into_large, 4_000),
    (large_into_small, 4_000),
]


@pytest.mark.parametrize(("load", "n"), LOADS)
def test_twice_the_input_is_twice_the_work(
    load: Callable[[int], None], n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_framing, "LINE", 10**9)
    totals = []
    for size in (n, 2 * n):
        with counting(chunk_framing) as work:
            load(size)
        assert work.touched > size
        totals.append(work.total)
    assert totals[1] < 2.3 * totals[0]


# Chunks of one size


@pytest.mark.timeout(60)
@given(st.lists(st.binary(max_size=30)), st.integers(1, 40))
def test_only_the_last_chunk_is_shorter(chunks: list[bytes], size: int) -> None:
    *others, last = [*rechunk(chunks, size)] or [b""]
    assert b"".join([*others, last]) == b"".join(chunks)
    assert {len(chunk) for chunk in others} <= {size}
    assert len(last) <= size
    assert bool(last) == any(chunks)


def test_a_chunk_is_given_before_more_is_asked_for() -> None:
    coming = iter([b"tea", b"pot"])
    assert next(rechunk(coming, 3)) == b"tea"
    assert list(coming) == [b"pot"]


@pytest.mark.parametrize("size", [1, 60, 1_000_000])
def test_the_orders_are_the_same_in_chunks_of_any_size(size: int) -> None:
    run = drive(chunk_framing.app, f"/orders.ndjson?size={size}")
    assert run.body == b"".join(orders())
    assert {len(chunk) for chunk in run.chunks[:-1]} <= {size}
    assert run.headers["content-type"] == "application/x-ndjson"


def test_chunks_of_29_bytes_cut_a_line_and_a_character() -> None:
    run = drive(chunk_framing.app, "/orders.ndjson?size=29")
    first, second, third, *_, last = run.chunks
    assert [len(chunk) for chunk in run.chunks] == [29] * 5 + [13]
    assert not first.endswith(b"\n")
    with pytest.raises(UnicodeDecodeError, match="unexpected end of data"):
        second.decode()
    with pytest.raises(UnicodeDecodeError, match="invalid start byte"):
        third.decode()
    assert last.endswith(b"\n")


def test_these_are_the_orders_and_they_would_be_taken() -> None:
    body = client.get("/orders.ndjson").content
    assert body.decode().splitlines() == [
        '{"id":1,"item":"green tea","amount":2}',
        '{"id":2,"item":"crème brûlée","amount":4}',
        '{"id":3,"item":"honey","amount":6}',
        '{"id":4,"item":"jalapeño","amount":8}',
    ]
    run = drive(chunk_framing.app, "/orders.ndjson")
    assert len(run.chunks) == 1
    assert [reply.get("taken") for reply in ask(body)] == [1, 2, 3, 4, None]


@pytest.mark.parametrize("size", ["0", "1000001", "many"])
def test_a_wrong_size_is_refused_before_the_stream_starts(size: str) -> None:
    response = client.get(f"/orders.ndjson?size={size}")
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["query", "size"]


def test_without_a_size_it_is_64_kib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_framing, "orders", lambda: iter([b"x" * 100_000]))
    run = drive(chunk_framing.app, "/orders.ndjson")
    assert [len(chunk) for chunk in run.chunks] == [65536, 100_000 - 65536]


# Answers


def test_the_sample_gets_these_answers() -> None:
    assert b"".join(upload(chunk_framing.app, "/orders", [SAMPLE]).chunks).decode() == (
        '{"line":1,"taken":5}\n'
        '{"line":2,"error":"amount: Input should be greater than or equal to 1"}\n'
        '{"line":3,"error":"Invalid JSON: EOF while parsing an object at byte 25"}\n'
        '{"line":5,"taken":8}\n'
        '{"done":true,"lines":5}\n'
    )


@pytest.mark.timeout(60)
@given(split(st.just(SAMPLE)))
def test_the_answers_are_the_same_wherever_the_upload_is_cut(
    chunks: list[bytes],
) -> None:
    assert ask(*chunks) == ask(SAMPLE)


def test_the_answer_is_ndjson_too() -> None:
    run = upload(chunk_framing.app, "/orders", [SAMPLE])
    assert run.headers["content-type"] == "application/x-ndjson"


DEEP = b'{"id":1,"item":"tea","amount":1,"x":' + b"[" * 450 + b"]" * 450 + b"}"
BAD = [
    (b"tea", "Invalid JSON: expected ident at byte 2"),
    (b"\xff", "Invalid JSON: expected value at byte 1"),
    (
        TEA.replace(b"tea", b"\xc3("),
        "Invalid JSON: invalid unicode code point at byte 17",
    ),
    (TEA.replace(b"tea", b"te\0a"), "Invalid JSON: control character"),
    (TEA.replace(b"tea", b"te\ra"), "Invalid JSON: control character"),
    (TEA.replace(b"tea", b"\\ud83c"), "Invalid JSON: unexpected end of hex escape"),
    (TEA.replace(b"tea", b""), "item: String should have at least 1 character"),
    (
        TEA.replace(b"tea", b"x" * 101),
        "item: String should have at most 100 characters",
    ),
    (TEA + b"\r" + TEA, "Invalid JSON: trailing characters at byte 34"),
    (TEA + TEA, "Invalid JSON: trailing characters at byte 33"),
    (b"\xef\xbb\xbf" + TEA, "Invalid JSON: expected value at byte 1"),
    (b"[" * 1000, "Invalid JSON: recursion limit exceeded at byte 202"),
    (DEEP, "Invalid JSON: recursion limit exceeded"),
    (
        TEA.replace(b"1,", b"9" * 900 + b","),
        "id: Input should be less than or equal to",
    ),
    (TEA.replace(b"1,", b"1e999,"), "id: Input should be a valid integer"),
    (TEA.replace(b"1,", b"NaN,"), "id: Input should be a valid integer"),
    (TEA.replace(b"1,", b"-Infinity,"), "id: Input should be a valid integer"),
    (TEA.replace(b"1,", b"true,"), "id: Input should be a valid integer"),
    (TEA.replace(b"1,", b'"1",'), "id: Input should be a valid integer"),
    (TEA.replace(b"1,", b"0,"), "id: Input should be greater than or equal to 1"),
    (
        TEA.replace(b"1,", b"9007199254740992,"),
        "id: Input should be less than or equal",
    ),
    (
        TEA.replace(b"1}", b"1001}"),
        "amount: Input should be less than or equal to 1000",
    ),
    (b"null", "Input should be an object"),
    (b"[]", "Input should be an object"),
    (b"{}", "id: Field required"),
]


@pytest.mark.parametrize(("line", "error"), BAD)
def test_a_line_that_is_no_order_is_refused_by_its_number(
    line: bytes, error: str
) -> None:
    _, refused, third, done = ask(TEA + b"\n" + line + b"\n" + TEA + b"\n")
    assert refused.keys() == {"line", "error"}
    assert refused["line"] == 2
    assert str(refused["error"]).startswith(error)
    assert len(str(refused["error"])) < 100
    assert (third["taken"], done) == (1, {"done": True, "lines": 3})


def test_the_standard_library_accepts_nan_and_fails_at_enough_brackets() -> None:
    assert json.loads("NaN") != json.loads("NaN")
    with pytest.raises(RecursionError):
        json.loads("[" * 100_000)


@pytest.mark.parametrize(
    "line",
    [
        TEA,
        TEA + b"\r",
        b" " + TEA + b"\t",
        TEA.replace(b"1,", b"9007199254740991,"),
        TEA.replace(b"1}", b"1000}"),
        TEA.replace(b"tea", b"x" * 100),
        TEA.replace(b"tea", b"\\u0000 \\ud83c\\udf75"),
        TEA.replace(b"}", b',"note":null}'),
    ],
)
def test_a_line_that_is_one_is_taken(line: bytes) -> None:
    taken = ask(line + b"\n")[0]
    assert taken.keys() == {"line", "taken"}
    assert taken["taken"] == json.loads(line)["id"]


@pytest.mark.parametrize("empty", [b"", b"\r", b" \t"])
def test_empty_lines_are_counted_and_not_answered(empty: bytes) -> None:
    assert ask(empty + b"\n" + TEA + b"\n" + empty + b"\n") == [
        {"line": 2, "taken": 1},
        {"done": True, "lines": 3},
    ]


def test_the_last_line_needs_no_line_feed() -> None:
    assert ask(TEA + b"\n", TEA) == [
        {"line": 1, "taken": 1},
        {"line": 2, "taken": 1},
        {"done": True, "lines": 2},
    ]


def test_an_upload_of_nothing_is_done_too() -> None:
    assert ask() == ask(b"") == [{"done": True, "lines": 0}]


def test_no_error_repeats_what_was_sent() -> None:
    """Attack: A refused line holds a secret: no error repeats it."""
    secret = TEA.replace(b'"amount":1', b'"amount":"hunter2"').replace(b"tea", b"")
    assert "hunter2" not in str(ask(secret, b"hunter2"))


hostile = st.lists(
    st.sampled_from(
        [TEA, b"\n", b"\r", b"\0", b"{", b"[[[[", b"NaN", b'"\xc3"', b"9" * 1001]
    )
    | st.binary(max_size=6),
    max_size=8,
).map(b"".join)


@pytest.mark.timeout(60)
@given(split(hostile))
def test_whatever_comes_every_line_is_answered_and_the_last_says_done(
    chunks: list[bytes],
) -> None:
    """Attack: An upload of any bytes: each line is answered, to the end."""
    *replies, done = ask(*chunks)
    lines = expected(b"".join(chunks))
    numbers = [line.number for line in lines if line.content.strip()]
    assert [reply["line"] for reply in replies] == numbers
    assert all(("taken" in reply) != ("error" in reply) for reply in replies)
    assert done == {"done": True, "lines": len(lines)}


# While it arrives


def test_a_line_is_answered_before_the_next_chunk_is_asked_for() -> None:
    run = upload(chunk_framing.app, "/orders", [TEA + b"\n", TEA + b"\n"])
    assert run.journal == [
        "start 200",
        "asked 1",
        "answered 1",
        "asked 2",
        "answered 2",
        "asked 3",
        "answered 3",
        "end",
        "returned",
    ]


@pytest.mark.timeout(60)
@given(split(st.lists(st.sampled_from([TEA, b"\n", b"x"]), max_size=9).map(b"".join)))
def test_no_answer_waits_and_none_that_are_ready_are_sent_apart(
    chunks: list[bytes],
) -> None:
    run = upload(chunk_framing.app, "/orders", chunks)
    reader = LineReader()
    ready = [b"".join(answers(reader.feed(chunk))) for chunk in chunks]
    ended = [*answers([reader.complete(b"")])] if reader.begun else []
    last = to_line({"done": True, "lines": reader.count})
    assert run.chunks == [*filter(None, ready), *ended, last]
    for number, (asked, _) in enumerate(zip(chunks, ready, strict=True), start=1):
        so_far = sum(map(bool, ready[:number]))
        before = run.before(f"asked {number + 1}")
        assert sum("answered" in line for line in before) == so_far, asked


def test_answers_that_are_ready_are_sent_64_kib_at_a_time() -> None:
    run = upload(chunk_framing.app, "/orders", [(TEA + b"\n") * 10_000])
    sizes = [len(chunk) for chunk in run.chunks[:-1]]
    assert CHUNK == 65536
    assert set(sizes[:-1]) == {CHUNK}
    assert 0 < sizes[-1] < CHUNK
    assert len(told(run.body)) == 10_001


def test_others_are_served_between_two_chunks_of_answers() -> None:
    body = b"x\n" * 10_000
    run = drive(
        chunk_framing.app, "/orders", method="POST", body=body, also="/openapi.json"
    )
    assert "/openapi.json end" in run.before("end")


def test_a_client_that_does_not_read_is_not_read_either() -> None:
    chunks = [TEA + b"\n"] * 100
    run = upload(chunk_framing.app, "/orders", chunks, stall_at=3)
    assert "asked 3" in run.before("left")
    assert "asked 4" not in run.before("left")


@pytest.mark.parametrize("moment", [{"stall_at": 3}, {"leave_at": 3}])
def test_a_client_that_leaves_ends_it_without_an_error(moment: dict[str, int]) -> None:
    chunks = [TEA + b"\n"] * 100
    run = upload(chunk_framing.app, "/orders", chunks, **moment)
    assert run.journal[-1] == "returned"
    assert b"done" not in run.body
    assert len(run.journal) < 20


def test_a_half_line_of_a_client_that_left_is_not_taken() -> None:
    run = upload(chunk_framing.app, "/orders", [TEA], leave_at=2)
    assert run.chunks == []


def test_a_server_that_gives_it_up_is_obeyed() -> None:
    chunks = [TEA + b"\n"] * 100
    run = upload(chunk_framing.app, "/orders", chunks, cancel_at=3)
    assert run.journal[-1] == "cancelled"


# The limit of the upload


def test_an_upload_that_says_it_is_too_long_gets_413_and_is_not_read() -> None:
    """Attack: An upload announces too many bytes: 413, and none is read."""
    run = upload(chunk_framing.app, "/orders", [TEA], length=BODY + 1)
    assert (run.status, BODY) == (413, 10_000_000)
    assert run.body == b"Content Too Large"
    assert "asked 1" not in run.before("start 413")


def test_an_upload_that_turns_out_too_long_is_told_so_in_its_last_line() -> None:
    """Attack: An upload grows too long: its last line says 413, reading stops."""
    chunks = [TEA + b"\n", b"\n" * BODY, TEA + b"\n"]
    run = upload(chunk_framing.app, "/orders", chunks)
    assert told(run.body) == [
        {"line": 1, "taken": 1},
        {"failed": "Content Too Large", "status": 413},
    ]
    assert run.journal[-1] == "returned"
    assert "asked 3" not in run.journal


@pytest.mark.parametrize("length", [None, BODY])
def test_an_upload_as_long_as_the_limit_is_read(length: int | None) -> None:
    line = b"x" * 999_999 + b"\n"
    run = upload(chunk_framing.app, "/orders", [line] * 10, length=length)
    assert told(run.body)[-1] == {"done": True, "lines": 10}
