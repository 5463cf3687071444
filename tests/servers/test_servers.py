"""docs/production/servers.md: the table is what the servers do."""

import re
import sys

import pytest

from cookbook.catalog import ROOT
from tests.kit import compare
from tests.kit.servers import START, free_port, raw_get, serve

PAGE = (ROOT / "docs/production/servers.md").read_text("utf-8")
COMMANDS = re.findall(r"^```bash\n(.+)\n```$", PAGE, re.MULTILINE)


@pytest.mark.timeout(4 * START)
def test_the_table_is_what_the_servers_do() -> None:
    kept = compare.TABLE.read_text("utf-8")
    assert compare.table() == kept, "run python -m tests.kit.compare"


@pytest.mark.timeout(2 * START)
@pytest.mark.parametrize("command", COMMANDS)
def test_each_server_starts_as_the_page_says(command: str) -> None:
    program, *arguments = command.split()
    port = free_port()
    # The page's commands listen on port 8000, which may be taken here.
    there = ["-b", f"127.0.0.1:{port}"] if program == "hypercorn" else []
    there = there or ["--port", str(port)]
    argv = [sys.executable, "-m", program, *arguments, *there]
    with serve(argv, port) as server, raw_get(server.port, "/native") as answer:
        assert b"event: order" in answer.chunk()
