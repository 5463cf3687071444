"""docs/production/container.md: the image and the services, without an engine."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from cookbook import catalog
from cookbook.catalog import ROOT
from tests.kit import redis as redis_kit
from tests.kit import servers
from tests.kit.nginx import nginx
from tests.kit.servers import HOST, Server, free_port, need, raw_get, serve, until

pytestmark = pytest.mark.timeout(servers.START + 30)

FOLDER = ROOT / "docs/production"
PAGE = (FOLDER / "container.md").read_text("utf-8")
DOCKERFILE = (FOLDER / "Dockerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
APP: dict[str, Any] = COMPOSE["services"]["app"]


def printed() -> list[str]:
    """List the commands of the page."""
    return re.findall(r"^```bash\n(.+?)\n```$", PAGE, re.MULTILINE | re.DOTALL)


def instructions() -> list[tuple[str, str]]:
    """Read the Dockerfile: each instruction with its arguments, in one line each."""
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    lines = [line for line in joined.splitlines() if line and line[0] != "#"]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def told(name: str) -> list[str]:
    """Give the arguments of all instructions of that name."""
    return [rest for found, rest in instructions() if found == name]


def command() -> list[str]:
    """Give the image's command; it has to be a list, which is the exec form."""
    (found,) = told("CMD")
    words: list[str] = json.loads(found)
    return words


def health() -> list[str]:
    """Give the command of the health check."""
    (found,) = told("HEALTHCHECK")
    words: list[str] = json.loads(found.partition("CMD ")[2])
    return words


def seconds(text: str) -> int:
    """Read a duration such as 10s."""
    assert text.endswith("s")
    return int(text[:-1])


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).parent / "hadolint"
    found = shutil.which("hadolint") or (str(program) if program.exists() else None)
    if found is None:
        need("hadolint", "pip install -e '.[servers]'")
    done = subprocess.run(
        [found, "--no-color", str(FOLDER / "Dockerfile")],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_files_that_it_copies_are_there() -> None:
    copied = [rest.split() for rest in told("COPY") if not rest.startswith("--from")]
    assert copied
    for *sources, _ in copied:
        assert all((ROOT / source).exists() for source in sources)
    build = APP["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).samefile(FOLDER / "Dockerfile")


def test_the_engine_gets_what_is_copied_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    patterns = [line for line in lines if not line.startswith("#")]
    copied = [rest.split()[0] for rest in told("COPY") if not rest.startswith("--from")]
    assert patterns == ["*", *(f"!{name}" for name in copied), "**/__pycache__"]


def test_it_installs_what_the_recipe_needs_in_the_versions_of_the_lock() -> None:
    (run,) = [rest for rest in told("RUN") if "printf" in rest]
    named = re.findall(r"'(.*?)'", run)[0].split(r"\n")
    wanted = {re.split(r"\W", name)[0] for name in named if name}
    recipe = ROOT / "recipes/sse_broadcast.py"
    needs = (catalog.metadata(recipe) or {})["dependencies"]
    assert wanted == {re.split(r"\W", name)[0] for name in needs}
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    for name in [*wanted, "uv"]:
        assert re.search(rf"^{name}==", lock, re.MULTILINE)
    (version,) = re.findall(r"uv==([\d.]+)", run)
    assert f"\nuv=={version} " in lock


def test_it_does_not_run_as_root() -> None:
    assert told("USER") == ["10001"]
    (user,) = [rest for rest in told("RUN") if "useradd" in rest]
    assert "--uid 10001" in user
    names = [name for name, _ in instructions()]
    assert names.index("USER") < names.index("CMD")


def test_the_engine_waits_for_longer_than_uvicorn() -> None:
    words = command()
    limit = int(words[words.index("--timeout-graceful-shutdown") + 1])
    assert seconds(APP["stop_grace_period"]) > limit


def test_nobody_outside_reaches_the_application() -> None:
    assert "ports" not in APP
    assert APP["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"]["internal"] is True
    (port,) = COMPOSE["services"]["proxy"]["ports"]
    assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_what_a_service_waits_for_says_when_it_is_healthy(name: str) -> None:
    for other, how in COMPOSE["services"][name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        service = COMPOSE["services"][other]
        assert "healthcheck" in service or told("HEALTHCHECK")


@pytest.fixture(scope="module")
def image() -> Iterator[Server]:
    """Run the command of the image, on a free port of this machine, with a Redis."""
    program, app, *options = command()
    assert (program, told("EXPOSE")) == ("uvicorn", ["8000"])
    assert " ".join(options[:4]) == "--host 0.0.0.0 --port 8000"
    port = free_port()
    argv = [sys.executable, "-u", "-m", program, app, "--port", str(port), *options[4:]]
    with redis_kit.redis() as store:
        assert set(APP["environment"]) == {"REDIS_URL", "FORWARDED_ALLOW_IPS"}
        env = {"REDIS_URL": store.url, "FORWARDED_ALLOW_IPS": "*"}
        with serve(argv, port, env=env) as running:
            yield running


def checked(server: Server) -> int:
    """Run the health check of the image; give its exit code."""
    words = [
        word.replace("127.0.0.1:8000", f"{HOST}:{server.port}") for word in health()
    ]
    assert words[0] == "python"
    assert words[1:] != health()[1:]
    return subprocess.run([sys.executable, *words[1:]], capture_output=True).returncode


def test_the_health_check_finds_the_application_healthy(image: Server) -> None:
    assert checked(image) == 0


def test_the_proxy_streams_and_tells_who_asks(image: Server) -> None:
    text = (FOLDER / "compose-nginx.conf").read_text("utf-8")
    assert "listen 80;" in text
    block = text.partition("server {\n")[2].rpartition("}")[0]
    block = block.replace("listen 80;", "").replace("http://app:8000", image.url)
    (published,) = COMPOSE["services"]["proxy"]["ports"]
    up, listen, tell = printed()
    assert f"#   {up}\n" in (FOLDER / "compose.yaml").read_text("utf-8")
    address = f"http://{published.removesuffix(':80')}"
    assert published.endswith(":80")
    assert (listen, tell) == (
        f"curl -N {address}/events",
        f"curl -X POST {address}/orders/7/paid",
    )
    with nginx(block) as proxy, raw_get(proxy.port, "/events") as answer:
        assert answer.head.startswith("HTTP/1.1 200 ")
        assert "uvicorn" not in answer.head
        first = answer.chunk()
        httpx2.post(f"{proxy.url}/orders/7/paid").raise_for_status()
        assert first
        (event,) = re.findall(r"an event `order` with `(.*?)`", PAGE)
        told = f"event: order\ndata: {event}\n".encode()
        until(lambda: told in answer.chunk(), "the order")


def test_sigterm_ends_it_with_a_stream_open_and_then_the_check_fails(
    image: Server,
) -> None:
    with raw_get(image.port, "/events") as answer:
        assert answer.head.startswith("HTTP/1.1 200 ")
        image.signal(signal.SIGTERM)
        image.wait(seconds(APP["stop_grace_period"]))
    assert "Application shutdown complete" in image.output()
    assert checked(image) == 1


def test_the_volumes_and_the_commands_are_well_formed() -> None:
    proxy = COMPOSE["services"]["proxy"]
    (volume,) = proxy["volumes"]
    source, target, mode = volume.split(":")
    assert (FOLDER / source).is_file()
    assert (target, mode) == ("/etc/nginx/conf.d/default.conf", "ro")
    store = COMPOSE["services"]["redis"]["command"]
    assert isinstance(store, list)
    assert shlex.join(store).startswith("redis-server ")
