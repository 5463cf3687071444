"""docs/learn/wire_formats.md: the same three orders in each format, and its rules."""

import codecs
import email
import json
import re
from typing import Any

import pytest

from cookbook.catalog import ROOT
from recipes import chunk_framing
from tests.kit import formats
from tests.kit.asgi import drive
from tests.kit.sse import Event, parse

BOM = "\ufeff"
ORDERS = [
    {"id": 1, "item": "green tea", "amount": 2},
    {"id": 2, "item": "crème brûlée", "amount": 4},
    {"id": 3, "item": "honey", "amount": 6},
]


def test_the_page_shows_what_the_recipes_send_now() -> None:
    kept = formats.RECORD.read_text("utf-8")
    assert kept == formats.record(), "run make docs to record anew"


def test_all_formats_carry_the_same_three_orders() -> None:
    lines = formats.ndjson().decode().split("\n")
    assert [json.loads(line) for line in lines[:-1]] == ORDERS
    assert lines[-1] == ""
    events = parse([formats.events()]).events
    assert [json.loads(event.data) for event in events] == ORDERS
    assert {event.event for event in events} == {"order"}
    texts = [f"{o['id']}: {o['amount']} of {o['item']}\n" for o in ORDERS]
    assert formats.text().decode() == "".join(texts)
    kind, body = formats.multipart()
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    parts: Any = message.get_payload()
    # The line end before a boundary is not the part's; the order's own is there.
    assert [part.get_payload(decode=True).decode() for part in parts] == texts
    assert body.endswith(b"--\r\n")
    dechunked = re.sub(rb"(^|\r\n)[0-9a-f]+\r\n", b"", formats.chunked()[-300:])
    assert dechunked.endswith(formats.ndjson() + b"\r\n")


# --- Text -----------------------------------------------------------------------------


def test_the_second_line_has_21_letters_and_24_bytes() -> None:
    line = formats.text().split(b"\n")[1] + b"\n"
    assert (len(line.decode()), len(line)) == (21, 24)


def test_half_a_letter_cannot_be_decoded_alone() -> None:
    whole = formats.text()
    half = whole.index(b"\xc3") + 1
    with pytest.raises(UnicodeDecodeError, match="unexpected end of data"):
        whole[:half].decode()
    decode = codecs.getincrementaldecoder("utf-8")().decode
    assert decode(whole[:half]) + decode(whole[half:]) == whole.decode()


# --- NDJSON ---------------------------------------------------------------------------


def test_a_line_feed_in_a_value_and_a_cr_at_the_end_do_no_harm() -> None:
    assert json.dumps("a\nb") == r'"a\nb"'
    assert json.loads(b'{"id": 1}\r') == {"id": 1}


def test_splitlines_cuts_a_line_that_json_may_have() -> None:
    line = '{"item": "a\u2028b"}'
    assert json.loads(line) == {"item": "a\u2028b"}
    assert len(line.splitlines()) == 2
    assert line.split("\n") == [line]


def test_the_recipe_takes_a_last_line_without_its_line_feed_and_skips_empty_ones() -> (
    None
):
    lines = formats.ndjson().replace(b"\n", b"\n\n").removesuffix(b"\n\n")
    answers = drive(chunk_framing.app, "/orders", method="POST", body=lines).body
    taken = [json.loads(line).get("taken") for line in answers.splitlines()]
    assert taken == [1, 2, 3, None]
    with pytest.raises(json.JSONDecodeError):
        json.loads("")


def test_half_a_line_can_look_whole() -> None:
    assert json.loads(b"123"[:2]) == 12


def test_a_bom_is_an_error() -> None:
    assert BOM.encode() == b"\xef\xbb\xbf"
    with pytest.raises(json.JSONDecodeError, match="BOM"):
        json.loads(f'{BOM}{{"id": 1}}')


def test_python_writes_nan_unless_it_is_told_not_to() -> None:
    assert json.dumps(float("nan")) == "NaN"
    with pytest.raises(ValueError, match="not JSON compliant"):
        json.dumps(float("nan"), allow_nan=False)


# --- Events ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", formats.RULES.values())
def test_each_rule_is_a_case_that_the_parser_reads_so(name: str) -> None:
    case = formats.cases()[name]
    parsed = parse([formats.sent(case)])
    assert parsed.events == [Event(**event) for event in case["expected"]]
    assert parsed.retry == case["retry"]


@pytest.mark.parametrize(
    ("name", "retry"),
    [("retry-letters", None), ("retry-uppercase-field", None), ("retry-simple", 500)],
)
def test_the_rules_of_retry_are_seen_in_the_time_and_not_in_the_data(
    name: str, retry: int | None
) -> None:
    assert parse([formats.sent(formats.cases()[name])]).retry == retry


def test_a_parser_that_cuts_six_letters_fails_without_a_space() -> None:
    stream = formats.sent(formats.cases()["data-url"]).decode()
    assert stream.split("\n")[0][6:] == "ttp://x.example/?a=b:c"


def test_a_line_end_in_data_makes_two_events() -> None:
    text = "one\n\ndata: two"
    assert len(parse([f"data: {text}\n\n".encode()]).events) == 2
    safe = parse([f"data: {json.dumps(text)}\n\n".encode()]).events
    assert [json.loads(event.data) for event in safe] == [text]


# --- Chunks ---------------------------------------------------------------------------


def test_a_chunk_ends_inside_a_word_and_inside_a_letter() -> None:
    body = formats.ndjson()
    size = formats.SIZE
    assert f"{size:x}" == "1d"
    assert body[:size].endswith(b'"a')
    with pytest.raises(UnicodeDecodeError):
        body[: 2 * size].decode()
    assert formats.chunked().endswith(b"\r\n0\r\n\r\n")


def test_the_parser_of_the_tests_has_about_80_lines() -> None:
    assert len((ROOT / "tests/kit/sse.py").read_text("utf-8").splitlines()) <= 85
