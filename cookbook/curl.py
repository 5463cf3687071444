"""Read the curl commands that recipes and pages print.

`request` turns a `Try it:` line into what it sends, so that the transcripts, the site's
panel and the tests ask for exactly what a reader asks for.
"""

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import httpx2

JSON = {"content-type": "application/json", "accept": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
# What changes only what curl shows, or how it waits; the request stays the same.
SHOWN = ["-N", "-i", "-s", "-S", "-sS", "-f", "-v", "--raw"]
SHOWN += ["-OJ", "--no-progress-meter"]


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are exceptions."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong instead of leaving the program."""
        raise ValueError(message)


def _parser() -> argparse.ArgumentParser:
    """Make the parser of those of curl's options that a `Try it:` line may carry."""
    parser = _Parser(prog="curl", add_help=False, allow_abbrev=False)
    for option in SHOWN:
        parser.add_argument(option, action="store_true")
    parser.add_argument("-o", "--output")
    parser.add_argument("-w", "--write-out")
    parser.add_argument("-X", "--request")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("--json")
    parser.add_argument("-d", "--data")
    parser.add_argument("--data-binary")
    parser.add_argument("-F", "--form", action="append", default=[])
    parser.add_argument("-T", "--upload-file")
    parser.add_argument("-C", "--continue-at", default="-")
    parser.add_argument("-D", "--dump-header")
    parser.add_argument("-b", "--cookie")
    parser.add_argument("-c", "--cookie-jar")
    parser.add_argument("--etag-save")
    parser.add_argument("--limit-rate")
    parser.add_argument("--max-time", type=float)
    parser.add_argument("--speed-limit")
    parser.add_argument("--speed-time")
    parser.add_argument("url")
    return parser


@dataclass(frozen=True)
class Request:
    """What a curl command sends.

    `path` holds the query; the names in `headers` are in lower case; `seconds` is the
    limit of `--max-time`, which an endless stream needs; `jar` says that the cookies
    which earlier requests have kept are sent.
    """

    path: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float | None = None
    jar: bool = False


def request(line: str, folder: Path) -> Request:
    """Read a curl command; `@file` and `-T file` are looked up in `folder`.

    Raises ValueError, saying what is wrong, if it is no curl command or carries an
    option that is not known here; OSError if a file cannot be read.
    """
    words = shlex.split(line)
    if words[:1] != ["curl"]:
        raise ValueError(f"{line!r} is no curl command")
    try:
        asked = _parser().parse_args(words[1:])
    except ValueError as error:
        raise ValueError(f"{line!r}: {error}") from None
    method, headers, body = "GET", dict[str, str](), b""
    if asked.json is not None:
        method, headers, body = "POST", dict(JSON), _content(asked.json, folder)
    elif asked.data is not None:
        method, headers, body = "POST", dict(FORM), _content(asked.data, folder)
    elif asked.data_binary is not None:
        method, headers, body = "POST", dict(FORM), _content(asked.data_binary, folder)
    elif asked.form:
        method, (headers, body) = "POST", _form(asked.form, folder)
    elif asked.upload_file is not None:
        method, body = "PUT", (folder / asked.upload_file).read_bytes()
    for header in asked.header:
        name, _, value = header.partition(":")
        headers[name.strip().lower()] = value.strip()
    if asked.continue_at != "-":  # A dash means: where the file that `-o` names ends.
        headers["range"] = f"bytes={asked.continue_at}-"
    url = urlsplit(asked.url)
    path = f"{url.path or '/'}?{url.query}".rstrip("?")
    method = asked.request or method
    return Request(path, method, headers, body, asked.max_time, bool(asked.cookie))


def _content(data: str, folder: Path) -> bytes:
    """Give what `data` says, or what the file after its `@` holds."""
    if data.startswith("@"):
        return (folder / data[1:]).read_bytes()
    return data.encode()


def _form(parts: list[str], folder: Path) -> tuple[dict[str, str], bytes]:
    """Encode a form with files as multipart/form-data (RFC 7578)."""
    files = {}
    for part in parts:
        name, _, value = part.partition("=")
        path = folder / value.removeprefix("@")
        content = path.read_bytes() if value.startswith("@") else value.encode()
        files[name] = (path.name if value.startswith("@") else None, content)
    encoded = httpx2.Request("POST", "http://127.0.0.1", files=files)
    return {"content-type": encoded.headers["content-type"]}, encoded.read()
