"""docs/learn/provider.md: what the page says is done, and what it prints is compared.

The commands are taken from the page and run as a reader runs them, but for the ports.
"""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anthropic
import openai
import psutil
import pytest
from fastapi.testclient import TestClient

from cookbook.catalog import ROOT
from cookbook.llm import local, provider, scripted
from recipes import llm_anthropic, llm_chat, llm_openai
from tests.kit import servers
from tests.kit.servers import Server, free_port, need
from tests.llm.processes import until

PAGE = (ROOT / "docs/learn/provider.md").read_text("utf-8")
PRINTED = (ROOT / "docs/learn/provider.txt").read_text("utf-8")
COMMANDS: list[str] = [
    line
    for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
URL = "http://127.0.0.1:8001"

pytestmark = pytest.mark.timeout(3 * servers.START)


def command(*parts: str) -> str:
    """Find the one command of the page that holds all of these."""
    found = {line for line in COMMANDS if all(part in line for part in parts)}
    assert len(found) == 1, f"{parts} are in {found}"
    return found.pop()


def printed(section: str) -> str:
    """Give what the page says is printed."""
    assert f'\n--8<-- "docs/learn/provider.txt:{section}"\n' in PAGE
    marks = rf"--8<-- \[start:{section}\]\n(.*?)--8<-- \[end:{section}\]"
    found = re.search(marks, PRINTED, re.DOTALL)
    assert found, section
    return found[1]


@contextmanager
def cookbook(line: str) -> Iterator[Server]:
    """Run a command of the page on a free port."""
    assert line in COMMANDS
    port = free_port()
    argv = [sys.executable, "-u", "-m", "cookbook.cli", *line.split()[1:]]
    with servers.serve([*argv, "--port", str(port)], port) as server:
        # The model's port accepts before the model is loaded.
        until(lambda: server.output().endswith("Ctrl+C stops it\n"))
        yield server


def said_by(server: Server) -> str:
    """Give what a provider has written, as if it were on the page's port."""
    return server.output().replace(server.url, URL)


def in_shell(line: str, *ports: tuple[int, int]) -> list[str]:
    """Prepare a curl command of the page, with other ports, for the reader's shell."""
    program = shutil.which("curl") or need("curl", "apt-get install curl")
    for there, here in ports:
        line = line.replace(f"127.0.0.1:{there}", f"127.0.0.1:{here}")
    # -q leaves out the settings of whoever runs the tests.
    return ["sh", "-c", line.replace("curl", f"exec {program} -q -s", 1)]


def curl(line: str, *ports: tuple[int, int], status: int = 0) -> str:
    """Run a curl command of the page; give what it prints."""
    done = subprocess.run(
        in_shell(line, *ports), capture_output=True, text=True, timeout=servers.WAIT
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def exported(line: str, provider: Server) -> list[tuple[str, str]]:
    """Read an `export` of the page: the variable, and its value for this provider."""
    name, _, value = line.removeprefix("export ").partition("=")
    return [(name, value.replace(URL, provider.url))]


@pytest.fixture(scope="module")
def script() -> Iterator[Server]:
    """Give the scripted provider, started as the page says."""
    with cookbook("cookbook llm --scripted") as server:
        yield server


def test_the_scripted_provider_says_what_the_page_prints(script: Server) -> None:
    assert said_by(script) == printed("scripted")


def test_the_record_shows_what_the_page_did(script: Server) -> None:
    port = (8001, script.port)
    record, requests = (
        command("/scripted/record"),
        command("curl http://127.0.0.1:8001/scripted/req"),
    )
    forget = command("curl -X DELETE")
    curl(forget, port)
    # A stream that is cut off, asked for without a recipe …
    truncated = curl(command('"model": "truncated"'), port)
    assert truncated.count("data: ") == 3
    assert truncated.count('"delta":{"content":') == 2
    assert "content" not in truncated.partition("\n")[0].replace('"content":""', "")
    assert '"finish_reason":"' not in truncated
    assert "[DONE]" not in truncated
    # … and through one, which gets its variables in its own terminal …
    own = {line for line in COMMANDS if "your-own-key" in line}
    exports = [x for x in COMMANDS if x.startswith("export ") and x not in own]
    env = {name: value for line in exports for name, value in exported(line, script)}
    assert env["OPENAI_MODEL"] == "truncated"
    app = command("uvicorn ").removeprefix("uvicorn ")
    with servers.uvicorn(app, env=env, warm=True) as server:
        answer = curl(command("127.0.0.1:8000/"), (8000, server.port))
    assert answer == printed("answer")
    # … and a client that leaves; 28 is what curl says when its time is over.
    curl(command("--max-time 1"), port, status=28)
    until(lambda: json.loads(curl(requests, port))[-1]["ended"] is not None)
    assert curl(record, port) == printed("record")
    assert curl(requests, port) == printed("requests")
    curl(forget, port)
    assert len(curl(record, port).splitlines()) == 1


def test_the_gate_lets_as_many_tokens_through_as_the_page_says(script: Server) -> None:
    port = (8001, script.port)
    curl(command("curl -X DELETE"), port)
    asked = in_shell(command('"model": "gated"'), port)
    with subprocess.Popen(asked, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout
        events = (line for line in waiting.stdout if line.strip())
        assert '"role":"assistant"' in next(events)
        curl(command("/scripted/go", '{"tokens": 3}'), port)
        for token in ("Tea", " is", " hot"):
            assert f'"content":"{token}"' in next(events)
        assert "still open  3 " in curl(command("/scripted/record"), port)
        requests = command("curl http://127.0.0.1:8001/scripted/req")
        assert '"ended":null' in curl(requests, port)
        waiting.kill()


def test_every_end_that_the_page_names_is_one_of_the_records() -> None:
    # The tests of the record see each of them come true.
    table = PAGE.split("| `ended` |")[1].split("\n\n")[0]
    named = re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)
    made = {scripted.ending(s, f) for s, f in [(None, None), (429, None)]}
    made |= {scripted.ending(None, "reset"), scripted.LEFT, "still open"}
    assert set(named) == made


def test_the_page_lists_every_scenario_with_what_its_file_says() -> None:
    table = PAGE.split("<!-- scenarios -->")[1].split("<!-- end of scenarios -->")[0]
    rows = re.findall(r"^\| `([\w-]+)` \| (.+) \| (.+) \|$", table, re.MULTILINE)
    known = scripted.load()
    assert [(name, about) for name, about, _ in rows] == [
        (name, scenario.about) for name, scenario in known.items()
    ]
    ends = {name: end for name, _, end in rows}
    assert ends["ok"] == "complete"
    assert ends["stall-after-first"] == "closed by the client"
    assert ends["rate-limited-once"] == "refused with status 429, then complete"


def test_a_file_of_your_own_is_served_as_the_page_says() -> None:
    line = command("--scripted docs/learn/")
    file = ROOT / line.split()[-1]
    names = [*scripted.load(file)]
    with cookbook(line) as server:
        assert names[-1] == "lost-in-the-middle"
        asked = command('"model": "lost-in-the-middle"')
        answer = curl(asked, (8001, server.port), status=56)  # a reset
        assert answer.count('"delta":{"content":"') == 3
        record = curl(command("/scripted/record"), (8001, server.port))
        (models,) = re.findall(
            r"^  (curl .*/v1/models)$", server.output(), re.MULTILINE
        )
        listed = [model["id"] for model in json.loads(curl(models))["data"]]
    assert listed == names
    assert record.splitlines()[1].startswith("1        broken off: reset  3 ")


def test_a_field_that_is_wrong_names_the_scenario_and_the_field(tmp_path: Path) -> None:
    file = tmp_path / "tea.toml"
    text = (ROOT / "docs/learn/tea.toml").read_text("utf-8")
    file.write_text(text.replace("fails = 2", 'fails = "two"'), "utf-8")
    with pytest.raises(ValueError, match="scenario busy-twice: fails: "):
        scripted.load(file)


def test_the_variables_that_the_page_names_are_those_that_choose() -> None:
    section = PAGE.split("## Use your own provider")[1].split("Set one")[0]
    names = [name for names in provider.YOURS.values() for name in names]
    assert re.findall("`([A-Z_]+)`", section) == names
    own = [line for line in COMMANDS if "your-own-key" in line]
    assert own == [
        "export OPENAI_API_KEY=sk-your-own-key",
        "export ANTHROPIC_API_KEY=sk-ant-your-own-key",
    ]


def test_what_the_page_unsets_is_all_that_the_command_exports() -> None:
    unset = re.findall(r"`unset ([^`]*)`", PAGE)
    assert [set(names.split()) for names in unset] == [
        local.environment("", local.MODEL).keys()
    ]


def test_the_library_wants_a_key_and_the_recipes_do_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(openai.OpenAIError):
        openai.AsyncOpenAI()
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    for app in (llm_openai.app, llm_chat.app, llm_anthropic.app):
        with TestClient(app) as client:
            assert client.app_state["client"].api_key == "none"


def test_anthropics_library_raises_an_error_when_it_asks_without_a_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    # It would also look for a profile of whoever runs the tests.
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    with pytest.raises(TypeError, match="authentication"):
        anthropic.Anthropic().messages.create(model="ok", max_tokens=1, messages=[])


def test_the_small_model_says_and_costs_what_the_page_prints() -> None:
    if reason := local.available():
        need("the local model", reason)
    with cookbook("cookbook llm") as server:
        assert said_by(server) == printed("local")
        (child,) = psutil.Process(server.process.pid).children()
        memory = child.memory_info().rss / 1e6
    assert 0.8 < memory / int(number("(\\d+) MB of memory")) < 1.2


def number(pattern: str) -> str:
    """Find a number on the page."""
    found = re.search(pattern, PAGE)
    assert found, pattern
    digits: str = found[1]
    return digits.replace(",", "")


def test_the_limits_that_the_page_names_are_the_small_models() -> None:
    assert number(r"have ([\d,]+) tokens together") == str(local.CONTEXT)
    assert number(r"ends after (\d+) tokens") == str(local.ANSWER)
    assert (number(r"answers (\w+) clients at a time"), local.SLOTS) == ("four", 4)
    weights = local.weights() or need("the local model", str(local.available()))
    engine = importlib.util.find_spec("xllamacpp")
    assert engine
    assert engine.origin
    files = [weights, *Path(engine.origin).parent.iterdir()]
    size = sum(file.stat().st_size for file in files if file.is_file()) / 1e6
    assert 0.8 < size / int(number(r"(\d+) MB on the disk")) < 1.2
