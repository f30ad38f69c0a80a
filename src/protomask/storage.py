"""Files on this machine and in object stores, behind one interface: pyarrow's file systems."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import translate
from functools import lru_cache
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, TypeVar

from protomask.errors import ConfigError, DataError, MissingExtraError, ProtomaskError
from protomask.files import naming, replacing

if TYPE_CHECKING:
    from pyarrow import fs

Result = TypeVar("Result")
_OF_ARROW = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
"""Schemes that pyarrow knows itself; fsspec knows others, and those of packages that are installed beside it."""
_MAGIC = re.compile(r"[*?[]")
_ATTEMPTS = 3
"""To read from a store of fsspec's: a network has hiccups, and an image must not become an error row because of one.

What pyarrow knows itself tries again by itself.
"""


@dataclass(frozen=True)
class Place:
    """A file or folder: a path of this machine, or an address such as ``s3://bucket/folder``.

    Args:
        root: address of what holds it, with the options of the store: ``s3://bucket?region=eu-west-1``; "" for this
            machine.
        path: below the root, with slashes; absolute on this machine.

    """

    root: str
    path: str

    def __str__(self) -> str:
        if not self.root:
            return self.path
        store, question, options = self.root.partition("?")
        return f"{store}/{self.path}{question}{options}"

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this machine."""
        return not self.root

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    def child(self, name: str) -> Place:
        """What lies in this folder, or below it, under this name."""
        return replace(self, path=f"{self.path.rstrip('/')}/{name}".lstrip("/" if self.root else ""))

    def kind(self) -> str:
        """Return "file", "folder" or "nothing".

        Raises:
            DataError: the store cannot be asked.

        """
        system, path = self._opened()
        kind = _asked(self, lambda: system.get_file_info(path)).type.name
        return {"File": "file", "Directory": "folder"}.get(kind, "nothing")

    def entries(self) -> tuple[list[str], list[str]]:
        """Names of the files and of the folders directly in this folder, each sorted, hidden ones left out.

        Raises:
            DataError: it cannot be listed.

        """
        from pyarrow.fs import FileSelector

        system, path = self._opened()
        found = _asked(self, lambda: system.get_file_info(FileSelector(path, allow_not_found=True)))
        shown = [(info.type.name, info.base_name) for info in found if not info.base_name.startswith(".")]
        files, folders = ([name for kind, name in shown if kind == wanted] for wanted in ("File", "Directory"))
        return sorted(files), sorted(folders)

    def read(self) -> bytes:
        """All bytes of the file.

        Raises:
            DataError: it cannot be read; the message names it.

        """
        system, path = self._opened()

        def read() -> bytes:
            with system.open_input_stream(path) as file:
                content: bytes = file.read()
                return content

        return _asked(self, read)

    def open(self) -> Any:
        """The file, opened for reading anywhere in it (pyarrow's ``NativeFile``).

        Raises:
            DataError: it cannot be opened; the message names it.

        """
        system, path = self._opened()
        return _asked(self, lambda: system.open_input_file(path))

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """A file to write, as a context: on this machine it appears whole or not at all.

        Raises:
            ProtomaskError: it cannot be written; the message names it.

        """
        if self.is_local:
            with replacing(Path(self.path)) as file:
                yield file
            return
        system, path = self._opened()
        with naming(Path(str(self))), system.open_output_stream(path) as stream:
            yield stream

    def write(self, content: bytes) -> None:
        """Write a file at once; see `writing`. In an object store, too, it appears whole or not at all.

        Raises:
            ProtomaskError: it cannot be written; the message names it.

        """
        with self.writing() as file:
            file.write(content)

    def make_folder(self) -> None:
        """Make the folder, where there is none.

        Raises:
            ProtomaskError: it cannot be made; the message names it.

        """
        system, path = self._opened()
        try:
            system.create_dir(path, recursive=True)
        except OSError as error:
            raise ProtomaskError(f"{self}: the folder cannot be made: {error}") from error

    def _opened(self) -> tuple[fs.FileSystem, str]:
        system, base = _filesystem(self.root)
        return system, f"{base.rstrip('/')}/{self.path}" if self.root else self.path


def place_of(text: str, *, start: str | None = None) -> Place:
    """The file or folder that a text stands for.

    Args:
        text: path, or address; a path may begin with ``~``.
        start: folder or address that a relative path starts from; the current folder by default.

    """
    if re.match(r"[a-z][a-z0-9+.-]+://", text):
        head, question, options = text.partition("?")
        scheme, _, rest = head.partition("://")
        host, _, path = rest.partition("/")
        if scheme == "file":
            return Place("", f"/{path}")
        return Place(f"{scheme}://{host}{question}{options}", path)
    local = Path(text).expanduser()
    if not local.is_absolute() and start is not None:
        return place_of(start).child(text)
    return Place("", local.absolute().as_posix())


def is_glob(text: str) -> bool:
    """Whether a text has signs in it that stand for other signs."""
    return _MAGIC.search(text.partition("?")[0] if "://" in text else text) is not None


def matching(pattern: Place) -> Iterator[Place]:
    """The files that match a pattern, folder by folder in the order of their names; ``**`` stands for any folders.

    Raises:
        DataError: a folder cannot be listed.

    """
    parts = pattern.path.split("/")
    first = next(index for index, part in enumerate(parts) if _MAGIC.search(part))
    yield from _matching(replace(pattern, path="/".join(parts[:first]) or ("" if pattern.root else "/")), parts[first:])


def _matching(folder: Place, parts: list[str]) -> Iterator[Place]:
    part, *rest = parts
    files, folders = folder.entries()
    if part == "**":
        if rest:
            yield from _matching(folder, rest)
        else:
            yield from (folder.child(name) for name in files)
        for name in folders:
            yield from _matching(folder.child(name), parts)
        return
    fits = re.compile(translate(part)).match
    if rest:
        for name in filter(fits, folders):
            yield from _matching(folder.child(name), rest)
    else:
        yield from (folder.child(name) for name in filter(fits, files))


def below(folder: Place, *, recursive: bool) -> Iterator[Place]:
    """The files in a folder, and below it if ``recursive``, folder by folder in the order of their names.

    Raises:
        DataError: a folder cannot be listed.

    """
    files, folders = folder.entries()
    yield from map(folder.child, files)
    if recursive:
        for name in folders:
            yield from below(folder.child(name), recursive=True)


@lru_cache(maxsize=64)
def _filesystem(root: str) -> tuple[fs.FileSystem, str]:
    """The file system of a root, and what paths begin with in it."""
    fs = require_pyarrow("fs")
    if not root:
        return fs.LocalFileSystem(), ""
    try:
        if root.partition("://")[0] in _OF_ARROW:
            system, path = fs.FileSystem.from_uri(root)
            return system, path
        from fsspec.core import url_to_fs

        other, path = url_to_fs(root)
        return fs.PyFileSystem(fs.FSSpecHandler(other)), path
    except ImportError as error:
        raise MissingExtraError(f"{root}: reading it needs a package that is not installed: {error}") from error
    except (ValueError, OSError) as error:
        raise ConfigError(f"{root}: expected the address of a store that can be opened: {error}") from error


def _asked(place: Place, ask: Callable[[], Result]) -> Result:
    """What a store answers, asked again where the network fails."""
    attempts = 1 if place.is_local or place.root.partition("://")[0] in _OF_ARROW else _ATTEMPTS
    for attempt in range(1, attempts + 1):
        try:
            return ask()
        except FileNotFoundError as error:
            raise DataError(f"{place}: no such file or folder") from error
        except Exception as error:  # stores have errors of their own
            if attempt == attempts:
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                raise DataError(f"{place}: cannot be read: {reason}") from error
            sleep(attempt)
    raise AssertionError


def require_pyarrow(module: str = "") -> Any:
    """A module of pyarrow.

    Raises:
        MissingExtraError: pyarrow is not installed; the message says which extra brings it.

    """
    from importlib import import_module

    try:
        return import_module(f"pyarrow.{module}" if module else "pyarrow")
    except ImportError as error:
        raise MissingExtraError("Parquet files need pyarrow: pip install 'protomask[tables]'") from error
