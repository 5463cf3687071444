"""Write a starter test for a recipe that a reader takes home.

The requests are those of the recipe's `Try it:` lines. What the test expects is what
the recipe's transcript has recorded: the status, the media type and the first chunk.
`python -m cookbook.starter` writes the one that a page shows.
"""

import ast
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from cookbook import upstream
from cookbook.catalog import ROOT, Recipe, find
from cookbook.curl import JSON, Request
from cookbook.llm import local, provider
from cookbook.transcript import RELAYED, VARYING

CLIENTS = "docs/clients/"
COLUMNS = 88
PIECE = 70  # characters of a literal in one line
LONG, SHOWN = 120, 60  # characters; of a longer chunk so many are compared
STAND_IN = "model_stand_in"  # the module that stands in for a language model
KNOWN = {"model", "upstream"}  # needs for which a test has a stand-in

PART = re.compile(r"^--8<-- \[start:.*\n((?:.*\n)*?)--8<-- \[end:", re.MULTILINE)
HEAD = re.compile(r"\$ (.*)\nHTTP/1\.1 (\d+) .*\n((?:.+\n)*)\n")
COUNTS = re.compile(r"^\d+\.\d{3} s, (?:end|stopped): ([\d,]+) chunks", re.MULTILINE)
CHUNK = re.compile(r"^\d+\.\d{3} s, [\d,]+ bytes\n((?:  .*\n|….*\n)*)", re.MULTILINE)
FIELD = re.compile(r"^content-type: (.*)$", re.MULTILINE)
CHARSET = re.compile(r"charset=([\w-]+)")
ESCAPED = re.compile(r"\\(?:x..|u.{4}|U.{8}|.)")


@dataclass(frozen=True)
class Answer:
    """What was recorded of one answer."""

    status: int
    kind: str | None  # the field content-type
    chunks: int  # how many were recorded; an endless stream has more
    first: bytes  # what is the same each time, from the beginning of the first chunk
    whole: bool  # whether that is all of the first chunk
    secure: bool  # whether it sets a cookie that only https gets back
    encoded: bool  # whether it may be compressed, which curl does not ask for


def unescaped(line: str) -> str:
    r"""Undo `transcript.escape`: make `\r` a carriage return again."""
    return ESCAPED.sub(
        lambda found: found[0].encode("ascii").decode("unicode_escape"), line
    )


def first_chunk(part: str) -> tuple[str, bool]:
    """Give the beginning of an answer's first chunk, and whether it is all of it.

    `part` is the recording of one request. What differs in each recording ends the
    beginning.
    """
    chunk = CHUNK.search(part)
    if not chunk:
        return "", True
    end = chunk.end()
    ends = [found.start() for found in re.finditer("^…", part[:end], re.MULTILINE)]
    for pattern in VARYING:
        ends += [found.start() for found in pattern.finditer(part)]
    cut = min([place for place in ends if place >= chunk.start(1)] + [end])
    lines = [line.removeprefix("  ") for line in part[chunk.start(1) : cut].split("\n")]
    text = "\n".join(lines)
    whole = cut == end
    if re.search(r"(?<!\\)(?:\\\\)*\\\n\Z", text):
        text = text[:-2]  # The lone backslash says that there is no line feed.
    if RELAYED in part and "\n\n" in text:
        # What is passed on comes in chunks of any size: its first event is sure.
        text, whole = text.partition("\n\n")[0] + "\n\n", False
    text = unescaped(text)
    return (text, whole) if len(text) <= LONG else (text[:SHOWN], False)


def answers(transcript: str) -> list[Answer]:
    """Read a transcript: what was recorded of each answer, in the order of requests.

    Raises ValueError if it cannot be read.
    """
    found = []
    for part in PART.findall(transcript):
        head, counts = HEAD.match(part), COUNTS.search(part)
        if not head or not counts:
            raise ValueError(f"the recording of {part.splitlines()[0]!r} is not whole")
        fields = [line.partition(": ")[::2] for line in head[3].lower().splitlines()]
        cookies = "".join(value for name, value in fields if name == "set-cookie")
        kind = FIELD.search(head[3])
        charset = CHARSET.search(kind[1]) if kind else None
        text, whole = first_chunk(part)
        first = text.encode(charset[1] if charset else "utf-8", "surrogateescape")
        number = int(counts[1].replace(",", ""))
        found.append(
            Answer(
                status=int(head[2]),
                kind=kind[1] if kind else None,
                chunks=number,
                first=first,
                whole=whole,
                secure="; secure" in cookies,
                encoded=("vary", "accept-encoding") in fields,
            )
        )
    return found


def file_of(line: str) -> str | None:
    """Name the file that a curl command sends, if it sends one."""
    words = shlex.split(line)
    for option, value in pairwise(words):
        if option in {"-T", "--upload-file"}:
            return value
        if option in {"-d", "--data", "--data-binary", "--json"} and value[:1] == "@":
            return value[1:]
    return None


def home_of(file: str, slug: str) -> str:
    """Say which file a reader sends instead of `file`.

    What lies beside the clients is taken along; instead of any other file the recipe
    sends itself, as a folder of the reader's own has no other that is sure to be there.
    """
    if file.startswith(CLIENTS):
        return f"clients/{file.removeprefix(CLIENTS)}"
    return f"{slug}.py"


def literal(content: bytes) -> str:
    """Write bytes as Python does, in lines of their own if one line is too short."""
    flat = quoted(repr(content))
    if len(flat) + len("FIRST = ") <= COLUMNS:
        return flat
    pieces = []
    for line in content.splitlines(keepends=True) or [b""]:
        text = line.decode("utf-8", "surrogateescape")
        cuts = range(0, max(len(text), 1), PIECE)
        pieces += [
            text[at : at + PIECE].encode("utf-8", "surrogateescape") for at in cuts
        ]
    written = [quoted(repr(piece)) for piece in pieces]
    return "(\n" + "".join(f"    {piece}\n" for piece in written) + ")"


def quoted(text: str) -> str:
    """Put a literal into double quotes where that needs no backslash."""
    prefix, content = ("b", text[2:-1]) if text[0] == "b" else ("", text[1:-1])
    return text if '"' in content else f'{prefix}"{content}"'


def in_python(value: object, indent: int) -> str:
    """Write a JSON value as Python, in several lines if it is long."""
    flat = _flat(value)
    if len(flat) + indent < COLUMNS - 12 or not isinstance(value, dict | list):
        return flat
    space = " " * (indent + 4)
    if isinstance(value, dict):
        rows = [f"{_flat(k)}: {in_python(v, indent + 4)}" for k, v in value.items()]
    else:
        rows = [in_python(item, indent + 4) for item in value]
    inside = "".join(f"{space}{row},\n" for row in rows)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inside}{' ' * indent}{closing}"


def _flat(value: object) -> str:
    if isinstance(value, dict):
        rows = [f"{_flat(key)}: {_flat(item)}" for key, item in value.items()]
        return "{" + ", ".join(rows) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flat(item) for item in value) + "]"
    return quoted(repr(value)) if isinstance(value, str) else repr(value)


def arguments(
    asked: Request, file: str | None, indent: int, more: Mapping[str, str]
) -> list[str]:
    """Write the arguments with which a client sends a request; each is one string."""
    written = [quoted(repr(asked.method)), quoted(repr(asked.path))]
    headers = {**asked.headers, **more}
    is_json = all(headers.get(name) == value for name, value in JSON.items())
    if file:
        written.append(f'content=(HERE / "{file}").read_bytes()')
    elif is_json:
        headers = {name: headers[name] for name in headers if name not in JSON}
        body = in_python(json.loads(asked.body), indent)
        written.append(f"json={body}")
    elif asked.body:
        written.append(f"content={quoted(repr(asked.body))}")
    if headers:
        named = {name.title(): value for name, value in headers.items()}
        written.append(f"headers={in_python(named, indent)}")
    return written


def call(function: str, written: list[str], indent: int, room: int) -> str:
    """Write a call in one line, with `room` beside it, or each argument in a line."""
    line = f"{function}({', '.join(written)})"
    if "\n" not in line and indent + len(line) + room <= COLUMNS:
        return line
    space = " " * (indent + 4)
    inside = "".join(f"{space}{argument},\n" for argument in written)
    return f"{function}(\n{inside}{' ' * indent})"


def keeps_a_file(source: str) -> bool:
    """Tell whether a function of the module keeps something in the temporary folder."""
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return any("gettempdir" in ast.unparse(function) for function in functions)


def starter(recipe: Recipe, book: Path, *, router: bool) -> str:
    """Write the test of a recipe; `book` is the folder that holds `docs`.

    Raises ValueError if the recipe needs what no test can stand in for, or its
    transcript does not fit.
    """
    if unknown := sorted(recipe.needs - KNOWN):
        raise ValueError(
            f"{recipe.slug} needs {unknown[0]}: no stand-in is known for it"
        )
    transcript = book / "docs/transcripts" / f"{recipe.slug}.txt"
    recorded = answers(transcript.read_text("utf-8"))
    if len(recorded) != len(recipe.requests):
        raise ValueError(f"the transcript of {recipe.slug} lacks an answer")
    streams = [number for number, answer in enumerate(recorded) if answer.chunks > 1]
    chosen = streams[0] if streams else 0
    parts = _Parts(recipe, recorded[: chosen + 1], router, bool(streams))
    return parts.text()


@dataclass(frozen=True)
class _Parts:
    """The parts of one test; the last of `recorded` is the answer that is tested."""

    recipe: Recipe
    recorded: list[Answer]
    router: bool
    streams: bool

    @property
    def files(self) -> list[str | None]:
        named = [file_of(line) for line in self.recipe.tries]
        return [home_of(file, self.recipe.slug) if file else None for file in named]

    @property
    def stand_in(self) -> str | None:
        if "model" in self.recipe.needs:
            return STAND_IN
        return upstream.RECIPE if "upstream" in self.recipe.needs else None

    @property
    def keeps(self) -> bool:
        return keeps_a_file(self.recipe.source.read_text("utf-8"))

    def text(self) -> str:
        body = self.test()
        top = [self.docstring(), self.imports(body), self.settings(body)]
        parts = ["\n\n".join(filter(None, top)), self.serving(), self.client(), body]
        return "\n\n\n".join(filter(None, parts)) + "\n"

    def docstring(self) -> str:
        slug = self.recipe.slug
        said = [f'"""A starter test for {slug}.py: make it your own.', ""]
        if self.streams:
            said.append(
                "It proves that the first chunk arrives before the stream ends."
            )
        else:
            said.append("It compares an answer with the one that was recorded.")
        if "model" in self.recipe.needs:
            said.append(f"No model and no key are needed: {STAND_IN}.py answers.")
        elif self.stand_in:
            said.append(f"{self.stand_in}.py stands in for the service that is asked.")
        said += [
            "",
            "To test next: how the stream ends, bad input, an early close.",
            '"""',
        ]
        return "\n".join(said)

    def imports(self, body: str) -> str:
        slug = self.recipe.slug
        library = ["import socket"] if self.stand_in else []
        library += ["import tempfile"] if self.keeps else []
        library += ["import threading"] if self.stand_in else []
        library.append("from collections.abc import Iterator")
        library += ["from contextlib import contextmanager"] if self.stand_in else []
        library += ["from pathlib import Path"] if "HERE" in body or self.keeps else []
        third = ["import pytest"]
        third += ["import uvicorn"] if self.stand_in else []
        third += ["from fastapi import FastAPI"] if self.stand_in or self.router else []
        third.append("from fastapi.testclient import TestClient")
        own = [f"from {slug} import {'router' if self.router else 'app'}"]
        if self.stand_in:
            own.append(f"from {self.stand_in} import app as stand_in")
        own.sort()
        return "\n\n".join("\n".join(group) for group in (library, third, own))

    def settings(self, body: str) -> str:
        lines = ["HERE = Path(__file__).parent"] if "HERE" in body else []
        if self.router:
            lines += ["app = FastAPI()", "app.include_router(router)"]
        if "FIRST" in body:
            lines.append(f"FIRST = {literal(self.recorded[-1].first)}")
        return "\n".join(lines)

    def serving(self) -> str:
        if not self.stand_in:
            return ""
        return '''\
@contextmanager
def serving(other: FastAPI) -> Iterator[str]:
    """Serve another application in a thread, and give its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(other, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()'''

    def client(self) -> str:
        variables = self.variables()
        given = ["monkeypatch: pytest.MonkeyPatch"] if variables or self.keeps else []
        given += ["tmp_path: Path"] if self.keeps else []
        scheme = "https" if any(answer.secure for answer in self.recorded) else "http"
        lines = [
            "@pytest.fixture",
            f"def client({', '.join(given)}) -> Iterator[TestClient]:",
            '    """Run the application, from its start to its end."""',
        ]
        if self.keeps:
            lines.append("    # What the application keeps is kept for this test only.")
            lines.append('    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))')
        indent = " " * 4
        if self.stand_in:
            lines.append("    with serving(stand_in) as url:")
            indent = " " * 8
            for name, value in variables.items():
                lines.append(f'{indent}monkeypatch.setenv("{name}", {value})')
        address = f'"{scheme}://127.0.0.1:8000"'
        lines += [
            f"{indent}with TestClient(app, base_url={address}) as client:",
            f"{indent}    yield client",
        ]
        return "\n".join(lines)

    def variables(self) -> dict[str, str]:
        """Give the variables that lead to the stand-in, with what code they are set."""
        if "model" in self.recipe.needs:
            used = [one for one in provider.YOURS if one in self.recipe.packages]
            known = local.environment("{url}")
            found = {
                name: value
                for name, value in known.items()
                if name.lower().startswith(tuple(used or provider.YOURS))
            }
        elif self.stand_in:
            found = {upstream.VARIABLE: "{url}"}
        else:
            return {}
        found["NO_PROXY"] = "127.0.0.1"  # A proxy that is set must not be asked.
        written = {
            name: f'f"{v}"' if "{" in v else f'"{v}"' for name, v in found.items()
        }
        return {name: "url" if v == 'f"{url}"' else v for name, v in written.items()}

    def test(self) -> str:
        """Write the function: what comes first is sent first, then it is streamed."""
        *before, last = range(len(self.recorded))
        lines = []
        for number in before:
            asked, answer = self.recipe.requests[number], self.recorded[number]
            written = arguments(asked, self.files[number], 8, {})
            sent = call("client.request", written, 4, 11)
            lines += [f"    response = {sent}"]
            lines += [f"    assert response.status_code == {answer.status}"]
        asked, answer = self.recipe.requests[last], self.recorded[last]
        plain = {"accept-encoding": "identity"} if answer.encoded else {}
        written = arguments(asked, self.files[last], 8, plain)
        if not self.streams:
            return "\n".join(
                [
                    "def test_the_answer_is_as_recorded(client: TestClient) -> None:",
                    f"    response = {call('client.request', written, 4, 11)}",
                    *self.head(answer, 4),
                    *self.whole(answer),
                ]
            )
        sent = call("client.stream", written, 4, 18)
        return "\n".join(
            [
                "def test_the_first_chunk_arrives_before_the_end("
                "client: TestClient) -> None:",
                *lines,
                f"    with {sent} as response:",
                *self.head(answer, 8),
                "        chunks = response.iter_raw()",
                f"        {self.compared('next(chunks)', answer)}",
                "        # More comes, so the first chunk has not waited for the end.",
                "        assert next(chunks)",
            ]
        )

    def head(self, answer: Answer, indent: int) -> list[str]:
        space = " " * indent
        lines = [f"{space}assert response.status_code == {answer.status}"]
        if answer.kind:
            lines.append(
                f'{space}assert response.headers["content-type"] == "{answer.kind}"'
            )
        return lines

    def whole(self, answer: Answer) -> list[str]:
        """Compare an answer that came at once; of JSON only what it is made of."""
        if answer.kind == "application/json":
            value = json.loads(answer.first)
            if isinstance(value, dict):
                return [f"    assert response.json().keys() == {_set(value)}"]
            return [f"    assert isinstance(response.json(), {type(value).__name__})"]
        return [f"    {self.compared('response.content', answer)}"]

    def compared(self, got: str, answer: Answer) -> str:
        """Compare what came with what was recorded, as far as that is always so."""
        if not answer.first:
            return f"assert {got}"
        asserted = "assert {} == {}" if answer.whole else "assert {}.startswith({})"
        line = asserted.format(got, quoted(repr(answer.first)))
        # The longest comparison stands in a block in a function.
        return line if len(line) + 8 <= COLUMNS else asserted.format(got, "FIRST")


def _set(keys: dict[str, object]) -> str:
    return "{" + ", ".join(quoted(repr(key)) for key in keys) + "}"


def names(recipe: Recipe) -> list[PurePosixPath]:
    """List the files beside the clients that the recipe's requests send."""
    named = [file_of(line) for line in recipe.tries]
    return [PurePosixPath(f) for f in named if f and f.startswith(CLIENTS)]


def shown() -> dict[Path, str]:
    """Give the file that docs/learn/take.md shows, with its text."""
    return {
        ROOT / "docs/learn/take.txt": starter(find("plain_text"), ROOT, router=False)
    }


def main() -> None:
    """Write what the page shows."""
    for path, text in shown().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
