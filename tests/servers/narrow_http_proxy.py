"""recipes.http_proxy with one connection for each process."""

from unittest import mock

import httpx2

from recipes import http_proxy

app = http_proxy.app

mock.patch.object(http_proxy, "LIMITS", httpx2.Limits(max_connections=1)).start()
mock.patch.object(http_proxy, "CONNECT", 0.2).start()
