"""The server in the background: on this machine only, and gone afterwards."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi import FastAPI

from cookbook.background import serving
from recipes import csv_export
from tests.kit.servers import raw_get


def test_it_listens_on_this_machine_only_and_is_gone_afterwards() -> None:
    with serving(csv_export.app) as address:
        host, port = urlsplit(address).hostname, urlsplit(address).port
        assert host == "127.0.0.1"
        assert httpx2.get(f"{address}/orders.csv?rows=1").status_code == 200
        # Only a socket that is bound to one address leaves the others free.
        assert port
        socket.create_server(("127.0.0.2", port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_it_ends_while_a_client_still_reads() -> None:
    with serving(csv_export.app) as address:
        port = urlsplit(address).port or 0
        with raw_get(port, "/orders.csv?rows=10000000") as answer:
            assert answer.chunk().startswith(b"id,")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_application_that_does_not_start_is_an_error() -> None:
    async def connect() -> None:
        raise OSError("no database")

    @asynccontextmanager
    async def broken(_: FastAPI) -> AsyncIterator[None]:
        await connect()
        yield

    app = FastAPI(lifespan=broken)
    with pytest.raises(RuntimeError, match="did not start"), serving(app):
        pass
