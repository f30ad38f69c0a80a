"""Texts inside files that end in a ZIP archive: PyTorch's .pt2, and files to whose end one was added."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from protomask.errors import CheckpointError
from protomask.runtimes.golden import GOLDEN_KEY
from protomask.runtimes.info import MAX_CHARACTERS, METADATA_KEY

_EXTRA = "extra"
"""Folder of a .pt2 archive, below its root, that PyTorch leaves to others."""


def read_texts(path: Path) -> dict[str, str]:
    """What is stored in a file under the keys of `protomask.runtimes.info` and `protomask.runtimes.golden`.

    Raises:
        CheckpointError: the archive is damaged.

    """
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename.rpartition("/")[2]
                if name in _names() and entry.file_size <= 4 * MAX_CHARACTERS:
                    found[name.removesuffix(".json")] = archive.read(entry).decode()
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{path}: expected a file made by protomask export: {error}") from error
    except (OSError, ValueError, NotImplementedError, RuntimeError, zipfile.LargeZipFile) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    return found


def add_texts(path: Path, texts: Mapping[str, str]) -> None:
    """Store texts in a file; in the folder for extra files where it is an archive already."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        names = archive.namelist()
        folder = f"{names[0].partition('/')[0]}/{_EXTRA}/" if names and "/" in names[0] else ""
        for key, text in texts.items():
            # Always the same time: files of the same model are the same.
            archive.writestr(zipfile.ZipInfo(f"{folder}{key}.json"), text)


def entry_names(path: Path) -> tuple[str, ...]:
    """Names of all that is in an archive; none where it is not an archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError):
        return ()


def _names() -> tuple[str, ...]:
    return f"{METADATA_KEY}.json", f"{GOLDEN_KEY}.json"
