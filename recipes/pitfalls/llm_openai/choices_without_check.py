"""Wrong: the chunk with the usage has no choice, and a choice need not have content."""

from collections.abc import AsyncIterator

from openai import AsyncStream
from openai.types.chat import ChatCompletionChunk


# --8<-- [start:wrong]
async def tokens(chunks: AsyncStream[ChatCompletionChunk]) -> AsyncIterator[str]:
    """Take the first choice of every chunk."""
    async for chunk in chunks:
        yield f"{chunk.choices[0].delta.content}"


# --8<-- [end:wrong]
