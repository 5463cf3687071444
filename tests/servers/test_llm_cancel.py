"""docs/recipes/llm_cancel.md: its claims about two workers, Redis and real clients."""

import json
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
import redis as library

from cookbook import catalog
from cookbook.llm import scripted
from tests.kit import clients, servers
from tests.kit.changed import changed
from tests.kit.llm import provider_with
from tests.kit.llm_cancel import (
    Stream,
    asked,
    generation,
    post_cancel,
    refusal,
)
from tests.kit.redis import Redis, redis
from tests.kit.servers import Server, free_port, reset, until, uvicorn

pytestmark = pytest.mark.timeout(2 * servers.START + 20)

APP = "tests.servers.watched_llm_cancel:app"
# Slow enough that two tokens are longer than any way of a stop, also on a busy machine.
SLOW = """
[slow]
about = "A token each quarter of a second"
tokens = ["Tea "]
repeat = 1000
pause = 0.25
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[scripted.Provider]:
    with provider_with(SLOW) as running:
        yield running


@pytest.fixture
def gate(provider: scripted.Provider) -> scripted.Provider:
    """Give the provider without memory."""
    provider.reset()
    return provider


@pytest.fixture(scope="module")
def env(provider: scripted.Provider) -> dict[str, str]:
    return {**provider.env, "OPENAI_MODEL": "gated", "REDIS_URL": ""}


@pytest.fixture(scope="module")
def server(env: dict[str, str]) -> Iterator[Server]:
    with uvicorn(APP, env=env) as running:
        yield running


@pytest.fixture(scope="module")
def shared() -> Iterator[Redis]:
    with redis() as running:
        yield running


@pytest.fixture(scope="module")
def pair(shared: Redis, env: dict[str, str]) -> Iterator[list[Server]]:
    """Two workers that share a Redis; each can be asked by its own port."""
    env = {**env, "REDIS_URL": shared.url}
    with uvicorn(APP, env=env) as one, uvicorn(APP, env=env) as other:
        until(lambda: len(channels(shared)) == 2, "both listen")
        yield [one, other]


def channels(shared: Redis) -> list[bytes]:
    with library.Redis.from_url(shared.url) as client:
        found: list[bytes] = client.pubsub_channels()
        return found


def keys(shared: Redis) -> list[bytes]:
    with library.Redis.from_url(shared.url) as client:
        found: list[bytes] = client.keys()
        return found


def held(server: Server) -> dict[str, int]:
    found: dict[str, int] = httpx2.get(f"{server.url}/held").json()
    return found


def nothing_left(shared: Redis, *workers: Server) -> None:
    """Wait until no table has an entry, neither in memory nor in Redis."""
    until(lambda: not any(held(w)["entries"] for w in workers), "an entry stays")
    until(lambda: keys(shared) == [], f"in Redis stays {keys(shared)}")


def two_tokens(stream: Stream, gate: scripted.Provider) -> None:
    assert stream.next()[0] == "start"
    gate.go(2)
    assert [stream.next()[0] for _ in range(2)] == ["token", "token"]


# The three ways, by the provider's record

WAYS = ["request", "deadline", "leaving", "vanishing"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("workers", [1, 2])
def test_the_provider_is_left_before_it_makes_another_token(
    way: str,
    workers: int,
    gate: scripted.Provider,
    request: pytest.FixtureRequest,
    server: Server,
    shared: Redis,
) -> None:
    holder, other = server, server
    if workers == 2:
        holder, other = request.getfixturevalue("pair")
    query = "&seconds=2" if way == "deadline" else ""
    with generation(holder.port, "tea", query=query) as stream:
        two_tokens(stream, gate)
        if way == "request":
            assert post_cancel(other.port, "tea") == 204
        if way == "leaving":
            stream.answer.close()
        if way == "vanishing":
            stream.answer.abort()
        if way in {"request", "deadline"}:
            assert stream.rest() == [("cancelled", {"by": way, "tokens": 2})]
        # It could make a token only after another `go`: the close came before any.
        record = gate.wait(1)
        assert (record.hung_up_after, record.ended) == (2, "closed by the client")
    nothing_left(shared, holder, other)


def test_a_provider_that_writes_on_makes_at_most_two_tokens_more(
    gate: scripted.Provider, env: dict[str, str]
) -> None:
    with redis() as store, ExitStack() as stack:
        env = {**env, "OPENAI_MODEL": "slow", "REDIS_URL": store.url}
        holder = stack.enter_context(uvicorn(APP, env=env))
        other = stack.enter_context(uvicorn(APP, env=env))
        until(lambda: len(channels(store)) == 2, "both listen")
        streams = [
            stack.enter_context(generation(holder.port, way, query=query))
            for way, query in [("request", ""), ("leaving", ""), ("d", "&seconds=1.5")]
        ]
        for stream in streams[:2]:
            assert [stream.next()[0] for _ in range(3)] == ["start", "token", "token"]
        assert post_cancel(other.port, "request") == 204
        streams[1].answer.close()
        names = [name for name, _ in streams[2].rest()]
        assert names[-1] == "cancelled"
        for number, seen in enumerate((2, 2, names.count("token")), 1):
            made = gate.wait(number).hung_up_after
            assert made is not None
            assert made <= seen + 2


# Whose it is, in all processes


def test_at_another_worker_a_foreign_id_looks_like_an_unknown_one(
    pair: list[Server], gate: scripted.Provider, shared: Redis
) -> None:
    """Attack: A client stops another one's answer at another worker: 404 there too."""
    one, other = pair
    with generation(one.port, "tea") as stream:
        two_tokens(stream, gate)
        foreign = refusal(other.port, "tea", "zoe")
        unknown = refusal(other.port, "pot", "ada")
        assert (foreign.status_code, unknown.status_code) == (404, 404)
        assert foreign.content == unknown.content
        gate.go(1)
        assert stream.next() == ("token", {"text": " hot"})
    nothing_left(shared, one, other)


def test_an_owner_has_an_id_once_in_all_processes(
    pair: list[Server], gate: scripted.Provider, shared: Redis
) -> None:
    one, other = pair
    with generation(one.port, "tea") as stream:
        two_tokens(stream, gate)
        with generation(other.port, "tea") as again:
            assert again.status == 409
        with generation(other.port, "tea", "zoe") as hers:
            assert hers.status == 200
        assert post_cancel(other.port, "tea") == 204
    nothing_left(shared, one, other)


def test_with_two_workers_a_stop_works_whichever_of_them_it_comes_to(
    shared: Redis, gate: scripted.Provider, env: dict[str, str]
) -> None:
    env = {**env, "REDIS_URL": shared.url}
    before = len(channels(shared))
    with uvicorn(APP, "--workers", "2", env=env) as server:
        until(lambda: len(channels(shared)) == before + 2, "both listen")
        for number in range(6):
            with generation(server.port, f"tea-{number}") as stream:
                two_tokens(stream, gate)
                assert post_cancel(server.port, f"tea-{number}") == 204
                ended = stream.rest()
                assert ended == [("cancelled", {"by": "request", "tokens": 2})]
            gate.wait(number + 1)  # Until then it could take the next one's tokens.


def test_without_redis_another_worker_knows_nothing(
    server: Server, gate: scripted.Provider, env: dict[str, str]
) -> None:
    with uvicorn(APP, env=env) as other, generation(server.port, "tea") as stream:
        two_tokens(stream, gate)
        assert post_cancel(other.port, "tea") == 404
        gate.go(1)
        assert stream.next() == ("token", {"text": " hot"})


# No entry is left


def test_redis_knows_a_generation_by_a_hash_and_forgets_it_by_itself(
    pair: list[Server], gate: scripted.Provider, shared: Redis
) -> None:
    one, other = pair
    with generation(one.port, "tea", "s3cret") as stream:
        two_tokens(stream, gate)
        (key,) = keys(shared)
        assert re.fullmatch(rb"llm_cancel:[0-9a-f]{64}:tea", key)
        with library.Redis.from_url(shared.url) as client:
            assert 120 < client.ttl(key) <= 130
    nothing_left(shared, one, other)


def test_a_hundred_that_vanish_leave_no_entry_no_task_and_no_stream(
    pair: list[Server], gate: scripted.Provider, shared: Redis
) -> None:
    one, other = pair
    nothing_left(shared, one, other)
    before = held(one)["tasks"]
    for number in range(100):
        reset(asked(one.port, f"tea-{number}"))
    until(lambda: held(one)["tasks"] <= before, f"{held(one)}, at first {before}")
    nothing_left(shared, one, other)
    for number in range(1, len(gate.requests()) + 1):
        assert gate.wait(number).hung_up_after == 0
    assert "Traceback" not in one.output()
    assert "ERROR" not in one.output()


def test_what_a_killed_worker_leaves_expires_and_stop_says_that_nobody_confirms(
    gate: scripted.Provider, env: dict[str, str], shared: Redis
) -> None:
    env = {**env, "REDIS_URL": shared.url}
    with uvicorn(APP, env=env) as other:
        with uvicorn(APP, env=env) as one, generation(one.port, "tea") as stream:
            two_tokens(stream, gate)
            one.signal(signal.SIGKILL)
            one.wait()
            assert gate.wait(1).hung_up_after == 2
            with pytest.raises((EOFError, ConnectionError)):
                stream.rest()
        (key,) = keys(shared)
        refused = refusal(other.port, "tea")
        assert refused.status_code == 503
        assert refused.json() == {"detail": "Stop does not work now. Close the stream."}
        with library.Redis.from_url(shared.url) as client:
            assert 0 < client.ttl(key) <= 130
            client.pexpire(key, 1)
        until(lambda: keys(shared) == [], "it does not expire")
        assert post_cancel(other.port, "tea") == 404


def test_a_server_that_stops_leaves_the_provider_and_no_entry_for_long(
    gate: scripted.Provider, env: dict[str, str], shared: Redis
) -> None:
    env = {**env, "REDIS_URL": shared.url}
    with (
        uvicorn(APP, "--timeout-graceful-shutdown", "1", env=env) as one,
        generation(one.port, "tea") as stream,
    ):
        two_tokens(stream, gate)
        one.signal(signal.SIGTERM)
        assert gate.wait(1).hung_up_after == 2
        one.wait()
        with library.Redis.from_url(shared.url) as client:
            # It may end before it has told Redis.
            for key in keys(shared):
                assert 0 < client.ttl(key) <= 130
                client.delete(key)


# Redis goes away


def test_without_its_redis_a_stream_goes_on_and_stop_says_503(
    gate: scripted.Provider, env: dict[str, str], tmp_path: Path
) -> None:
    port = free_port()
    url = f"redis://{servers.HOST}:{port}/0"
    env = {**env, "REDIS_URL": url}
    with uvicorn(APP, env=env) as one, uvicorn(APP, env=env) as other:
        with redis(port=port, folder=tmp_path) as first:
            until(lambda: len(channels(first)) == 2, "both listen")
            stream = Stream(asked(one.port, "tea"))
            two_tokens(stream, gate)
        gate.go(1)
        assert stream.next() == ("token", {"text": " hot"})
        for name, owner in [("tea", "ada"), ("tea", "zoe"), ("pot", "ada")]:
            refused = refusal(other.port, name, owner)
            assert refused.status_code == 503
            assert refused.json()["detail"].startswith("Stop does not work now.")
        with generation(other.port, "pot") as new:
            assert new.status == 503
        # The worker that writes it needs no Redis to stop it.
        gate.go(1)
        assert stream.next() == ("token", {"text": ". "})
        assert post_cancel(one.port, "tea") == 204
        assert stream.rest() == [("cancelled", {"by": "request", "tokens": 4})]
        stream.answer.close()
        until(lambda: held(one)["entries"] == 0, "an entry stays")
        with redis(port=port, folder=tmp_path) as second:
            until(lambda: len(channels(second)) == 2, "both listen again")
            with generation(one.port, "tea") as stream:
                two_tokens(stream, gate)
                assert post_cancel(other.port, "tea") == 204
                assert stream.rest()[-1][0] == "cancelled"
            nothing_left(second, one, other)
        assert "Redis does not answer" in one.output()
        assert "Traceback" not in one.output() + other.output()


# Clients, and Break it


@pytest.fixture(scope="module")
def writing(env: dict[str, str]) -> Iterator[Server]:
    with uvicorn(APP, env={**env, "OPENAI_MODEL": "long"}) as running:
        yield running


@pytest.mark.parametrize(
    ("client", "stopped"),
    [("llm_cancel.py", "[Stop: 204]"), ("llm_cancel.mjs", "[Stop: true]")],
)
def test_a_client_stops_its_answer(
    client: str, stopped: str, writing: Server, gate: scripted.Provider, tmp_path: Path
) -> None:
    done = clients.run(client, writing.url, tmp_path)
    assert done.returncode == 0, done.stderr
    assert stopped in done.stdout
    name, _, data = done.stdout.splitlines()[-1].partition(": ")
    said = json.loads(data)
    assert (name, said["by"]) == ("cancelled", "request")
    assert 10 <= said["tokens"] < 1000
    assert gate.wait(1).hung_up_after is not None
    until(lambda: held(writing)["entries"] == 0, "an entry stays")


def test_a_client_tells_an_answer_that_is_complete_and_one_that_is_refused(
    env: dict[str, str], tmp_path: Path
) -> None:
    nobody = {**env, "OPENAI_BASE_URL": "", "OPENAI_API_KEY": ""}
    with (
        uvicorn(APP, env={**env, "OPENAI_MODEL": "usage"}) as server,
        uvicorn(APP, env=nobody) as without,
    ):
        for client in ("llm_cancel.py", "llm_cancel.mjs"):
            done = clients.run(client, server.url, tmp_path)
            assert done.stdout.startswith("Four orders are open.\ndone: {")
            refused = clients.run(client, without.url, tmp_path)
            assert refused.returncode == 1
            assert "No model" in refused.stderr


OLD = "it.scope.cancel()  # Whatever it waits for: the provider, or a slow client."


PAGE = servers.ROOT / "docs/recipes/llm_cancel.md"


def test_break_it_a_flag_alone_stops_nothing(
    tmp_path: Path, gate: scripted.Provider, env: dict[str, str]
) -> None:
    told = PAGE.read_text("utf-8").partition('!!! example "Break it"')[2]
    assert "export OPENAI_MODEL=stall-after-first" in told
    assert "still open" in told
    env = {**env, "OPENAI_MODEL": "stall-after-first"}
    asked = catalog.read(servers.ROOT / "recipes/llm_cancel.py").tries[:2]

    def see(server: Server) -> tuple[subprocess.Popen[str], str]:
        """Type one command, and at its token the other; give it, and what that says."""
        begin, stop = (
            shlex.split(line.replace("http://127.0.0.1:8000", server.url))
            for line in asked
        )
        curl = subprocess.Popen(begin, stdout=subprocess.PIPE, text=True)
        assert curl.stdout
        assert "event: token\n" in iter(curl.stdout.readline, "")
        return curl, subprocess.check_output(stop, text=True)

    with uvicorn("recipes.llm_cancel:app", env=env) as server:
        curl, answer = see(server)
        assert "204 No Content" in answer
        out, _ = curl.communicate(timeout=servers.WAIT)
        assert "event: cancelled" in out
        assert gate.wait(1).ended == "closed by the client"
    gate.reset()
    folder = changed(tmp_path, "llm_cancel", OLD, "pass")
    with uvicorn("recipes.llm_cancel:app", env=env, cwd=folder) as server:
        curl, answer = see(server)
        assert "204 No Content" in answer
        record = httpx2.get(f"{gate.url}/scripted/record").text.splitlines()
        assert "still open" in record[-1]
        curl.send_signal(signal.SIGINT)
        out, _ = curl.communicate(timeout=servers.WAIT)
        assert "event: cancelled" not in out
        assert gate.wait(1).hung_up_after == 1
