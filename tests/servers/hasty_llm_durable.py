"""The recipe; DBOS looks more often than each second for what has been left."""

from typing import Any

from dbos import Queue

from recipes.llm_durable import app

__all__ = ["app"]

defaults: Any = Queue.__init__.__kwdefaults__
defaults["polling_interval_sec"] = 0.05
