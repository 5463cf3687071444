"""What a wheel carries beside the code, to serve the site without the repository.

Hatchling runs this when it builds a wheel; `make wheel` builds the site first. The
files go to `cookbook/book/`, where `cookbook.catalog` finds them. For an editable
installation nothing is copied: it reads the repository.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BOOK = "cookbook/book"
PARTS = ("site", "docs", "recipes", "LICENSE")


class CustomBuildHook(BuildHookInterface[Any]):
    """Adds the parts of the book to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name what is carried, and where to; a part that is not there is left out."""
        if version == "editable":
            return
        for part in PARTS:
            if Path(self.root, part).exists():
                build_data["force_include"][part] = f"{BOOK}/{part}"
