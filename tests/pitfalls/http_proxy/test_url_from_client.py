"""docs/pitfalls/bytes.md: my proxy returns internal pages (SSRF)."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from recipes import http_proxy
from recipes.pitfalls.http_proxy import url_from_client as wrong
from tests.servers.upstream_http_proxy import Upstream, upstream


@pytest.fixture
def canary() -> Iterator[Upstream]:
    """Run a service that no client is meant to reach."""
    with upstream() as service:
        service.says(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
        yield service


def test_wrong_whoever_asks_reads_the_canary(canary: Upstream) -> None:
    """Attack: Wrong: the client names the address (SSRF), and reads what is inside."""
    with TestClient(wrong.app) as client:
        got = client.get("/fetch", params={"url": f"{canary.url}/keys"})
    assert (got.text, canary.asked[0].target) == ("secret", "/keys")


@pytest.mark.parametrize(
    "path", ["fetch?url={url}/keys", "shop/{url}/keys", "{url}/keys", "@{host}/keys"]
)
def test_right_no_address_of_the_client_is_asked(
    canary: Upstream, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = canary.url.removeprefix("http://")
    with upstream() as shop, monkeypatch.context() as environment:
        environment.setenv("SHOP_URL", shop.url)
        with TestClient(http_proxy.app) as client:
            got = client.get(f"/{path.format(url=canary.url, host=host)}")
    assert (got.status_code in {400, 404}, canary.connections) == (True, 0)


def test_the_service_inside_has_a_secret() -> None:
    assert TestClient(wrong.app).get("/internal/keys").json()["payment_key"]
