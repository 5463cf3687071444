"""recipes.http_proxy with little patience."""

from unittest import mock

from recipes import http_proxy

app = http_proxy.app

mock.patch.object(http_proxy, "IDLE", 0.3).start()
