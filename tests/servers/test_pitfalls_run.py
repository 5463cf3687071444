"""Every pitfall runs as its docstring says, and shows its mistake to curl."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping

import pytest

from cookbook import catalog
from cookbook.catalog import ROOT, Pitfall
from cookbook.llm import scripted
from tests.kit import servers
from tests.kit.postgres import postgres
from tests.kit.servers import need

LIMIT = 20  # seconds for one curl; those that wait for ever set their own


@pytest.fixture(scope="module")
def provider() -> Iterator[Mapping[str, str]]:
    """Give the environment in which the SDKs find the scripted provider."""
    with scripted.running() as script:
        yield script.env


@pytest.fixture(scope="module")
def database() -> Iterator[Mapping[str, str]]:
    """Give the environment in which a recipe finds a PostgreSQL."""
    with postgres() as running:
        yield {"DATABASE_URL": running.url}


@pytest.mark.timeout(servers.START + 3 * LIMIT)
@pytest.mark.parametrize("pitfall", catalog.pitfalls(), ids=lambda found: found.name)
def test_a_pitfall_shows_its_mistake_to_who_does_what_it_says(
    pitfall: Pitfall, provider: Mapping[str, str], request: pytest.FixtureRequest
) -> None:
    curl = shutil.which("curl") or need("curl", "apt-get install curl")
    env = provider if "model" in pitfall.needs else {}
    if "postgres" in pitfall.needs:
        env = request.getfixturevalue("database")
    app = pitfall.run.removeprefix("uvicorn ")
    with servers.uvicorn(app, env=env, warm=True) as server:

        def typed(line: str) -> str:
            command = line.replace("http://127.0.0.1:8000", server.url)
            # The reader's shell reads the line; -q leaves out their own settings.
            done = subprocess.run(
                ["sh", "-c", command.replace("curl", f"{curl} -q", 1)],
                cwd=ROOT,
                capture_output=True,
                timeout=LIMIT,
            )
            return (done.stdout + done.stderr).decode("utf-8", "replace")

        *first, last = pitfall.tries
        for line in first:
            typed(line)
        seen = typed(last)
        if first and pitfall.see not in seen:
            # A server may still be busy with the client that has left.
            seen = typed(last)
        assert pitfall.see in seen, seen
