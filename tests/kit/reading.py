"""The commands of docs/reading/curl.md: for each the recipe, and what one sees.

tests/servers/test_reading.py runs each of them, in the order of the page.
"""

from typing import NamedTuple

HERE = "http://127.0.0.1:8000"  # where each recipe is when a reader starts it by hand


class Command(NamedTuple):
    """A command of the page; `sees` stands in its output, and in the page."""

    recipe: str
    line: str
    sees: str
    code: int = 0  # with which curl ends


FILE = f"{HERE}/files/orders.txt"
COMMANDS = [
    Command("sse_basic", f"curl -N {HERE}/native", "event: end"),
    Command("sse_basic", f"curl --no-buffer {HERE}/native", "event: end"),
    Command("sse_basic", f"curl -N -i {HERE}/native", "text/event-stream"),
    Command("sse_basic", f"curl -N -i --raw {HERE}/native", "transfer-encoding"),
    Command(
        "sse_basic", f"curl -N --max-time 1 {HERE}/native", "Operation timed out", 28
    ),
    Command(
        "sse_basic", f"curl -N --speed-limit 1 --speed-time 30 {HERE}/native", "end"
    ),
    Command(
        "sse_basic", f"curl -i -H 'Last-Event-ID: end' {HERE}/native", "204 No Content"
    ),
    Command("sse_basic", f"curl -N -f {HERE}/nativ", "returned error: 404", 22),
    Command(
        "sse_basic",
        "curl -sS -o events.txt -w '%{time_starttransfer} s to the first byte, "
        f"%{{time_total}} s in all\\n' {HERE}/native",
        "s to the first byte",
    ),
    Command(
        "stream_limits",
        f'curl -i --json \'{{"name": "ada"}}\' {HERE}/sign-in',
        "200 OK",
    ),
    Command(
        "file_download",
        "curl -o orders.txt --etag-save orders.etag --limit-rate 4M --max-time 1 "
        f"{FILE}",
        "Operation timed out",
        28,
    ),
    Command("file_download", f"curl -C - -o orders.txt {FILE}", "100 "),
    Command(
        "file_download",
        f'curl -C - -o orders.txt -H "If-Range: $(cat orders.etag)" {FILE}',
        "Cannot resume",
        33,
    ),
    Command("file_download", f"curl -OJ {FILE}", "100 "),
]
LINES = {command.line for command in COMMANDS}
