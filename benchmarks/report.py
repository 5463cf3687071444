"""Write what a bench found: JSON with every round, Markdown tables, an SVG chart.

The JSON is what was measured. The other two are made from it, again at any time.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from math import floor, log10
from pathlib import Path
from textwrap import indent

from benchmarks.client import Sample
from benchmarks.harness import Bench, Crowd, Memory, Report, Result, Table, Target

WIDTH, ROW, LEFT = 390, 44, 10  # a phone's width; everything in CSS pixels
BAR = WIDTH - 2 * LEFT
# A page may be light on a system that is dark: the site has a switch of its own. So the
# chart brings its background, and what is on it can be read on any page.
LIGHT = {
    "card": "#ffffff",
    "text": "#4a5160",
    "bar": "#7c8696",
    "ours": "#0f766e",
}
DARK = {
    "card": "#1e2129",
    "text": "#c3c9d4",
    "bar": "#8d97a8",
    "ours": "#2dd4bf",
}


def colours(of: dict[str, str]) -> str:
    """Write the rules that colour a chart."""
    return (
        f".card {{ fill: {of['card']}; }} text {{ fill: {of['text']}; }} "
        f".bar {{ fill: {of['bar']}; }} .ours .bar {{ fill: {of['ours']}; }}"
    )


STYLE = f"""
  text {{ font: 13px system-ui, sans-serif; }}
  .number {{ text-anchor: end; font-variant-numeric: tabular-nums; }}
  .ours text {{ font-weight: 700; }}
  {colours(LIGHT)}
  @media (prefers-color-scheme: dark) {{ {colours(DARK)} }}
"""
NOISE = 0.05  # a smaller difference between two versions says nothing
BUSY = 0.1  # the share of the machine that other work may take


def short(value: float, digits: int = 3) -> str:
    """Write a number with so many digits, here three: 0.0123, 1.23, 123, 12,300."""
    if value <= 0:
        return "0"
    digits -= 1 + floor(log10(value))
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def duration(seconds: float | None) -> str:
    """Write a time in the unit that suits it."""
    if seconds is None:
        return "–"  # noqa: RUF001
    return f"{short(seconds)} s" if seconds >= 1 else f"{short(seconds * 1000)} ms"


def page(report: Report, bench: Bench) -> str:
    """Write what a page includes: the speeds, the targets, and how it was measured.

    A table has three columns at most, so that it can be read on a phone. The bench says
    what each version is, and gives the reason for each target that was missed.
    """
    parts = [speeds(report), explained(report), *lags(report)]
    parts += [
        versions(report, bench.about),
        *warnings(report),
        *targets(report, bench.why),
        details(report),
    ]
    return "\n\n".join(parts) + "\n"


def folded(title: str, *parts: str) -> str:
    """Write what not every reader wants to know: a title that opens it."""
    return "\n\n".join([f'??? info "{title}"', indent("\n\n".join(parts), "    ")])


def rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Write a table; the first column is text, the others are numbers."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def marked(report: Report, result: Result, *cells: str) -> list[str]:
    """Write a line of a table: bold, if it is ours."""
    line = [result.name, *cells]
    return [f"**{cell}**" for cell in line] if result.name == report.ours else line


def times(ratio: float) -> str:
    """Write a ratio of two times; a difference that is noise counts as none."""
    shown = "1" if abs(ratio - 1) < NOISE else short(ratio, 2)
    return f"{shown}×"  # noqa: RUF001


def heading(unit: str) -> str:
    """Write a unit as the first word of a heading; MB stays MB."""
    return unit[:1].upper() + unit[1:]


def speeds(report: Report) -> str:
    """Write the table that comes first."""
    return rows(
        ["Version", f"{heading(report.unit)}/s", "Time"],
        [
            marked(
                report,
                result,
                short(report.per_second(result.name)),
                times(report.ratio(result.name)),
            )
            for result in report.results
        ],
    )


def explained(report: Report) -> str:
    """Say what the numbers of the first table mean."""
    if report.listeners:
        return (
            f"An order is told to {report.listeners:,} listeners, and the next one "
            f"when all have it. *{heading(report.unit)}/s* is how many arrive for a "
            "second of a core's work. *Time* is the work for one, compared with the "
            "version in bold: 2× is twice as much, 0.5× half as much. "  # noqa: RUF001
            f"A difference below {NOISE:.0%} is the noise of a run, so it is shown "
            "as 1×."  # noqa: RUF001
        )
    return (
        f"*Time* is how long a version takes for {report.size:,} {report.unit}, "
        "compared with the version in bold: 2× takes twice as long, 0.5× half as long. "  # noqa: RUF001
        f"A difference below {NOISE:.0%} is the noise of a run, so it is shown as 1×."  # noqa: RUF001
    )


def lags(report: Report) -> list[str]:
    """Say how late events arrive at a larger crowd."""
    if not report.crowd:
        return []
    crowd = report.crowd
    often = f", an order every {crowd.pace:g} s" if crowd.pace else ""
    table = rows(
        [f"{crowd.listeners:,} listeners{often}", "Half", "99%"],
        [
            marked(report, result, duration(result.half), duration(result.most))
            for result in report.crowd_results
        ],
    )
    said = (
        f"*Half* and *99%* say how long it takes until so many of the {report.unit} "
        "have arrived, counted from the request that tells the order."
    )
    return [table, said]


def versions(report: Report, about: dict[str, str]) -> str:
    """Say what each version is that the bench still knows."""
    names = [result.name for result in report.results if result.name in about]
    lines = [f"- **{name}:** {about[name]}" for name in names]
    return folded("What each version is", "\n".join(lines))


def warnings(report: Report) -> list[str]:
    """Say when the figures are not as good as they could be."""
    if report.other_work <= BUSY:
        return []
    return [
        f"The machine was busy with other work for {report.other_work:.0%} of its "
        "time, so these figures are rough."
    ]


def measured(target: Target) -> str:
    """Write what was measured for a target."""
    if target.unit == "%" and abs(target.measured - 100) < 100 * NOISE:
        return "as fast"
    return f"{short(target.measured)} {target.unit}"


def targets(report: Report, why: Mapping[str, str]) -> list[str]:
    """Write the recipe's targets; one that is missed comes with its reason."""
    if not report.targets:
        return []
    lines, reasons = [], []
    for target in report.targets:
        found = measured(target)
        lines.append([target.promise, found if target.met else f"{found}, missed"])
        if not target.met:
            promise = target.promise[:1].lower() + target.promise[1:]
            reason = "and the reason is not known yet."
            if target.promise in why:
                reason = f"because {why[target.promise]}"
            reasons.append(
                f"**One target is missed.** Target: {promise}. "
                f"Measured: {found}. Missed, {reason}"
            )
    return [rows(["Target of the recipe", "Measured"], lines), *reasons]


def details(report: Report) -> str:
    """Write what not every reader wants to know, folded."""
    machine, rounds = report.machine, len(report.results[0].rounds)
    if report.listeners:
        head = ["Memory", "A listener", f"All {report.listeners:,}"]
    else:
        head = ["Version", "First byte", "Peak memory"]
    small = []
    for result in report.results:
        if report.listeners:
            first = f"{result.each / 1e3:.0f} kB"
        else:
            first = duration(result.first_byte)
        peak = f"{result.peak_memory / 1e6:.0f} MB"
        small.append(marked(report, result, first, peak))
    said = [
        f"{report.size:,} {report.unit}; the time is the median of {rounds} rounds."
    ]
    if report.memory:
        memory = report.memory
        said.append(
            f"From {memory.small:,} to {memory.large:,} {report.unit} the peak memory "
            f"of the recipe grows by {memory.growth / 1e6:.1f} MB."
        )
    said += [f"Left out: {name} ({why})." for name, why in report.left_out.items()]
    used = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    parts = [
        rows(head, small),
        " ".join(said),
        f"{machine['cpu']}, {machine['cores']} cores, "
        f"{int(machine['memory']) / 1e9:.0f} GB, {machine['os']}, "
        f"{report.other_work:.0%} of it busy with other work; {used}.",
        f"Measured on {report.date} with `{report.command}`.",
    ]
    title = "Memory" if report.listeners else "First byte, memory"
    return folded(f"{title}, and how it was measured", *parts)


def chart(report: Report) -> str:
    """Draw a bar for each version: units in a second, longer is better."""
    rates = {r.name: report.per_second(r.name) for r in report.results}
    fastest = max(rates.values())

    def length(rate: float) -> float:
        return max(round(BAR * rate / fastest, 1), 1)

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

    of = "second of a core" if report.listeners else "second"
    title = escape(f"{heading(report.unit)} per {of}; longer is better")
    said = "; ".join(f"{name}: {short(rate)}" for name, rate in rates.items())
    height = 40 + len(report.results) * ROW
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-labelledby="t d">',
            f'<title id="t">{title}</title>',
            f'<desc id="d">{escape(said)}</desc>',
            f"<style>{STYLE}</style>",
            '<rect class="card" width="100%" height="100%" rx="4"/>',
            f'<text x="{LEFT}" y="20">{title}</text>',
            *(row(index, result) for index, result in enumerate(report.results)),
            "</svg>",
            "",
        ]
    )


def write(report: Report, bench: Bench, folder: Path) -> list[Path]:
    """Write a report and what pages show of it; give the paths of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{report.slug}.json"
    data = asdict(report)
    for shown, target in zip(data["targets"], report.targets, strict=True):
        shown["met"] = target.met
    text = json.dumps(data, indent=2, ensure_ascii=False)
    kept.write_text(f"{text}\n", "utf-8")
    return [kept, *render(report, bench, folder)]


def render(report: Report, bench: Bench, folder: Path) -> list[Path]:
    """Write the tables and the chart of a report; give their paths."""
    contents = {".md": page(report, bench), ".svg": chart(report)}
    for table in report.tables:
        contents[f"_{table.name}.md"] = f"{rows(table.head, table.rows)}\n"
    paths = []
    for ending, text in contents.items():
        path = folder / f"{report.slug}{ending}"
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
    data["tables"] = [Table(**table) for table in data.get("tables", [])]
    data["memory"] = data["memory"] and Memory(**data["memory"])
    for result in data.get("crowd_results", []):
        result["rounds"] = [Sample(**sample) for sample in result["rounds"]]
    data["crowd_results"] = [Result(**r) for r in data.get("crowd_results", [])]
    data["crowd"] = data.get("crowd") and Crowd(**data["crowd"])
    return Report(**data)
