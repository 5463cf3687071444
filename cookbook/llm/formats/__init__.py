"""Three vendors' wire formats, as plain generators that know nothing of HTTP.

`answer` says what an answer is. `chat`, `responses` and `messages` each put it into
events and into JSON. Where the documentation leaves something open, the types of the
official SDKs decide: the tests hold every event against them.
"""

from collections.abc import Sequence

from cookbook.llm.formats import chat, messages, responses
from cookbook.llm.formats.answer import CREATED, Format, Json

FORMATS: dict[str, Format] = {
    "/chat/completions": chat.FORMAT,
    "/responses": responses.FORMAT,
    "/messages": messages.FORMAT,
}


def openai_models(names: Sequence[str]) -> Json:
    """List models as OpenAI does."""
    more = {"object": "model", "created": CREATED, "owned_by": "scripted"}
    return {"object": "list", "data": [{"id": name, **more} for name in names]}


def anthropic_models(names: Sequence[str]) -> Json:
    """List models as Anthropic does; there has to be one."""
    more = {
        "type": "model",
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
    }
    return {
        "data": [{"id": name, "display_name": name, **more} for name in names],
        "has_more": False,
        "first_id": names[0],
        "last_id": names[-1],
    }
