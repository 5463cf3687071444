"""Draw what a notebook has measured: bars in time, lines, and how often a value came.

Each picture is a few lines of SVG. It takes its colours from the text around it, so it
can be read on light and on dark, and says in words what it shows to whoever cannot see.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from cookbook.watch import axis

WIDTH, EDGE = 480, 8  # px
LEFT = 64  # px, for the numbers of an axis
LETTER = 7  # px, about the width of one
ROW, HEIGHT = 24, 150  # px: a row of bars; a field with lines or columns
# Each can be told from white and from black: at least 3 to 1.
COLORS = ("#0d9488", "#d9480f", "#3f7fbf", "#8a63d2")
PALE = 'stroke="currentColor" stroke-opacity="0.35" fill="none"'

Bar = tuple[float, float, str]  # from, to, and what it is


@dataclass(frozen=True)
class Picture:
    """A drawing that a notebook shows; `words` are its alternative text."""

    words: str
    height: int  # px
    inside: str  # SVG

    def __repr__(self) -> str:
        return f"<Picture {self.words}>"

    def _repr_html_(self) -> str:
        """Show it in a notebook. As HTML: an image would not get the text's colour."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" '
            f'viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" '
            f'style="max-width:100%;display:block" font-family="sans-serif" '
            f'font-size="13" fill="currentColor" aria-label="{escape(self.words)}">'
            f"{self.inside}</svg>"
        )


def timeline(
    title: str,
    rows: Mapping[str, Sequence[Bar]],
    moments: Mapping[str, float] | None = None,
) -> Picture:
    """Draw a row of bars for each name, along one axis of seconds.

    A bar that begins where it ends is a mark. `moments` are dashed lines through all
    rows, each with its name.
    """
    moments = moments or {}
    ends = [end for bars in rows.values() for _, end, _ in bars]
    span, ticks = axis(max([*ends, *moments.values()], default=0))
    left = EDGE + LETTER * max(map(len, rows))
    field = WIDTH - left - 3 * EDGE
    colors = _colors(kind for bars in rows.values() for _, _, kind in bars)
    top = ROW if len(colors) > 1 else 0
    floor = top + ROW * len(rows)

    def x(seconds: float) -> float:
        return round(left + field * seconds / span, 1)

    drawn = [_legend(colors)] if top else []
    for number, (name, bars) in enumerate(rows.items()):
        y = top + ROW * number
        drawn.append(f'<text x="0" y="{y + 16}">{escape(name)}</text>')
        for start, end, kind in bars:
            width = max(3, x(end) - x(start))
            drawn.append(
                f'<rect x="{x(start):g}" y="{y + 4}" width="{width:g}" height="16" '
                f'fill="{colors[kind]}"/>'
            )
    drawn.append(f'<path d="M{left} {floor + 0.5}H{WIDTH - EDGE}" {PALE}/>')
    drawn += [
        f'<text x="{x(tick):g}" y="{floor + 16}" text-anchor="middle">{tick:g} s</text>'
        for tick in ticks[:: 2 if len(ticks) > 6 else 1]
    ]
    height = floor + ROW
    for name, moment in moments.items():
        line = f"M{x(moment):g} {top}V{floor}"
        drawn.append(f'<path d="{line}" stroke="currentColor" stroke-dasharray="3"/>')
        height = floor + 40
        drawn.append(
            f'<text x="{x(moment):g}" y="{floor + 36}" text-anchor="middle">'
            f"{escape(name)}</text>"
        )
    said = [
        f"{name}: {', '.join(_in_words(bar) for bar in bars[:4])}"
        for name, bars in rows.items()
    ]
    said += [f"{name} at {moment:.2f} s" for name, moment in moments.items()]
    return Picture(f"{title}. {'; '.join(said)}", height, "".join(drawn))


def lines(
    title: str,
    series: Mapping[str, Mapping[float, float]],
    *,
    across: str,
    up: str,
) -> Picture:
    """Draw a line for each name, through its points; both axes begin at zero.

    `across` and `up` name the axes, with their units.
    """
    most = max(y for points in series.values() for y in points.values())
    widest, x_ticks = axis(max(x for points in series.values() for x in points))
    tallest, y_ticks = axis(most)
    field = WIDTH - LEFT - 4 * EDGE
    floor = ROW + HEIGHT
    colors = _colors(series)

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + field * x / widest, floor - HEIGHT * y / tallest

    drawn = [_legend(colors)]
    for tick in y_ticks[::2]:
        y = at(0, tick)[1]
        drawn.append(f'<path d="M{LEFT} {y:.1f}h{field}" {PALE}/>')
        drawn.append(
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:,.0f}</text>'
        )
    drawn += [
        f'<text x="{at(tick, 0)[0]:.1f}" y="{floor + 16}" text-anchor="middle">'
        f"{tick:,.0f}</text>"
        for tick in x_ticks[::2]
    ]
    for name, points in series.items():
        places = [at(x, y) for x, y in points.items()]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        drawn.append(
            f'<path d="M{path}" stroke="{colors[name]}" stroke-width="3" fill="none"/>'
        )
        drawn += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colors[name]}"/>'
            for x, y in places
        ]
    drawn.append(f'<text x="0" y="{ROW + 4}">{escape(up)}</text>')
    drawn.append(
        f'<text x="{WIDTH - EDGE}" y="{floor + 34}" text-anchor="end">'
        f"{escape(across)}</text>"
    )
    said = [
        f"{name}: {', '.join(f'{y:,.0f} at {x:,.0f}' for x, y in points.items())}"
        for name, points in series.items()
    ]
    words = f"{title}, {up} over {across}. {'; '.join(said)}"
    return Picture(words, floor + 40, "".join(drawn))


def histogram(title: str, values: Mapping[str, Sequence[float]], unit: str) -> Picture:
    """Draw how often a value came, for each name, side by side over one axis."""
    span, ticks = axis(max(max(numbers) for numbers in values.values()))
    step = ticks[1] / 2
    bins = round(span / step)
    counts = {
        name: [
            sum(min(int(value / step), bins - 1) == place for value in numbers)
            for place in range(bins)
        ]
        for name, numbers in values.items()
    }
    most = max(max(each) for each in counts.values())
    field = WIDTH - LEFT - 3 * EDGE
    wide = field / bins
    each = (wide - 3) / len(values)
    floor = ROW + HEIGHT
    colors = _colors(values)
    drawn = [_legend(colors), f'<text x="0" y="{ROW + 12}">{most:,} times</text>']
    for number, (name, heights) in enumerate(counts.items()):
        for place, count in enumerate(heights):
            if count:
                x, high = LEFT + place * wide + number * each, HEIGHT * count / most
                drawn.append(
                    f'<rect x="{x:.1f}" y="{floor - high:.1f}" width="{each:.1f}" '
                    f'height="{high:.1f}" fill="{colors[name]}"/>'
                )
    drawn.append(f'<path d="M{LEFT} {floor + 0.5}h{field}" {PALE}/>')
    drawn += [
        f'<text x="{LEFT + field * tick / span:.1f}" y="{floor + 16}" '
        f'text-anchor="middle">{tick:g} {unit}</text>'
        for tick in ticks[::2]
    ]
    said = [
        f"{name}: {len(numbers):,} values, half of them below "
        f"{sorted(numbers)[len(numbers) // 2]:.3g} {unit}, the largest "
        f"{max(numbers):.3g} {unit}"
        for name, numbers in values.items()
    ]
    return Picture(f"{title}. {'; '.join(said)}", floor + ROW, "".join(drawn))


def _colors(kinds: Iterable[str]) -> dict[str, str]:
    """Give each kind a colour, in the order in which the kinds come."""
    names = dict.fromkeys(kinds)
    return {name: COLORS[n % len(COLORS)] for n, name in enumerate(names)}


def _legend(colors: Mapping[str, str]) -> str:
    parts = []
    x = 0
    for name, color in colors.items():
        parts.append(
            f'<rect x="{x}" y="2" width="12" height="12" fill="{color}"/>'
            f'<text x="{x + 18}" y="13">{escape(name)}</text>'
        )
        x += 30 + LETTER * len(name)
    return "".join(parts)


def _in_words(bar: Bar) -> str:
    start, end, kind = bar
    when = f"{start:.2f} s" if start == end else f"{start:.2f} to {end:.2f} s"
    return f"{kind} {when}"
