"""docs/recipes/llm_text.md: its claims about real servers, clients and models."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cookbook.llm import local, scripted
from tests.kit import clients
from tests.kit.changed import changed
from tests.kit.llm import ASK
from tests.kit.llm_served import by_model, saying
from tests.kit.servers import ROOT, Answer, Server, need, raw_get, uvicorn
from tests.kit.typed import commands, cookbook, typed

pytestmark = pytest.mark.timeout(60)

APP = "recipes.llm_text:app"
KEY = "sk-canary-4711"
PAGE = ROOT / "docs/recipes/llm_text.md"
CUT_OFF = "curl: (18) transfer closed with outstanding read data remaining"
LEAVERS = 100  # clients that reset their connections
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


@pytest.fixture(scope="module")
def answering(provider: scripted.Provider) -> Iterator[Callable[[str], Server]]:
    """Serve the recipe with a model of your choice, each server once."""
    with by_model(APP, {**provider.env, "OPENAI_API_KEY": KEY}) as with_model:
        yield with_model


@pytest.fixture
def gated(
    provider: scripted.Provider, answering: Callable[[str], Server]
) -> Iterator[Server]:
    """Serve it with a model that makes a token when it is told to."""
    provider.reset()
    yield answering("gated")
    provider.reset()


# The wire


def test_a_token_is_read_before_the_next_may_be_made(
    gated: Server, provider: scripted.Provider
) -> None:
    with raw_get(gated.port, ASK) as answer:
        for number, text in enumerate((b"Tea", b" is", b" hot"), start=1):
            provider.go(1)
            assert answer.chunk() == text
            assert provider.requests()[0].tokens_made == number


def test_an_answer_that_broke_off_has_no_last_chunk(
    answering: Callable[[str], Server], provider: scripted.Provider
) -> None:
    server = answering("overloaded-midstream")
    provider.reset()
    with raw_get(server.port, ASK) as answer:
        assert [answer.chunk(), answer.chunk()] == [b"Tea", b" is"]
        with pytest.raises(EOFError):
            answer.chunk()
    server.expect("recipes.llm_text.BrokenOffError: <class 'openai.APIError'>")
    assert "had an error" not in server.output()
    assert KEY not in server.output()


@pytest.mark.parametrize("leave", [Answer.close, Answer.abort])
def test_the_provider_stops_when_the_client_leaves(
    gated: Server, provider: scripted.Provider, leave: Callable[[Answer], None]
) -> None:
    with raw_get(gated.port, ASK) as answer:
        provider.go(2)
        assert [answer.chunk(), answer.chunk()] == [b"Tea", b" is"]
        leave(answer)
        # It could make a token only after another `go`: the close came before any.
        assert provider.wait(1).hung_up_after == 2


def test_a_hundred_clients_that_vanish_leave_nothing_behind_and_no_traceback(
    gated: Server, provider: scripted.Provider
) -> None:
    for number in range(1, LEAVERS + 1):
        with raw_get(gated.port, ASK) as answer:
            provider.go(1)
            assert answer.chunk() == b"Tea"
            answer.abort()
        assert provider.wait(number).hung_up_after == 1
    assert "Traceback" not in gated.output()
    provider.go(1)
    with raw_get(gated.port, ASK) as answer:
        assert answer.chunk() == b"Tea"


def test_two_workers_answer_and_stop_like_one(provider: scripted.Provider) -> None:
    env = {**provider.env, "OPENAI_MODEL": "gated"}
    with uvicorn(APP, "--workers", "2", env=env) as server:
        provider.reset()
        for number in range(1, 7):
            with raw_get(server.port, ASK) as answer:
                provider.go(1)
                assert answer.chunk() == b"Tea"
            assert provider.wait(number).hung_up_after == 1


# The clients on the page


@pytest.mark.parametrize("client", ["llm_text.py", "llm_text.mjs"])
@pytest.mark.parametrize(
    ("model", "code", "out", "err"),
    [
        ("newlines", 0, "Milk\nsugar\n\n\nhoney\n\u2028\u0085.\n", ""),
        ("utf8-split", 0, "Tèa はあつい 🫖.\n", ""),
        ("truncated", 1, "Tea is", "\nNot complete. "),
        (
            "unauthorized",
            1,
            "",
            '\nNot complete. 502: {"detail":"The provider did not answer."}\n',
        ),
    ],
)
def test_a_client_prints_the_answer_and_whether_it_broke_off(
    answering: Callable[[str], Server],
    tmp_path: Path,
    client: str,
    model: str,
    code: int,
    out: str,
    err: str,
) -> None:
    done = clients.run(client, answering(model).url, tmp_path)
    assert (done.returncode, done.stdout) == (code, out)
    assert done.stderr.startswith(err)
    assert bool(done.stderr) == bool(err)


@pytest.mark.parametrize("client", ["llm_text.py", "llm_text.mjs"])
def test_a_client_joins_what_is_cut_inside_a_character(
    client: str, tmp_path: Path
) -> None:
    text = "Téa 🫖\n"
    chunks = [b"1\r\n%c\r\n" % byte for byte in text.encode()]
    with saying(HEAD, *chunks, b"0\r\n\r\n") as url:
        done = clients.run(client, url, tmp_path)
    assert (done.returncode, done.stdout) == (0, text + "\n")


def test_curl_into_a_file_leaves_half_an_answer(
    answering: Callable[[str], Server], tmp_path: Path
) -> None:
    curl = shutil.which("curl") or need("curl", "apt-get install curl")
    file = tmp_path / "answer.txt"
    with file.open("wb") as out:
        command = [curl, "-q", "-s", f"{answering('truncated').url}{ASK}"]
        assert subprocess.run(command, stdout=out).returncode == 18
    assert file.read_text("utf-8") == "Tea is"


# Run it and Break it, word by word


def test_break_it_does_what_the_page_says_to_who_does_what_the_page_says(
    tmp_path: Path,
) -> None:
    page = PAGE.read_text("utf-8")
    model, *exports, start, ask_it = commands(page.partition("## The code")[0])
    broken = page.partition('!!! example "Break it"')[2].partition("## In")[0]
    scripted_model, *more, start_again = commands(broken)
    assert [model, scripted_model] == ["cookbook llm", "cookbook llm --scripted"]
    assert start == start_again == f"uvicorn {APP}"
    assert exports[-1] == f"export OPENAI_MODEL={local.MODEL}"
    assert more == [*exports[:-1], "export OPENAI_MODEL=truncated"]

    with cookbook(scripted_model) as provider:
        env = {}
        for line in more:
            (_, variable) = typed(line, model=provider.port)
            name, _, env[name] = variable.partition("=")

        def see(cwd: Path) -> subprocess.CompletedProcess[str]:
            with uvicorn(APP, env=env, cwd=cwd) as recipe:
                command = typed(ask_it, recipe=recipe.port)
                command[1:1] = ["-q", "-sS"]
                return subprocess.run(command, capture_output=True, text=True)

        before = see(ROOT)
        old, new = "if not complete:", "if False:"
        assert f"`{old}` into `{new}`" in " ".join(broken.split())
        after = see(changed(tmp_path, "llm_text", old, new))
    assert CUT_OFF in " ".join(broken.split())
    assert (before.stdout, before.stderr.strip()) == ("Tea is", CUT_OFF)
    assert (after.stdout, after.stderr, after.returncode) == ("Tea is", "", 0)


# A real model


def test_a_real_model_writes_text(model: local.Local) -> None:
    with (
        uvicorn(APP, env=model.env, warm=True) as server,
        raw_get(server.port, "/answer?prompt=Say+hello.") as answer,
    ):
        pieces = list(iter(answer.chunk, b""))
    assert len(pieces) > 1
    assert b"".join(pieces).decode()
