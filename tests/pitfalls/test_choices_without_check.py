"""docs/pitfalls.md: IndexError on the last chunk of a model's answer."""

import asyncio
from collections.abc import AsyncIterator, Callable

import openai
import pytest

from cookbook.llm import scripted
from recipes.llm_openai import Chunks, Token, answer
from recipes.pitfalls import choices_without_check as wrong


async def right(chunks: Chunks) -> AsyncIterator[str]:
    """Give the texts of the recipe's tokens."""
    async for event in answer(chunks):
        if isinstance(event, Token):
            yield event.text


@pytest.mark.parametrize(
    ("tokens", "texts", "error"),
    [
        (wrong.tokens, ["", "Tea", "None", " is", "None"], IndexError),
        (right, ["Tea", " is", " hot", "."], None),
    ],
    ids=["wrong", "right"],
)
def test_a_chunk_may_have_no_choice_and_a_choice_no_content(
    tokens: Callable[[Chunks], AsyncIterator[str]],
    texts: list[str],
    error: type[Exception] | None,
) -> None:
    async def collect(url: str) -> tuple[list[str], type[Exception] | None]:
        found = list[str]()
        async with (
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client,
            await client.chat.completions.create(
                model="null-content",
                messages=[{"role": "user", "content": "Why is tea hot"}],
                stream=True,
                stream_options={"include_usage": True},
            ) as chunks,
        ):
            try:
                async for text in tokens(chunks):
                    found.append(text)
            except IndexError:
                return found, IndexError
        return found, None

    with scripted.running() as provider:
        found, raised = asyncio.run(collect(provider.url))
    assert found[: len(texts)] == texts
    assert raised is error
