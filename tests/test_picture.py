"""What the notebooks draw: the marks are where the numbers are, and words say them."""

import re
from html import unescape

import pytest

from cookbook.picture import Picture, histogram, lines, timeline

ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')


def parts(picture: Picture, name: str) -> list[dict[str, str]]:
    """Give the attributes of each part of this name, without the legend's."""
    svg = picture._repr_html_()
    root = dict(ATTRIBUTE.findall(svg.partition(">")[0]))
    said = unescape(root["aria-label"])
    assert (root["role"], said) == ("img", picture.words)
    found = [dict(ATTRIBUTE.findall(tag)) for tag in re.findall(rf"<{name} .*?>", svg)]
    return [part for part in found if part.get("width") != "12"]


def test_a_bar_is_as_long_as_its_time_and_a_moment_is_a_mark() -> None:
    rows = {
        "ada": [(0.0, 1.0, "waits"), (1.0, 1.5, "reads")],
        "bob": [(2.0, 2.0, "hi")],
    }
    bars = parts(timeline("Who waits", rows), "rect")
    waits, reads, mark = (float(bar["width"]) for bar in bars)
    assert waits == pytest.approx(2 * reads, abs=0.2)
    assert mark == 3
    assert len({bar["fill"] for bar in bars}) == 3


def test_a_moment_is_a_dashed_line_with_its_name() -> None:
    picture = timeline("Tea", {"ada": [(0.0, 2.0, "pours")]}, {"<full>": 1.0})
    (line,) = [path for path in parts(picture, "path") if "stroke-dasharray" in path]
    (bar,) = parts(picture, "rect")
    middle = float(bar["x"]) + float(bar["width"]) / 2
    at = re.match(r"M([\d.]+) ", line["d"])
    assert at
    assert float(at[1]) == pytest.approx(middle, abs=0.2)
    assert picture.words == "Tea. ada: pours 0.00 to 2.00 s; <full> at 1.00 s"


def test_a_line_goes_through_its_points() -> None:
    series = {
        "streamed": {1000.0: 5.0, 2000.0: 5.0},
        "joined": {1000.0: 5.0, 2000.0: 10.0},
    }
    picture = lines("Memory", series, across="rows", up="kB")
    points = [(float(c["cx"]), float(c["cy"])) for c in parts(picture, "circle")]
    flat, steep = points[:2], points[2:]
    assert flat[0] == steep[0]
    assert flat[0][1] == flat[1][1] > steep[1][1]
    assert picture.words.startswith(
        "Memory, kB over rows. streamed: 5 at 1,000, 5 at 2,000;"
    )


def test_a_column_is_as_high_as_its_value_is_frequent() -> None:
    values = {"feed": [1.0, 1.0, 2.0], "queues": [1.0, 90.0, 95.0]}
    picture = histogram("Lag", values, "ms")
    heights = [float(bar["height"]) for bar in parts(picture, "rect")]
    assert heights == [150, 50, 100]
    assert (
        "queues: 3 values, half of them below 90 ms, the largest 95 ms" in picture.words
    )
    assert repr(picture) == f"<Picture {picture.words}>"
