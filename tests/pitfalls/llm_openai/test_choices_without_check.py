"""docs/pitfalls/tokens.md: IndexError on the last chunk of a model's answer."""

import asyncio
from collections.abc import AsyncIterator, Callable

import openai
import pytest

from cookbook.llm import scripted
from recipes.llm_openai import Chunks, Token, answer
from recipes.pitfalls.llm_openai import choices_without_check as wrong

Tokens = Callable[[Chunks], AsyncIterator[str]]
SAID = ["Tea", " is", " hot", " because", " the", " water", " was", "."]


async def right(chunks: Chunks) -> AsyncIterator[str]:
    """Give the texts of the recipe's tokens."""
    async for event in answer(chunks):
        if isinstance(event, Token):
            yield event.text


async def collect(tokens: Tokens, url: str, model: str, usage: bool) -> list[str]:
    """Give the tokens up to an IndexError, which is the last then."""
    found = list[str]()
    async with (
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client,
        await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Why is tea hot"}],
            stream=True,
            stream_options={"include_usage": usage},
        ) as chunks,
    ):
        try:
            async for text in tokens(chunks):
                found.append(text)
        except IndexError as error:
            found.append(type(error).__name__)
    return found


@pytest.mark.parametrize(
    ("tokens", "without_usage", "with_usage"),
    [
        (wrong.tokens, [*SAID, "None"], [*SAID, "None", "IndexError"]),
        (right, SAID, SAID),
    ],
    ids=["wrong", "right"],
)
def test_the_chunk_with_the_usage_has_no_choice_and_the_last_choice_no_content(
    tokens: Tokens, without_usage: list[str], with_usage: list[str]
) -> None:
    with scripted.running(pace=0) as provider:
        for usage, expected in ((False, without_usage), (True, with_usage)):
            found = asyncio.run(collect(tokens, provider.url, "ok", usage))
            assert [text for text in found if text] == expected
