"""Wrong and right side by side: the pairs of the pages, and their recordings."""

import gc
import re
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from cookbook import pairs
from cookbook.catalog import ROOT
from cookbook.pairs import Pair
from cookbook.transcript import without_times

SHOWN = pairs.pairs()
COUNTS = re.compile(r"^-, (\w+): .*\n?", re.MULTILINE)


def steady(recording: str) -> list[tuple[str, str]]:
    """Give how each answer ended, and what has to be the same in each recording."""
    found = []
    for answer in re.split(r"^\$ ", without_times(recording), flags=re.MULTILINE)[1:]:
        ended = COUNTS.findall(answer)
        assert len(ended) == 1, answer
        found.append((ended[0], COUNTS.sub("", answer).rstrip()))
    return found


@pytest.fixture(scope="module")
def fresh() -> Mapping[str, str]:
    """Record all pairs anew, at once: most of the time they only wait."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with ThreadPoolExecutor(len(SHOWN)) as pool:
            recorded = list(pool.map(pairs.record, SHOWN))
        gc.collect()  # One of them never awaits its coroutine.
    names = [one.pitfall.name for one in SHOWN]
    return dict(zip(names, recorded, strict=True))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("one", SHOWN, ids=lambda one: one.pitfall.name)
def test_a_recording_is_what_both_answer_today(
    one: Pair, fresh: Mapping[str, str]
) -> None:
    kept = steady(one.file.read_text("utf-8"))
    found = steady(fresh[one.pitfall.name])
    assert len(kept) == len(found) == 2
    assert found[0] != found[1], "wrong and right look the same"
    for (ended, text), (ended_now, text_now) in zip(kept, found, strict=True):
        assert ended == ended_now, "run make docs to record anew"
        if ended == "stopped":  # By a clock: a chunk more or less may have come.
            text, text_now = sorted([text, text_now], key=len)
            assert text_now.startswith(text)
        else:
            assert text == text_now, "run make docs to record anew"


def test_at_least_fifteen_pitfalls_are_shown_beside_the_right_version() -> None:
    assert len(SHOWN) >= 15


def test_no_recording_is_left_of_a_pair_that_no_page_shows() -> None:
    kept = set((ROOT / "docs/transcripts/pitfalls").rglob("*.txt"))
    assert kept == {one.file for one in SHOWN}


def test_the_wrong_request_is_the_last_of_try_it_and_the_right_one_is_looked_up() -> (
    None
):
    own = pairs.pair("sse_basic/dict_as_data", "/json-events")
    assert own.own
    assert [own.wrong[1].path, own.right[1].path] == ["/events", "/json-events"]
    recipe = pairs.pair("plain_text/joined_before_sending", "/async/1")
    assert not recipe.own
    assert recipe.right[0] == "curl -N http://127.0.0.1:8000/async/1"
    same = pairs.pair("csv_export/formula_cells", None)
    assert same.wrong == same.right
    assert not same.own


@pytest.mark.parametrize(
    ("name", "right", "reason"),
    [
        ("sse_basic/none", None, "there is no pitfall"),
        ("../sse_basic", None, "there is no pitfall"),
        ("llm_text/error_as_text", None, "cannot be run in a panel"),
        ("sse_broadcast/unbounded_queue", None, "cannot be run in a panel"),
        ("sse_basic/dict_as_data", "/other", "tries '/other'"),
    ],
)
def test_a_panel_that_names_what_is_not_there_is_an_error(
    name: str, right: str | None, reason: str
) -> None:
    with pytest.raises(LookupError, match=reason):
        pairs.pair(name, right)


def test_each_panel_of_a_page_is_read() -> None:
    written = 0
    for page in (ROOT / "docs").rglob("*.md"):
        written += page.read_text("utf-8").count("<live-panel wrong=")
    assert written == len(SHOWN)
