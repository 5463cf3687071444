"""docs/learn/tokens.md: what a token is, when the first one comes, what is counted."""

import json
import re
from collections.abc import Iterator

import httpx2
import pytest

from cookbook.catalog import ROOT
from cookbook.llm import local, scripted
from tests.kit import local_tokens, sse, tokens
from tests.kit.servers import WAIT, need

PAGE = (ROOT / "docs/learn/tokens.md").read_text("utf-8")

pytestmark = pytest.mark.timeout(120)  # the model computes


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Give one model to all tests of this file."""
    if reason := local.available():
        need("the local model", reason)
    with local.running() as model:
        yield model.url


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in lines[2:]]


def section(text: str, name: str) -> str:
    rest = text.partition(f"--8<-- [start:{name}]\n")[2]
    return rest.partition(f"--8<-- [end:{name}]")[0]


def test_the_tables_are_up_to_date(url: str) -> None:
    kept = local_tokens.TABLE.read_text("utf-8")
    assert local_tokens.text(url) == kept, "run python -m tests.kit.local_tokens"


def test_tokens_joined_are_the_text_and_spaces_belong_to_the_next_word(
    url: str,
) -> None:
    for text in local_tokens.TEXTS:
        found = local_tokens.tokens(url, text)
        parts = [p if isinstance(p, bytes) else p.encode() for p in found]
        assert b"".join(parts).decode() == text
    assert " tea" in local_tokens.tokens(url, local_tokens.QUESTION)


def test_a_token_can_be_less_than_a_character(url: str) -> None:
    found = local_tokens.tokens(url, local_tokens.CUP)
    assert [len(token) for token in found] == [2, 1, 1]
    for token in found:
        assert isinstance(token, bytes)
        with pytest.raises(UnicodeDecodeError):
            token.decode()


def test_a_character_of_three_tokens_arrives_as_one_chunk(url: str) -> None:
    answer = local_tokens.cup(url)
    assert answer.chunks == [local_tokens.CUP]
    # And one more, which says that this is the end.
    assert answer.usage["completion_tokens"] == 3 + 1


def test_a_longer_question_is_more_to_read_before_the_first_token(url: str) -> None:
    read = [
        local_tokens.ask(url, " ".join(["Why?"] * times), max_tokens=1).read
        for times in (1, 10)
    ]
    assert read[0] < read[1]


def test_the_measured_table_says_what_the_page_says() -> None:
    found = rows(local_tokens.MEASURED.read_text("utf-8"))
    assert len(found) == len(local_tokens.TIMES)
    questions = [int(row[0]) for row in found]
    firsts = [float(row[1].removesuffix(" times")) for row in found]
    shares = [int(row[2].removesuffix("%")) for row in found]
    for numbers in (questions, firsts, shares):
        assert numbers == sorted(set(numbers))
    assert shares[-1] > 50, "most of the wait is before the first token"


def test_a_stream_has_its_first_token_when_only_one_is_made() -> None:
    with scripted.running(pace=0) as provider:
        body = {"model": "gated", "stream": True, "messages": []}
        way = f"{provider.url}/v1/chat/completions"
        with httpx2.stream("POST", way, json=body, timeout=WAIT) as response:
            lines = response.iter_lines()
            assert '"role"' in next(lines)
            provider.go(1)
            first = next(line for line in lines if '"content":"' in line)
            assert json.loads(first.removeprefix("data: "))["choices"]
            assert provider.requests()[0].tokens_made == 1


def test_chunks_are_not_tokens_with_other_providers_either() -> None:
    """One chunk of the network holds three events, or ends inside a character."""
    scenarios = scripted.load()
    assert scenarios["joined-events"].join == 3
    assert "utf8-split" in scenarios


def test_thoughts_are_counted() -> None:
    text = section(tokens.TABLE.read_text("utf-8"), "thinking")
    events = sse.parse([text.encode()]).events
    kinds = [event.event for event in events]
    assert (kinds.count("thinking"), kinds.count("token")) == (6, 4)
    assert json.loads(events[-1].data)["usage"]["completion_tokens"] == 6 + 4
    said = "six pieces of thought and four of text, and reports ten"
    assert said in " ".join(PAGE.split())


def test_the_figures_of_the_recipe_are_those_of_its_benchmark() -> None:
    report = (ROOT / "docs/benchmarks/llm_openai.md").read_text("utf-8")
    found = re.search(r"20 ms later \(99th percentile\) \| ([\d.]+) ms", report)
    assert found
    assert float(found[1]) < 2
    assert "less than two\nmilliseconds for 99 of 100 tokens" in PAGE


def test_four_words_a_second_are_four_to_five_tokens(url: str) -> None:
    english = local_tokens.ENGLISH
    found = len(local_tokens.tokens(url, english))
    assert round(238 / 60) == 4
    assert 4 < 4 * found / len(english.split()) < 5
    assert "four to five tokens of this model" in PAGE
