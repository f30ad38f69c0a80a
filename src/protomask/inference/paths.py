"""Which files inputs stand for: files, folders and globs."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from protomask.errors import DataError
from protomask.images.pixels import IMAGE_SUFFIXES

Item = TypeVar("Item")

_DIGITS = re.compile(r"(\d+)")
_LOOKED_AT = 10_000
"""Files below a folder among which images are counted for a message."""


def iter_image_paths(inputs: Sequence[str | Path], *, recursive: bool = False) -> list[Path]:
    """The image files that ``inputs`` stand for, each once.

    * A file is taken as it is, whatever its ending.
    * A folder gives the images directly inside it; if ``recursive``, those of its subfolders, too.
    * A glob (``photos/*.jpg``) gives the images that match; ``photos/**/*`` reaches into subfolders.

    Folders and globs give only files that end like an image (`IMAGE_SUFFIXES`, any case) and are not hidden, in natural
    order (``frame2`` before ``frame10``). The order of the inputs themselves is kept.

    Raises:
        DataError: an input gives no image; the message names it.
    """
    return distinct(path for given in inputs for path in expand(given, recursive=recursive))


def expand(
    given: str | Path,
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    *,
    recursive: bool = False,
    kinds: Sequence[str] = ("image",),
) -> Iterator[Path]:
    """The files that one input stands for, see `iter_image_paths`.

    Args:
        given: file, folder or glob.
        suffixes: endings of the files that folders and globs give, in small letters.
        recursive: folders give the files in their subfolders, too.
        kinds: what the files are, for messages.

    Raises:
        DataError: the input gives no file; the message names it.

    """
    try:
        path = Path(given).expanduser()
        is_dir, exists = path.is_dir(), path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long a name, a NUL in it, an unknown home
        raise DataError(f"{given}: cannot be read: {error}") from error
    if is_dir:
        candidates = list(_below(path) if recursive else path.iterdir())
        missing = f"folder without {' or '.join(f'{kind}s' for kind in kinds)}"
        missing += "" if recursive else f" directly inside it{_deeper(path, suffixes)}"
    elif exists:  # before globs: a name may contain brackets
        yield path
        return
    elif glob.has_magic(str(path)):
        candidates = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - knows absolute
        missing = f"no {' or '.join(kinds)} matches; {len(candidates)} other paths do"
    else:
        raise DataError(f"{given}: no such file or folder")
    files = [path for path in candidates if _fits(path, suffixes)]
    if not files:
        raise DataError(f"{given}: {missing} (endings looked for: {' '.join(sorted(suffixes))})")
    yield from sorted(files, key=_natural_key)


def _below(folder: Path) -> Iterator[Path]:
    """All files in a folder and below it; hidden folders are left out, links to folders are not followed."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place) / name for name in names)


def _deeper(folder: Path, suffixes: Collection[str]) -> str:
    """Where files of a folder are that has none itself, for a message."""
    count = sum(_fits(path, suffixes) for path in islice(_below(folder), _LOOKED_AT))
    return f", but {count} in its subfolders, which recursive=True looks at" if count else ""


def _fits(path: Path, suffixes: Collection[str]) -> bool:
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()


def _natural_key(path: Path) -> tuple[list[list[str | int]], str]:
    parts = [[int(run) if run.isdecimal() else run for run in _DIGITS.split(part.casefold())] for part in path.parts]
    return parts, str(path)


def distinct(items: Iterable[Item]) -> list[Item]:
    """Each path once; anything else as often as it comes."""
    known: set[str] = set()
    kept: list[Item] = []
    for item in items:
        if isinstance(item, Path):
            absolute = os.path.abspath(item)  # noqa: PTH100 - Path.resolve() would merge linked files
            if absolute in known:
                continue
            known.add(absolute)
        kept.append(item)
    return kept
