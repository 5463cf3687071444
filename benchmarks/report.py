"""Write what a bench found: JSON with every round, a Markdown table, an SVG chart."""

import json
from dataclasses import asdict
from html import escape
from math import ceil, floor, log10
from pathlib import Path

from benchmarks.harness import Report, Result

WIDTH, ROW, LEFT = 390, 44, 10  # a phone's width; everything in CSS pixels
BAR = WIDTH - 2 * LEFT
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #5c6370; }
  .number { text-anchor: end; font-variant-numeric: tabular-nums; }
  .ours text { font-weight: 700; }
  .axis { font-size: 11px; }
  rect { fill: #8d97a8; } .ours rect { fill: #0f9488; }
  line { stroke: #8d97a8; stroke-opacity: 0.4; }
  @media (prefers-color-scheme: dark) { text { fill: #a4abb8; } }
"""


def short(value: float) -> str:
    """Write a number with three digits: 0.0123, 1.23, 12.3, 123, 12,300."""
    if value <= 0:
        return "0"
    digits = 2 - floor(log10(value))
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def duration(seconds: float | None) -> str:
    """Write a time in the unit that suits it."""
    if seconds is None:
        return "–"  # noqa: RUF001
    return f"{short(seconds)} s" if seconds >= 1 else f"{short(seconds * 1000)} ms"


def table(report: Report) -> str:
    """Write the table, and one line on how it was made."""
    unit = report.unit.capitalize()
    lines = [
        f"| Version | Time | {unit}/s | First byte | Peak memory | Time, ours = 1 |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for result in report.results:
        cells = [
            result.name,
            duration(result.seconds),
            short(result.per_second),
            duration(result.first_byte),
            f"{result.peak_memory / 1e6:.0f} MB",
            f"{short(result.ratio)}×",  # noqa: RUF001
        ]
        if result.name == report.ours:
            cells = [f"**{cell}**" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", note(report), ""])


def note(report: Report) -> str:
    """Say in one line what was measured, where, and how to do it again."""
    machine, rounds = report.machine, len(report.results[0].rounds)
    parts = [f"{report.size:,} {report.unit}, median of {rounds} rounds in turn."]
    if report.memory:
        memory = report.memory
        parts.append(
            f"From {memory.small:,} to {memory.large:,} {report.unit} the peak memory "
            f"of ours grows by {memory.growth / 1e6:.1f} MB."
        )
    parts += [f"Left out: {name} ({why})." for name, why in report.left_out.items()]
    parts.append(
        f"{machine['cpu']}, {machine['cores']} cores, "
        f"{int(machine['memory']) / 1e9:.0f} GB, {machine['os']}, "
        f"{report.other_work:.0%} of it busy with other work;"
    )
    parts.append(", ".join(f"{k} {v}" for k, v in report.versions.items()) + ";")
    parts.append(f"{report.date}; `{report.command}`")
    return " ".join(parts)


def chart(report: Report) -> str:
    """Draw a bar for each version: units in a second, longer is better."""
    rates = [result.per_second for result in report.results]
    log = max(rates) > 10 * min(rates)
    # A logarithmic axis has no zero: it begins at the power of ten below all bars.
    low = floor(log10(min(rates) * 0.999)) if log else 0
    high = ceil(log10(max(rates)))

    def length(rate: float) -> float:
        share = (log10(rate) - low) / (high - low) if log else rate / max(rates)
        return round(BAR * share, 1)

    def row(index: int, result: Result) -> str:
        y = 36 + index * ROW
        ours = ' class="ours"' if result.name == report.ours else ""
        return (
            f"<g{ours}>"
            f'<text x="{LEFT}" y="{y + 13}">{escape(result.name)}</text>'
            f'<text x="{LEFT + BAR}" y="{y + 13}" class="number">'
            f"{short(result.per_second)}</text>"
            f'<rect x="{LEFT}" y="{y + 19}" width="{length(result.per_second)}" '
            'height="14" rx="2"/></g>'
        )

    bottom = 36 + len(report.results) * ROW
    marks = []
    for power in range(low, high + 1) if log else ():
        x = LEFT + length(10.0**power)
        anchor = {low: "start", high: "end"}.get(power, "middle")
        marks += [
            f'<line x1="{x}" y1="32" x2="{x}" y2="{bottom}"/>',
            f'<text x="{x}" y="{bottom + 14}" class="axis" text-anchor="{anchor}">'
            f"{10**power:,}</text>",
        ]
    scale = ", logarithmic scale" if log else ""
    title = escape(f"{report.unit.capitalize()} per second{scale}; longer is better")
    said = "; ".join(f"{r.name}: {short(r.per_second)}" for r in report.results)
    height = bottom + 22 if log else bottom + 4
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-labelledby="t d">',
            f'<title id="t">{title}</title>',
            f'<desc id="d">{escape(said)}</desc>',
            f"<style>{STYLE}</style>",
            f'<text x="{LEFT}" y="20">{title}</text>',
            *marks,
            *(row(index, result) for index, result in enumerate(report.results)),
            "</svg>",
            "",
        ]
    )


def write(report: Report, folder: Path) -> list[Path]:
    """Write the three files of a report, and give their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "json": json.dumps(asdict(report), indent=2, ensure_ascii=False) + "\n",
        "md": table(report),
        "svg": chart(report),
    }
    paths = []
    for suffix, text in contents.items():
        path = folder / f"{report.slug}.{suffix}"
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths
