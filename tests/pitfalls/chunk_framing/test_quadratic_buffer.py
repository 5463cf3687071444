"""docs/pitfalls/bytes.md: reading lines from a stream gets slower and slower."""

import operator
from collections.abc import Callable, Iterable

import pytest
from fastapi.testclient import TestClient

from recipes import chunk_framing
from recipes.pitfalls.chunk_framing import quadratic_buffer as wrong
from tests.kit.work import Seen, counting


def by_the_wrong_one(chunks: Iterable[bytes]) -> list[bytes]:
    return list(wrong.read_lines(chunks, empty=Seen()))


def by_the_recipe(chunks: Iterable[bytes]) -> list[bytes]:
    reader = chunk_framing.LineReader()
    return [line.content for chunk in chunks for line in reader.feed(chunk)]


@pytest.mark.parametrize(
    ("read", "least", "most"), [(by_the_wrong_one, 3.8, 4.1), (by_the_recipe, 1.9, 2.1)]
)
def test_twice_as_many_chunks_of_one_line_are_four_times_the_work_or_twice(
    read: Callable[[Iterable[bytes]], list[bytes]],
    least: float,
    most: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunk_framing, "LINE", 10**9)
    totals = []
    for chunks in (1000, 2000):
        module = chunk_framing if read is by_the_recipe else wrong
        with counting(module) as work:
            lines = read([*[Seen(b"ten bytes.")] * chunks, Seen(b"\n")])
        assert lines == [b"ten bytes." * chunks]
        totals.append(work.total)
    assert least < totals[1] / totals[0] < most


def test_it_touches_two_thousand_times_the_bytes_that_came() -> None:
    client = TestClient(wrong.app)
    counts = [client.get(f"/work?chunks={n}").json() for n in (1000, 2000)]
    assert counts == [
        {"bytes": 10_000, "touched": 10_010_000},
        {"bytes": 20_000, "touched": 40_020_000},
    ]


def test_what_counts_takes_nothing_but_bytes() -> None:
    with pytest.raises(TypeError):
        operator.add(wrong.Counted(b""), 1)
