"""What an event costs the server in each format, in time of its processor.

python -m benchmarks.feeds     writes docs/learn/feeds.json

Each format is asked in turn, round after round. What counts is the processor's time of
the server's process, so a slow client or a busy machine changes little.
"""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import psutil
from websockets.sync.client import connect

RESULT = Path(__file__).parents[1] / "docs/learn/feeds.json"
EVENTS = 100_000
ROUNDS = 3
START = 60.0  # seconds that the server may take until it listens
# Each format, and what stands once in each of its events.
FORMATS = {
    "plain": b'{"id":',
    "ndjson-by-hand": b"\n",
    "ndjson": b"\n",
    "sse-by-hand": b"\n\n",
    "sse": b"\n\n",
    "websocket": b'{"id":',
}


def read(url: str, name: str, events: int) -> None:
    """Read a feed to its end.

    Raises ValueError if it has not that many events.
    """
    target = f"{url}/{name}?events={events}"
    if name == "websocket":
        with connect(target.replace("http", "ws", 1), compression=None) as socket:
            found = sum(1 for _ in socket)
    else:
        body = httpx2.get(target, timeout=START).raise_for_status().content
        found = body.count(FORMATS[name])
    if found != events:
        raise ValueError(f"{name} gave {found} events, not {events}")


def measure(url: str, pid: int, events: int, rounds: int) -> dict[str, list[float]]:
    """Give the seconds of the process for each round of each format."""
    process = psutil.Process(pid)
    seconds: dict[str, list[float]] = {name: [] for name in FORMATS}
    for name in FORMATS:  # once before it counts
        read(url, name, min(events, 100))
    for _ in range(rounds):
        for name, found in seconds.items():
            before = process.cpu_times()
            read(url, name, events)
            after = process.cpu_times()
            found.append(after.user + after.system - before.user - before.system)
    return seconds


def result(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Say what was found, and where and when."""
    return {
        "events": EVENTS,
        "command": "python -m benchmarks.feeds",
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "seconds": seconds,
    }


def main() -> None:
    """Start the server, measure, and write the result."""
    target = "benchmarks.versions.feeds:app"
    port = "8099"
    command = [sys.executable, "-m", "uvicorn", target, "--port", port]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen([*command, "--no-access-log"]) as server:
        try:
            deadline = time.monotonic() + START
            while True:
                try:
                    httpx2.get(f"{url}/openapi.json")
                    break
                except httpx2.ConnectError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
            seconds = measure(url, server.pid, EVENTS, ROUNDS)
        finally:
            server.terminate()
    RESULT.write_text(json.dumps(result(seconds), indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
