"""docs/learn/watch.md: its commands print what it shows."""

import re

from cookbook.catalog import ROOT
from cookbook.view import FOUND, STATUS
from tests.kit import watched
from tests.test_check import SIGHTS

PAGE = (ROOT / "docs/learn/watch.md").read_text("utf-8")
NUMBERS = {24: "Twenty-four"}


def test_the_commands_print_what_the_page_shows() -> None:
    kept = watched.RECORD.read_text("utf-8")
    assert watched.without_times(watched.record()) == watched.without_times(kept)
    for command in watched.ALL:
        assert f"\n{command}\n" in PAGE


def test_the_page_lists_every_exit_status_and_counts_the_pitfalls() -> None:
    rows = re.findall(r"^\| (\d) \|([^|]*)\|", PAGE, re.MULTILINE)
    listed = {
        word: int(n) for n, words in rows for word in re.findall(r"`(.+?)`", words)
    }
    assert listed == {word: n for word, n in STATUS.items() if word != "no answer"}
    assert [int(number) for number, _ in rows] == list(range(FOUND + 1))
    assert f"{NUMBERS[len({sight.pitfall for sight in SIGHTS})]} pitfalls" in PAGE
