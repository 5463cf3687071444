"""docs/learn/cancellation.md: what runs when a client leaves, and in which order."""

import asyncio

import pytest

from cookbook.catalog import ROOT
from docs.learn import cancellation
from tests.kit import cancelled
from tests.kit.cancelled import CASES, journal
from tests.kit.servers import raw_get, uvicorn

PAGE = (ROOT / "docs/learn/cancellation.md").read_text("utf-8")


def test_the_journals_are_up_to_date() -> None:
    kept = cancelled.TEXT.read_text("utf-8")
    assert cancelled.text() == kept, "run python -m tests.kit.cancelled"


def test_every_journal_is_shown() -> None:
    shown = [name for name in CASES if f'cancellation.txt:{name}"' in PAGE]
    assert shown == list(CASES)


@pytest.mark.parametrize("name", ["await", "yield"])
def test_by_hand_the_generator_ends_first_then_background_then_dependency(
    name: str,
) -> None:
    lines = journal(CASES[name]).before("returned")
    steps = ["CancelledError at the await", "finally", "background"]
    assert lines[-4:] == [*steps, "the dependency is left"]


def test_an_endpoint_that_is_paused_at_its_yield_is_not_closed() -> None:
    run = journal(CASES["native-slow"])
    assert "the dependency is left" in run.journal
    assert not {"finally", "CancelledError at the await"} & set(run.journal)
    assert len(run.chunks) == 2
    assert "order 7" in run.journal
    assert "order 8" not in run.journal
    assert "it had two, and seven were made" in PAGE
    assert isinstance(run.error, ExceptionGroup)
    assert "BrokenResourceError" in repr(run.error.exceptions)


def test_a_dependency_closes_it_at_its_yield() -> None:
    lines = journal(CASES["closed-slow"]).before("raised ExceptionGroup")
    assert lines[-2:] == ["GeneratorExit at the yield", "finally"]


@pytest.mark.parametrize("name", ["native", "closed"])
def test_one_that_waits_at_an_await_is_cancelled_there(name: str) -> None:
    lines = journal(CASES[name]).before("returned")
    at = lines.index("CancelledError at the await")
    assert lines[at + 1] == "finally"


def test_a_thread_is_not_cancelled_and_its_finally_waits_for_the_collector() -> None:
    lines = journal(CASES["thread"]).before("returned")
    after = lines[lines.index("disconnect") + 1 :]
    slept = "the thread has slept to the end"
    assert after == [slept, "order 2", "the dependency is left"]


def test_an_await_in_finally_needs_a_shield() -> None:
    assert "saved" not in journal(CASES["unshielded"]).journal
    assert "saved" in journal(CASES["shielded"]).before("returned")


def test_a_shield_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(cancellation, "save", hang)
    monkeypatch.setattr(cancellation, "CLEAN_UP", 0)
    assert journal(CASES["shielded"]).journal[-1] == "returned"


@pytest.mark.timeout(60)
def test_a_real_server_runs_the_same_steps() -> None:
    with uvicorn("docs.learn.cancellation:app") as server:
        with raw_get(server.port, "/by-hand") as answer:
            assert answer.chunk() == b"order 1\n"
            assert answer.chunk() == b"order 2\n"
        said = server.expect("the dependency is left").splitlines()
        at = said.index("CancelledError at the await")
        assert said[at + 1 :] == ["finally", "background", "the dependency is left"]
        with raw_get(server.port, "/thread") as answer:
            assert answer.chunk() == b"order 1\n"
        said = server.expect("the dependency is left").splitlines()
        assert "the thread has slept to the end" in said
        assert "finally" not in said
