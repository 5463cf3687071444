"""Run the benches.

python -m benchmarks                     all of them, into docs/benchmarks/
python -m benchmarks csv_export          one
python -m benchmarks csv_export --quick  a small one in seconds; writes nothing
"""

import argparse
import signal
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

from benchmarks.harness import ROOT, Bench, run
from benchmarks.report import table, write

QUIET = 0.1  # the share of the machine that other work may take


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
    options = parser.parse_args(arguments)
    if unknown := set(options.slugs) - set(known):
        parser.error(f"no bench for {', '.join(sorted(unknown))}")
    # A small run proves that the bench works; its figures are not for the pages.
    out = options.out or (None if options.quick else ROOT / "docs" / "benchmarks")
    # Ended from outside, the servers must end as well: leave by way of the blocks.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        for slug in options.slugs or known:
            report = run(
                known[slug], quick=options.quick, say=partial(print, flush=True)
            )
            print(f"\n{table(report)}")
            for target in report.targets:
                met = "met   " if target.met else "MISSED"
                print(
                    f"{met}  {target.promise}: {target.measured:.2f} ({target.goal:g})"
                )
            if report.other_work > QUIET:
                print("The machine was busy with other work: measure again.")
            for path in write(report, out) if out else ():
                print(f"wrote {path.name}")
    except KeyboardInterrupt:
        print("stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
