"""Write what a bench found: JSON with every round, Markdown tables, an SVG chart.

The JSON is what was measured. The other two are made from it, again at any time.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from math import ceil, floor, log10
from pathlib import Path
from textwrap import indent

from benchmarks.client import Sample
from benchmarks.harness import Memory, Report, Result, Target

WIDTH, ROW, LEFT = 390, 44, 10  # a phone's width; everything in CSS pixels
BAR = WIDTH - 2 * LEFT
# A page may be light on a system that is dark: the site has a switch of its own. So the
# chart brings its background, and what is on it can be read on any page.
LIGHT = {
    "card": "#ffffff",
    "text": "#4a5160",
    "bar": "#7c8696",
    "ours": "#0f766e",
    "line": "#d5d9e0",
}
DARK = {
    "card": "#1e2129",
    "text": "#c3c9d4",
    "bar": "#8d97a8",
    "ours": "#2dd4bf",
    "line": "#3d4350",
}


def colours(of: dict[str, str]) -> str:
    """Write the rules that colour a chart."""
    return (
        f".card {{ fill: {of['card']}; }} text {{ fill: {of['text']}; }} "
        f".bar {{ fill: {of['bar']}; }} .ours .bar {{ fill: {of['ours']}; }} "
        f"line {{ stroke: {of['line']}; }}"
    )


STYLE = f"""
  text {{ font: 13px system-ui, sans-serif; }}
  .number {{ text-anchor: end; font-variant-numeric: tabular-nums; }}
  .ours text {{ font-weight: 700; }}
  .axis {{ font-size: 11px; }}
  {colours(LIGHT)}
  @media (prefers-color-scheme: dark) {{ {colours(DARK)} }}
"""
NO_REASON = "The reason is not known yet."
BUSY = 0.1  # the share of the machine that other work may take


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


def page(report: Report, why: Mapping[str, str]) -> str:
    """Write what a page includes: the speeds, the promises, and how it was measured.

    A table has three columns at most, so that it can be read on a phone. `why` gives
    the reason for each promise that was missed.
    """
    parts = [speeds(report), *warnings(report), *promises(report, why), details(report)]
    return "\n\n".join(parts) + "\n"


def rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Write a table; the first column is text, the others are numbers."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def marked(report: Report, result: Result, *cells: str) -> list[str]:
    """Write a line of a table: bold, if it is ours."""
    line = [result.name, *cells]
    return [f"**{cell}**" for cell in line] if result.name == report.ours else line


def speeds(report: Report) -> str:
    """Write the table that comes first."""
    return rows(
        ["Version", f"{report.unit.capitalize()}/s", "Time, ours = 1"],
        [
            marked(
                report,
                result,
                short(report.per_second(result.name)),
                f"{short(report.ratio(result.name))}×",  # noqa: RUF001
            )
            for result in report.results
        ],
    )


def warnings(report: Report) -> list[str]:
    """Say when the figures are not as good as they could be."""
    if report.other_work <= BUSY:
        return []
    return [
        f"The machine was busy with other work for {report.other_work:.0%} of its "
        "time, so these figures are rough."
    ]


def promises(report: Report, why: Mapping[str, str]) -> list[str]:
    """Write what the recipe promises; one that is missed comes with its reason."""
    if not report.targets:
        return []
    lines, reasons = [], []
    for target in report.targets:
        measured = f"{short(target.measured)} {target.unit}"
        lines.append(
            [target.promise, measured if target.met else f"missed: {measured}"]
        )
        if not target.met:
            reason = why.get(target.promise, NO_REASON)
            reasons.append(f"**Missed: {target.promise}.** {reason}")
    return [rows(["The recipe promises", "Measured"], lines), *reasons]


def details(report: Report) -> str:
    """Write what not every reader wants to know, folded."""
    machine, rounds = report.machine, len(report.results[0].rounds)
    said = [
        f"{report.size:,} {report.unit}; the time is the median of {rounds} rounds."
    ]
    if report.memory:
        memory = report.memory
        said.append(
            f"From {memory.small:,} to {memory.large:,} {report.unit} the peak memory "
            f"of ours grows by {memory.growth / 1e6:.1f} MB."
        )
    said += [f"Left out: {name} ({why})." for name, why in report.left_out.items()]
    used = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    parts = [
        rows(
            ["Version", "First byte", "Peak memory"],
            [
                marked(
                    report,
                    result,
                    duration(result.first_byte),
                    f"{result.peak_memory / 1e6:.0f} MB",
                )
                for result in report.results
            ],
        ),
        " ".join(said),
        f"{machine['cpu']}, {machine['cores']} cores, "
        f"{int(machine['memory']) / 1e9:.0f} GB, {machine['os']}, "
        f"{report.other_work:.0%} of it busy with other work; {used}.",
        f"Measured on {report.date} with `{report.command}`.",
    ]
    title = '??? info "First byte, memory, and how it was measured"'
    return "\n\n".join([title, indent("\n\n".join(parts), "    ")])


def chart(report: Report) -> str:
    """Draw a bar for each version: units in a second, longer is better."""
    rates = {r.name: report.per_second(r.name) for r in report.results}
    slowest, fastest = min(rates.values()), max(rates.values())
    log = fastest > 10 * slowest
    # A logarithmic axis has no zero: it begins at the power of ten below all bars.
    low = floor(log10(slowest * 0.999)) if log else 0
    high = ceil(log10(fastest))

    def length(rate: float) -> float:
        share = (log10(rate) - low) / (high - low) if log else rate / fastest
        return round(BAR * share, 1)

    def row(index: int, result: Result) -> str:
        y = 36 + index * ROW
        ours = ' class="ours"' if result.name == report.ours else ""
        return (
            f"<g{ours}>"
            f'<text x="{LEFT}" y="{y + 13}">{escape(result.name)}</text>'
            f'<text x="{LEFT + BAR}" y="{y + 13}" class="number">'
            f"{short(rates[result.name])}</text>"
            f'<rect class="bar" x="{LEFT}" y="{y + 19}" '
            f'width="{length(rates[result.name])}" height="14" rx="2"/></g>'
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
    said = "; ".join(f"{name}: {short(rate)}" for name, rate in rates.items())
    height = bottom + 22 if log else bottom + 4
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-labelledby="t d">',
            f'<title id="t">{title}</title>',
            f'<desc id="d">{escape(said)}</desc>',
            f"<style>{STYLE}</style>",
            '<rect class="card" width="100%" height="100%" rx="4"/>',
            f'<text x="{LEFT}" y="20">{title}</text>',
            *marks,
            *(row(index, result) for index, result in enumerate(report.results)),
            "</svg>",
            "",
        ]
    )


def write(report: Report, why: Mapping[str, str], folder: Path) -> list[Path]:
    """Write a report and what pages show of it; give the paths of the three files."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{report.slug}.json"
    data = asdict(report)
    for shown, target in zip(data["targets"], report.targets, strict=True):
        shown["met"] = target.met
    text = json.dumps(data, indent=2, ensure_ascii=False)
    kept.write_text(f"{text}\n", "utf-8")
    return [kept, *render(report, why, folder)]


def render(report: Report, why: Mapping[str, str], folder: Path) -> list[Path]:
    """Write the table and the chart of a report; give their paths."""
    contents = {"md": page(report, why), "svg": chart(report)}
    paths = []
    for suffix, text in contents.items():
        path = folder / f"{report.slug}.{suffix}"
        path.write_text(text, "utf-8")
        paths.append(path)
    return paths


def read(kept: Path) -> Report:
    """Read a report that was written."""
    data = json.loads(kept.read_text("utf-8"))
    for result in data["results"]:
        result["rounds"] = [Sample(**sample) for sample in result["rounds"]]
    data["results"] = [Result(**result) for result in data["results"]]
    for target in data["targets"]:
        del target["met"]  # It follows from the others.
    data["targets"] = [Target(**target) for target in data["targets"]]
    data["memory"] = data["memory"] and Memory(**data["memory"])
    return Report(**data)
