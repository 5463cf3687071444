"""The parser of the kit reads every stream as the WHATWG standard says."""

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NotRequired, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.sse import Event, Parsed, parse


class Case(TypedDict):
    """One stream of sse_cases.json, and what a client must make of it."""

    name: str
    stream: str
    encoding: str
    expected: list[dict[str, str]]
    retry: int | None
    last_event_id: str
    chunk_sizes: NotRequired[list[int]]


CASES: list[Case] = json.loads(
    Path(__file__).with_name("sse_cases.json").read_text("utf-8")
)
every_case = pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])


def wire(case: Case) -> bytes:
    if case["encoding"] == "base64":
        return base64.b64decode(case["stream"])
    return case["stream"].encode(case["encoding"])


def expected(case: Case) -> Parsed:
    events = [Event(**event) for event in case["expected"]]
    return Parsed(events, case["retry"], case["last_event_id"])


def cut(stream: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    for size in sizes:
        yield stream[:size]
        stream = stream[size:]
    yield stream


def test_there_are_116_cases() -> None:
    assert len({case["name"] for case in CASES}) == 116


@every_case
def test_a_whole_stream_is_read_by_the_standard(case: Case) -> None:
    assert parse([wire(case)]) == expected(case)


@every_case
def test_a_stream_of_single_bytes_is_read_by_the_standard(case: Case) -> None:
    assert parse(cut(wire(case), [1] * len(wire(case)))) == expected(case)


@every_case
def test_a_stream_in_its_own_chunks_is_read_by_the_standard(case: Case) -> None:
    assert parse(cut(wire(case), case.get("chunk_sizes", []))) == expected(case)


PIECES = [b"data", b"event", b"id", b"retry", b":", b" ", b"\r", b"\n", b"\r\n", b"7"]
PIECES += [b"\0", "é€🫖".encode(), b"\xef\xbb\xbf", b"\xff", b"\xe2\x82"]


@given(st.lists(st.sampled_from(PIECES)).map(b"".join), st.lists(st.integers(0, 9)))
def test_where_a_stream_is_cut_never_changes_its_meaning(
    stream: bytes, sizes: list[int]
) -> None:
    assert parse(cut(stream, sizes)) == parse([stream])


@pytest.mark.timeout(20)
def test_a_megabyte_in_single_bytes_is_joined_only_once() -> None:
    # Joining at every byte would copy 500 GB, minutes past the limit of this test.
    size = 1024 * 1024
    stream = b"data:" + b"x" * size + b"\n\n"
    single_bytes = (stream[n : n + 1] for n in range(len(stream)))
    assert [len(event.data) for event in parse(single_bytes).events] == [size]
