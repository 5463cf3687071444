"""docs/pitfalls/tokens.md: EventSource fires no message although curl shows the tokens.

What Chromium makes of it is in tests/browser/test_llm_text.py.
"""

import pytest
from starlette.types import ASGIApp

from recipes import llm_openai, llm_text
from recipes.pitfalls.llm_text import event_stream_without_events as wrong
from tests.kit import sse
from tests.kit.asgi import Run, drive

TEXT = "Tea is hot because the water was."


pytestmark = pytest.mark.usefixtures("provider")


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose the scenario."""
    monkeypatch.setenv("OPENAI_MODEL", "ok")


def ask(app: ASGIApp) -> tuple[Run, str]:
    """Give the answer, and the media type that it claims to have."""
    run = drive(app, "/answer?prompt=x&model=ok")
    return run, run.headers["content-type"].partition(";")[0]


def test_wrong_the_text_is_there_and_no_event_is() -> None:
    run, kind = ask(wrong.app)
    assert (run.body.decode(), kind) == (TEXT, "text/event-stream")
    assert sse.parse(run.chunks).events == []


def test_right_text_is_called_text() -> None:
    run, kind = ask(llm_text.app)
    assert (run.body.decode(), kind) == (TEXT, "text/plain")


def test_right_what_is_called_an_event_stream_has_events() -> None:
    run, kind = ask(llm_openai.app)
    assert kind == "text/event-stream"
    assert len(sse.parse(run.chunks).events) == 10
