"""docs/pitfalls/events.md: QueuePool limit reached, although no query runs."""

from collections.abc import Iterator
from contextlib import ExitStack

import httpx2
import pytest

from tests.kit import servers
from tests.kit.servers import Server, raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 20)

LIMIT = "QueuePool limit of size 2 overflow 0 reached, connection timed out"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    program = "recipes.pitfalls.sse_notifications.session_in_the_check:app"
    with uvicorn(program) as running:
        yield running


@pytest.mark.parametrize(("path", "status"), [("/right", 200), ("/wrong", 500)])
def test_two_streams_leave_no_connection_for_the_third(
    server: Server, path: str, status: int
) -> None:
    events = f"{path}/ada/events"
    with ExitStack() as stack:
        for _ in range(2):
            answer = stack.enter_context(raw_get(server.port, events))
            assert answer.chunk() == b'data: {"version":0}\n\n'
        with httpx2.stream("GET", f"{server.url}{events}") as third:
            assert third.status_code == status
        if status == 500:
            server.expect(LIMIT)
        assert (LIMIT in server.output()) == (status == 500)


@pytest.mark.parametrize("path", ["/right", "/wrong"])
def test_both_refuse_a_stranger(server: Server, path: str) -> None:
    assert httpx2.get(f"{server.url}{path}/eve/events").status_code == 404
