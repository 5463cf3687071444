"""docs/pitfalls/tokens.md: after a deployment running answers stand still for ever."""

from functools import partial
from typing import Any

import dbos
import pytest
from dbos import DBOSConfig
from fastapi.testclient import TestClient

from recipes.pitfalls.llm_durable import left_by_a_deployment as pitfall
from tests.kit.servers import until


@pytest.mark.parametrize("fixed", [False, True])
def test_an_answer_is_taken_up_only_by_code_of_its_version(
    fixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # DBOS looks once a second for what is left.
    defaults: Any = dbos.Queue.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "polling_interval_sec", 0.02)
    if fixed:
        config = partial(DBOSConfig, application_version="1")
        monkeypatch.setattr(pitfall, "DBOSConfig", config)
    with TestClient(pitfall.app) as client:
        before = client.post("/answer").json()["version"]
        after = client.post("/deploy").json()["version"]
        assert (before == after) == fixed
        if fixed:
            monkeypatch.setattr(pitfall, "PATIENCE", 0)
            until(lambda: client.get("/answer").json() == {"status": "SUCCESS"})
        else:
            monkeypatch.setattr(pitfall, "PATIENCE", 0.5)
            assert client.get("/answer").json() == {"status": "PENDING"}
