"""Sources of frames: an image, a folder, a glob, a list, a generator, standard input, an address."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from protomask.errors import DataError
from protomask.images.decode import read_image
from protomask.images.fetch import is_url
from protomask.images.pixels import IMAGE_SUFFIXES
from protomask.structures.frame import Frame

if TYPE_CHECKING:
    from protomask.images.decode import ImageSource

    AnySource = ImageSource | Frame | Iterable[ImageSource | Frame]

_DIGITS = re.compile(r"(\d+)")
_LOOKED_AT = 10_000
"""Files below a folder without images among which some are looked for, for the message."""


class Source(Protocol):
    """Any iterable of frames."""

    def __iter__(self) -> Iterator[Frame]: ...


class StillImages:
    """Images that are known beforehand, each read when its frame is used.

    Args:
        images: paths, addresses, arrays and so on.

    """

    def __init__(self, images: Sequence[ImageSource]) -> None:
        self.images = tuple(images)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Frame]:
        return (_frame_of(image, index) for index, image in enumerate(self.images))


class ImageStream:
    """Images or frames that come one by one, from a generator perhaps."""

    def __init__(self, items: Iterable[ImageSource | Frame]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Frame]:
        return (item if isinstance(item, Frame) else _frame_of(item, index) for index, item in enumerate(self._items))


def open_source(source: AnySource, *, recursive: bool = False) -> Source:
    """The frames that something stands for.

    Args:
        source: one of

            * a path: an image file, or a folder, which gives the images directly inside it.
            * a glob (``photos/*.jpg``); ``photos/**/*`` reaches into subfolders.
            * "-": an image file from standard input.
            * an http(s) address of an image.
            * the bytes of an image, a binary file object, an array, a tensor, a Pillow image, a `Frame`.
            * a list of these, or any iterable of images and frames, which is advanced as frames are asked for.

        recursive: folders give the images in their subfolders, too.

    Raises:
        DataError: there is no such file, or a folder or glob gives no image; the message names it.

    """
    if isinstance(source, Frame):
        return [source]
    if isinstance(source, str | Path):
        return StillImages(_expand_text(source, recursive))
    if isinstance(source, list | tuple):
        if any(isinstance(item, Frame) for item in source):
            return ImageStream(source)
        return StillImages(_distinct(image for item in source for image in _expand_any(item, recursive)))
    if isinstance(source, Iterable) and not _is_one_image(source):
        return ImageStream(cast("Iterable[ImageSource | Frame]", source))
    return StillImages([cast("ImageSource", source)])  # where it is none, reading it will say what is wrong


def _is_one_image(source: Any) -> bool:
    is_array = hasattr(source, "shape") and hasattr(source, "dtype")
    is_picture = hasattr(source, "getexif")
    return is_array or is_picture or hasattr(source, "read") or isinstance(source, bytes | bytearray | memoryview)


def _frame_of(image: ImageSource, index: int) -> Frame:
    if isinstance(image, str) and image == "-":
        return Frame(lambda: read_image(sys.stdin.buffer.read()), source="stdin", index=index)
    again = image_source(image)
    name = again or str(getattr(image, "name", "") or f"image_{index}")
    return Frame(partial(read_image, image), source=name, index=index, image_source=again)


def image_source(image: Any) -> str | None:
    """The path or address of an image, from which it can be read again; None where it has none."""
    return str(image) if isinstance(image, str | Path) and image != "-" else None


def _expand_any(item: ImageSource, recursive: bool) -> Sequence[ImageSource]:
    return _expand_text(item, recursive) if isinstance(item, str | Path) else [item]


def _expand_text(text: str | Path, recursive: bool) -> Sequence[ImageSource]:
    if isinstance(text, str) and (text == "-" or is_url(text)):
        return [text]
    return list(_expand(text, recursive))


def _distinct(images: Iterable[ImageSource]) -> list[ImageSource]:
    """Each path once."""
    known: set[str] = set()
    kept: list[ImageSource] = []
    for image in images:
        if isinstance(image, Path):
            absolute = os.path.abspath(image)  # noqa: PTH100 - Path.resolve() would merge linked files
            if absolute in known:
                continue
            known.add(absolute)
        kept.append(image)
    return kept


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
    found = _distinct(path for given in inputs for path in _expand(given, recursive))
    return [path for path in found if isinstance(path, Path)]


def _expand(given: str | Path, recursive: bool) -> Iterator[Path]:
    try:
        path = Path(given).expanduser()
        is_dir, exists = path.is_dir(), path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long a name, a NUL in it, an unknown home
        raise DataError(f"{given}: cannot be read: {error}") from error
    if is_dir:
        candidates = list(_below(path) if recursive else path.iterdir())
        what = "folder without images" if recursive else f"folder without images directly inside it{_deeper(path)}"
    elif exists:  # before globs: a name may contain brackets
        yield path
        return
    elif glob.has_magic(str(path)):
        candidates = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - knows absolute
        what = f"no image matches; {len(candidates)} other paths do"
    else:
        raise DataError(f"{given}: no such file or folder")
    images = [path for path in candidates if _looks_like_image(path)]
    if not images:
        raise DataError(f"{given}: {what} (endings looked for: {' '.join(sorted(IMAGE_SUFFIXES))})")
    yield from sorted(images, key=_natural_key)


def _below(folder: Path) -> Iterator[Path]:
    """All files in a folder and below it; hidden folders are left out, links to folders are not followed."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place) / name for name in names)


def _deeper(folder: Path) -> str:
    """Where images of a folder are that has none itself, for a message."""
    count = sum(map(_looks_like_image, islice(_below(folder), _LOOKED_AT)))
    return f", but {count} in its subfolders, which recursive=True looks at" if count else ""


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _natural_key(path: Path) -> tuple[list[list[str | int]], str]:
    parts = [[int(run) if run.isdecimal() else run for run in _DIGITS.split(part.casefold())] for part in path.parts]
    return parts, str(path)
