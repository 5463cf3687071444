"""Run the benches.

python -m benchmarks                     all of them, into docs/benchmarks/
python -m benchmarks csv_export          one
python -m benchmarks csv_export --quick  a small one in seconds; writes nothing
python -m benchmarks --render            tables and charts again, from what was measured

The exit code is 1 if anything could not be kept: the machine was busy with other work
(`--busy` keeps the figures all the same), or a promise was missed and the bench does
not say why.
"""

import argparse
import signal
import sys
from collections.abc import Iterable
from functools import partial
from importlib import import_module
from pathlib import Path

from benchmarks.harness import ROOT, Bench, run
from benchmarks.report import BUSY, page, read, render, write

PUBLISHED = ROOT / "docs" / "benchmarks"


def benches() -> dict[str, Bench]:
    """Find every `bench_<slug>.py`, by slug."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("bench_*.py"))
    found = [import_module(f"benchmarks.{name}").BENCH for name in names]
    return {bench.slug: bench for bench in found}


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for."""
    known = benches()
    parser = argparse.ArgumentParser("python -m benchmarks")
    parser.add_argument("slugs", nargs="*", metavar="slug", help=", ".join(known))
    parser.add_argument("--quick", action="store_true", help="small, in seconds")
    parser.add_argument("--out", type=Path, help="where to write; docs/benchmarks")
    parser.add_argument("--busy", action="store_true", help="keep also rough figures")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    options = parser.parse_args(arguments)
    if unknown := set(options.slugs) - set(known):
        parser.error(f"no bench for {', '.join(sorted(unknown))}")
    # A small run proves that the bench works; its figures are not for the pages.
    out = options.out or (None if options.quick else PUBLISHED)
    chosen = [known[slug] for slug in options.slugs or known]
    if options.render:
        again(chosen, out or PUBLISHED)
        return 0
    # Ended from outside, the servers must end as well: leave by way of the blocks.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        kept = [
            measure(bench, out, quick=options.quick, busy=options.busy)
            for bench in chosen
        ]
    except KeyboardInterrupt:
        print("stopped")
        return 130
    return 0 if all(kept) else 1


def measure(bench: Bench, out: Path | None, *, quick: bool, busy: bool) -> bool:
    """Run a bench, show what it found, and write it; tell whether all is well."""
    report = run(bench, quick=quick, say=partial(print, flush=True))
    print(f"\n{page(report, bench.why)}")
    if out is None:
        return True
    if report.other_work > BUSY and not busy:
        print(
            f"Nothing was written for {bench.slug}: the machine was busy with other "
            f"work for {report.other_work:.0%} of its time, and {BUSY:.0%} is the "
            "limit. Measure again when it is quiet, or keep rough figures with --busy."
        )
        return False
    for path in write(report, bench.why, out):
        print(f"wrote {path.name}")
    missed = [target.promise for target in report.targets if not target.met]
    unknown = [promise for promise in missed if promise not in bench.why]
    for promise in unknown:
        print(
            f"Missed: {promise}. Say in `why` of bench_{bench.slug}.py for what reason."
        )
    return not unknown


def again(benches: Iterable[Bench], folder: Path) -> None:
    """Write the tables and charts of what was measured."""
    for bench in benches:
        kept = folder / f"{bench.slug}.json"
        if not kept.exists():
            print(f"{bench.slug} was never measured")
            continue
        for path in render(read(kept), bench.why, folder):
            print(f"wrote {path.name}")


if __name__ == "__main__":
    sys.exit(main())
