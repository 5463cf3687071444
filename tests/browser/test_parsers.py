"""docs/reading/table.md: the tables are what the clients do with 116 streams."""

import re
from collections import Counter
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.kit import parsers
from tests.kit.parsers import CASES, Got, fault

pytestmark = pytest.mark.timeout(120)  # seconds; all clients read all streams


def without_version(text: str) -> str:
    """Leave out the number of the machine's own Chromium."""
    return re.sub(r"(\| Chromium, .*?\|) \d+", r"\1", text)


def test_the_tables_are_what_the_clients_do(chromium: Browser) -> None:
    found = parsers.everything(chromium)
    kept = parsers.TABLE.read_text("utf-8")
    new = parsers.written(found)
    assert without_version(new) == without_version(kept), (
        "run python -m tests.kit.parsers"
    )
    counted = Counter(
        name
        for _, rows in found.values()
        for row in parsers.faults(rows)
        for name in row
    )
    assert "other" not in counted, "a fault that no sentence describes"
    plain = [n for n, case in enumerate(CASES) if is_plain(parsers.wire(case))]
    assert len(plain) > 40
    for name, (_, rows) in found.items():
        wrong = {CASES[n]["name"] for n in plain if any(parsers.faults(rows)[n])}
        assert wrong == set(), name
    for name in ("Chromium", "sse.js", "kit"):
        assert parsers.faults(found[name][1]) == [["", ""]] * len(CASES)


def is_plain(stream: bytes) -> bool:
    """Tell whether a stream keeps to the six rules of the page."""
    try:
        text = stream.decode("utf-8")
    except UnicodeDecodeError:
        return False
    if "\r" in text or text.startswith("\ufeff") or not text.endswith("\n\n"):
        return False
    for block in filter(None, text.strip("\n").split("\n\n")):
        lines = [line for line in block.split("\n") if not line.startswith(":")]
        fields = [line.partition(":")[::2] for line in lines]
        if lines and "data" not in [name for name, _ in fields]:
            return False
        for name, value in fields:
            if name == "retry" and not re.fullmatch(" ?[0-9]+", value, re.ASCII):
                return False
            if name == "id" and not value.isascii():
                return False
    return True


def right(name: str) -> tuple[dict[str, Any], Got]:
    """Give a case, and what a client makes of it that does all right."""
    case = next(case for case in CASES if case["name"] == name)
    events = [[e["event"], e["data"], e["id"]] for e in case["expected"]]
    told = frozenset({"retry", "last_id"})
    last_id = str(case["last_event_id"])
    return case, Got(events, len(events), case["retry"], last_id, told)


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("id-simple", {}, ""),
        ("retry-simple", {}, ""),
        ("id-simple", {"early": 0}, "late"),
        ("id-simple", {"early": None}, ""),
        ("id-simple", {"last_id": ""}, "id"),
        ("id-simple", {"last_id": None}, "header"),
        ("id-simple", {"last_id": "", "told": frozenset()}, ""),
        ("retry-simple", {"retry": None}, "no wait"),
        ("retry-plus", {"retry": 500}, "wait"),
        ("retry-plus", {"retry": 3000}, ""),
        ("id-simple", {"error": "UnicodeDecodeError"}, "not UTF-8"),
        ("id-simple", {"events": []}, "other"),
        ("eol-cr-one", {"events": []}, "CR"),
        ("bom-one", {"events": []}, "mark"),
        ("eof-no-newline", {"events": [["message", "lost", ""]]}, "cut"),
    ],
)
def test_each_difference_has_its_name(
    name: str, change: dict[str, Any], expected: str
) -> None:
    case, got = right(name)
    assert fault(case, got._replace(**change)) == expected
