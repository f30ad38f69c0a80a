"""A list in a JSON file that grows on disk, however long it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protomask.files import NewFile, naming


class JsonList:
    """A JSON list that grows on disk under a temporary name and gets its own when complete.

    Args:
        path: path of the file.
        before: what stands before the list, the beginning of an object perhaps.

    """

    def __init__(self, path: Path, before: str = "") -> None:
        self._path = path
        self._separator = f"{before}[\n".encode()
        self._is_empty = True
        self._new: NewFile | None = None

    def extend(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write more items."""
        with naming(self._path):
            file = self._opened().file
            for row in rows:
                file.write(self._separator + json.dumps(row).encode())
                self._separator, self._is_empty = b",\n", False

    def complete(self, after: str = "") -> None:
        """Give the file its name, with what stands ``after`` the list."""
        with naming(self._path):
            new = self._opened()
            end = self._separator.removesuffix(b"\n") + b"]" if self._is_empty else b"\n]"
            new.file.write(end + f"{after}\n".encode())
            new.complete()

    def discard(self) -> None:
        """Remove what is not complete."""
        if self._new is not None:
            self._new.discard()

    def _opened(self) -> NewFile:
        if self._new is None:
            self._new = NewFile(self._path)
        return self._new
