"""docs/pitfalls/events.md: QueuePool limit reached, although no query runs."""

from contextlib import ExitStack

import httpx2
import pytest

from tests.kit import servers
from tests.kit.servers import raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 20)

LIMIT = "QueuePool limit of size 2 overflow 0 reached, connection timed out"


@pytest.mark.parametrize(("path", "status"), [("/wrong", 500), ("/right", 200)])
def test_two_streams_leave_no_connection_for_the_third(path: str, status: int) -> None:
    program = "recipes.pitfalls.sse_notifications.session_in_the_check:app"
    events = f"{path}/ada/events"
    with uvicorn(program) as server, ExitStack() as stack:
        for _ in range(2):
            answer = stack.enter_context(raw_get(server.port, events))
            assert answer.chunk() == b'data: {"version": 0}\n\n'
        with httpx2.stream("GET", f"{server.url}{events}") as third:
            assert third.status_code == status
        if status == 500:
            server.expect(LIMIT)
        assert (LIMIT in server.output()) == (status == 500)


@pytest.mark.parametrize("path", ["/wrong", "/right"])
def test_both_refuse_a_stranger(path: str) -> None:
    program = "recipes.pitfalls.sse_notifications.session_in_the_check:app"
    with uvicorn(program) as server:
        assert httpx2.get(f"{server.url}{path}/eve/events").status_code == 404
