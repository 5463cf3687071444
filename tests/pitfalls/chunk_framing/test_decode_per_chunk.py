"""docs/pitfalls/bytes.md: UnicodeDecodeError: unexpected end of data."""

import itertools

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from recipes.chunk_framing import orders, rechunk
from recipes.pitfalls.chunk_framing.decode_per_chunk import app, decoded
from tests.kit.asgi import drive

TEXT = b"".join(orders()).decode()


def test_half_a_character_breaks_the_answer_off() -> None:
    run = drive(app, "/text?size=29")
    assert str(run.error).endswith("position 28: unexpected end of data")
    assert "end" not in run.journal


def test_hiding_the_error_loses_the_character() -> None:
    body = TestClient(app).get("/replaced?size=29").text
    assert "cr��me brûlée" in body
    assert body.replace("��", "è") == TEXT


@pytest.mark.parametrize("size", range(1, len(TEXT.encode()) + 1))
def test_an_incremental_decoder_reads_chunks_of_any_size(size: int) -> None:
    assert "".join(decoded(rechunk(orders(), size))) == TEXT


def test_so_does_its_route() -> None:
    assert TestClient(app).get("/whole?size=29").text == TEXT


@pytest.mark.timeout(60)
@given(st.text(max_size=20), st.lists(st.integers(0, 80), max_size=8))
def test_no_cut_hurts_any_text(text: str, cuts: list[int]) -> None:
    body = text.encode()
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    chunks = [body[a:b] for a, b in itertools.pairwise(places)]
    assert "".join(decoded(iter(chunks))) == text


def test_half_a_character_at_the_end_is_an_error() -> None:
    with pytest.raises(UnicodeDecodeError, match="unexpected end of data"):
        list(decoded(iter(["é".encode()[:1]])))


def test_one_chunk_hides_the_mistake() -> None:
    assert drive(app, "/text?size=1000000").error is None
