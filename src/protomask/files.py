"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from protomask.errors import DataError, ProtomaskError


@contextmanager
def replacing(
    path: Path, *, error: type[ProtomaskError] | None = ProtomaskError, durable: bool = False
) -> Iterator[IO[bytes]]:
    """A file that takes the place of ``path`` once it is written, or vanishes; its folder is made as needed.

    Args:
        path: file to write.
        error: what an error of the operating system becomes; None leaves it as it is.
        durable: return only when the disk has it.

    Raises:
        ProtomaskError: ``error``, when the file cannot be written; the message names it.

    """
    temporary = temporary_name(path)
    with naming(path, error):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            _sync_folder(path.parent)


def temporary_name(path: Path) -> Path:
    """Where this process writes what is to become ``path``."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def naming(path: Path, error: type[ProtomaskError] | None = ProtomaskError) -> Iterator[Path]:
    """Tell which file or folder an error of the operating system is about.

    Raises:
        ProtomaskError: ``error``, unless that is None.

    """
    try:
        yield path
    except OSError as cause:
        if error is None:
            raise
        raise error(f"{path}: cannot be written: {cause.strerror or cause}") from cause


def _sync_folder(path: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_writable(path: Path, setting: str) -> None:
    """Make the folder of a file that will be written later: fail now, not after an hour of work.

    Args:
        path: the file, which need not exist.
        setting: what the message calls it.

    Raises:
        DataError: nothing can be written there; the message names the setting.

    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise DataError(f"{setting}: cannot write to the folder of {path}: {error}") from error
