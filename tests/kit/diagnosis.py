"""Record what the commands of docs/production/diagnosis.md print.

python -m tests.kit.diagnosis     writes docs/production/diagnosis.txt
"""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from cookbook.catalog import ROOT
from tests.kit.servers import uvicorn

RECORD = ROOT / "docs/production/diagnosis.txt"
WAIT = 30  # seconds; the imports alone can take ten
PRINTED = "http://127.0.0.1:8000"
ARRIVALS = "python -m docs.production.arrivals "
PITFALLS = "recipes.pitfalls.stream_middleware."
COMMANDS = {
    "generator": f"{ARRIVALS}docs.production.diagnosis:all_orders",
    "collected": f"{ARRIVALS}docs.production.diagnosis:collected_orders",
    "app": f"{ARRIVALS}docs.production.diagnosis:app /orders",
    "returned": f"{ARRIVALS}docs.production.diagnosis:app /returned",
    "joined": f"{ARRIVALS}{PITFALLS}join_body:app /orders",
    "gzip": f"{ARRIVALS}{PITFALLS}gzip_without_flush:app /orders",
    "url": f"{ARRIVALS}{PRINTED}/orders",
}


def printed(command: str, url: str = PRINTED) -> str:
    """Run a Python command of the page; `url` stands for the address that it names."""
    words = command.replace(PRINTED, url).split()
    done = subprocess.run(
        [sys.executable, *words[1:]],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=WAIT,
    )
    return done.stdout


def without_times(text: str) -> str:
    """Leave out what is different each time: the seconds, and the bytes of gzip."""
    text = re.sub(r"^ *[\d.]+ s ", "- s ", text, flags=re.MULTILINE)
    return re.sub(r"\\x1f\\x8b.*", "gzip", text)


def record() -> str:
    """Run each command, and give a section for each."""
    with uvicorn("docs.production.diagnosis:app", "--http", "h11") as server:
        run = partial(printed, url=server.url)
        with ThreadPoolExecutor() as pool:
            outputs = list(pool.map(run, COMMANDS.values()))
    return "".join(
        f"--8<-- [start:{name}]\n{output}--8<-- [end:{name}]\n"
        for name, output in zip(COMMANDS, outputs, strict=True)
    )


if __name__ == "__main__":
    RECORD.write_text(record(), "utf-8")
