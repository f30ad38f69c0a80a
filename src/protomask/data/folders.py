"""Folders of data sets: which are splits, which belong together, which images are in them."""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path

from protomask.errors import DataError
from protomask.images.pixels import IMAGE_SUFFIXES

_SPLITS = {
    "train": "train", "training": "train", "trainval": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def split_name(text: str) -> str | None:
    """``train``, ``val`` or ``test`` where a folder or file is called so in some usual way, else None."""
    return _SPLITS.get(re.sub(r"^(instances|panoptic)_|\d+$", "", text.lower()))


def split_folders(folder: Path) -> dict[str, Path]:
    """The folders in ``folder`` that are called like splits; the folder itself as ``train`` where there is none."""
    found = {split_name(path.name): path for path in sorted(folder.iterdir()) if path.is_dir()}
    named: dict[str, Path] = {split: found[split] for split in ("train", "val", "test") if split in found}
    return named or {"train": folder}


def paired_folders(source: Path, first: str, second: str) -> dict[str, tuple[Path, Path]]:
    """Two folders per split: ``first/train`` and ``second/train``, or ``train/first`` and ``train/second``."""
    if (source / first).is_dir():
        parts = split_folders(source / first)
        return {split: (part, source / second / part.relative_to(source / first)) for split, part in parts.items()}
    return {
        split: (part / first, part / second) for split, part in split_folders(source).items() if (part / first).is_dir()
    }


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path, as it is written, names something in a folder; links are not followed."""
    place, top = (os.path.normpath(Path.cwd() / part) for part in (path, folder))
    return place == top or place.startswith(top.rstrip(os.sep) + os.sep)


def list_images(folder: Path) -> list[Path]:
    """Image files in a folder and below, sorted; hidden ones are not looked at."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def read_text(file: Path) -> str:
    """Text of a file in UTF-8, or in UTF-16 with a byte order mark.

    Raises: DataError where there is none.

    """
    try:
        content = file.read_bytes()
        is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode("utf-16" if is_wide else "utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as text: {error}") from error
