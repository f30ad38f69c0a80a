"""What a package index shows: the README with links that work there, and the addresses of the project.

An index knows no file beside the README. With the environment variable REPOSITORY_URL, which the release sets,
relative links lead to the files of this version in the repository; without it their text stays and images are left out.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)")
_EMPTY = re.compile(r"\n{3,}")


def index_page(readme: str, repository: str, version: str) -> str:
    """The README for a package index; ``repository`` is empty where the address is not known."""

    def absolute(link: re.Match[str]) -> str:
        image, text, path = link.groups()
        if not repository:
            return "" if image else text
        return f"{image}[{text}]({repository}/{'raw' if image else 'blob'}/v{version}/{path})"

    return _EMPTY.sub("\n\n", _LINK.sub(absolute, readme))


class IndexMetadata(MetadataHookInterface):
    """Fills in what pyproject.toml calls dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        repository = os.environ.get("REPOSITORY_URL", "").rstrip("/")
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = index_page(readme, repository, metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        changelog = f"{repository}/blob/v{metadata['version']}/CHANGELOG.md"
        metadata["urls"] = {"Repository": repository, "Changelog": changelog} if repository else {}
