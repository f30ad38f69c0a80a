"""Files that appear whole or not at all, and folders that one process at a time writes."""

from __future__ import annotations

import difflib
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from protomask.errors import ConfigError, DataError, ProtomaskError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_NAME = ".protomask.lock"
"""Name of the file that lies in a folder while a process writes there."""
_ENDING = ".protomask.tmp"
_LONGEST_NAME = 200
"""Bytes of a name that a temporary name repeats; file systems allow 255 in all."""
# Locks belong to the process: what this process holds, the system would give it again.
_held: set[tuple[int, str]] = set()
_cleared: set[tuple[int, str]] = set()


class NewFile:
    """A file that grows under a temporary name of its own, until it takes the place of ``path`` or vanishes.

    The temporary file is always a new one, so that nothing is written through a link, and no two writers share one. It
    is locked while its process lives: temporary files that dead processes left in a folder are removed when the next
    file is written there.

    Args:
        path: file to write; its folder is made as needed.

    Raises:
        OSError: the file cannot be made.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_left_over(path.parent)
        self._temporary = temporary_name(path)
        self._key = _key(self._temporary)
        _held.add(self._key)
        try:
            descriptor = os.open(self._temporary, _NEW_FILE, 0o666)
        except BaseException:
            _held.discard(self._key)
            raise
        self.file: IO[bytes] = os.fdopen(descriptor, "wb")
        _lock(self.file)

    def complete(self, *, durable: bool = False) -> None:
        """Put the file in its place.

        Args:
            durable: return only when the disk has it.

        """
        try:
            self.file.flush()
            if durable:
                os.fsync(self.file.fileno())
            if sys.platform == "win32":  # which renames no open file
                self.file.close()
            self._temporary.replace(self.path)  # still locked: it is not left over
            self.file.close()
        except BaseException:
            self.discard()
            raise
        _held.discard(self._key)
        if durable:
            _sync_folder(self.path.parent)

    def discard(self) -> None:
        """Remove it, unless it is complete."""
        if self._key in _held:
            with suppress(OSError):
                self.file.close()
            self._temporary.unlink(missing_ok=True)
            _held.discard(self._key)


_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@contextmanager
def replacing(
    path: Path, *, error: type[ProtomaskError] | None = ProtomaskError, durable: bool = False
) -> Iterator[IO[bytes]]:
    """A file that takes the place of ``path`` once it is written, or vanishes; see `NewFile`.

    Args:
        path: file to write.
        error: what an error of the operating system becomes; None leaves it as it is.
        durable: return only when the disk has it.

    Raises:
        ProtomaskError: ``error``, when the file cannot be written; the message names it.

    """
    with naming(path, error):
        new = NewFile(path)
        try:
            yield new.file
            new.complete(durable=durable)
        finally:
            new.discard()


def temporary_name(path: Path) -> Path:
    """A new name beside ``path`` for what is to take its place."""
    name = os.fsdecode(os.fsencode(path.name)[:_LONGEST_NAME])
    return path.with_name(f".{name}.{secrets.token_hex(6)}{_ENDING}")


def clear_left_over(folder: Path) -> None:
    """Remove the temporary files of dead processes from a folder; once per process, for a folder may be large."""
    key = _key(folder)
    if key in _cleared:
        return
    _cleared.add(key)
    with suppress(OSError):
        names = [entry.name for entry in os.scandir(folder) if entry.name.endswith(_ENDING)]
        for path in (folder / name for name in names if name.startswith(".")):
            with suppress(OSError):
                _remove_if_dead(path)


def _remove_if_dead(path: Path) -> None:
    if _key(path) in _held:
        return
    if sys.platform == "win32":  # where a file that is open cannot be removed
        path.unlink()
        return
    if path.is_symlink():
        return
    with path.open("r+b") as file:
        if _lock(file) is True:
            path.unlink()


@contextmanager
def locked_folder(folder: Path, setting: str) -> Iterator[None]:
    """Write to a folder alone; the folder is made as needed, and is free again when the process ends in any way.

    Args:
        folder: that is written to.
        setting: of what the caller chose, for messages.

    Raises:
        ConfigError: another process, or another thread of this one, writes there; or the folder cannot be written.

    """
    path = folder / LOCK_NAME
    key = _key(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = None if key in _held else _opened_lock(path)
    except (OSError, ValueError) as error:  # a name with a NUL in it is a ValueError
        raise ConfigError(f"{setting}: expected a folder that can be written, got {folder}: {error}") from error
    if file is None:
        raise ConfigError(
            f"{setting}: expected a folder that nothing else is writing, got {folder}, where another run is at work"
        )
    _held.add(key)
    try:
        yield
    finally:
        with suppress(OSError):
            if sys.platform == "win32":
                file.close()
            path.unlink(missing_ok=True)
        file.close()
        _held.discard(key)


def is_locked(folder: Path) -> bool:
    """Whether a process writes to a folder alone, see `locked_folder`."""
    path = folder / LOCK_NAME
    if _key(path) in _held:
        return True
    if not path.is_file():
        return False
    try:
        with path.open("r+b") as file:
            return _lock(file) is False
    except OSError:
        return False


def lock_file(file: IO[Any]) -> bool:
    """Lock an open file until it is closed; False where another process has it locked."""
    return _lock(file) is not False


def _opened_lock(path: Path) -> IO[bytes] | None:
    while True:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        file = os.fdopen(os.open(path, flags, 0o666), "r+b")
        if _lock(file) is False:
            file.close()
            return None
        try:
            if sys.platform == "win32" or path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        except FileNotFoundError:
            pass
        file.close()  # its former owner removed it in the meantime


def _lock(file: IO[Any]) -> bool | None:
    """Lock an open file for this process; False where another one has it, None where the system knows no locks."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            # Not flock: the processes that load images would inherit it, and outlive a killed training for seconds.
            fcntl.lockf(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _key(path: Path) -> tuple[int, str]:
    """A path in this process, not in one forked from it."""
    return os.getpid(), os.path.abspath(path)  # noqa: PTH100 - Path.absolute() keeps "..", and resolve() asks the disk


@contextmanager
def naming(path: Path, error: type[ProtomaskError] | None = ProtomaskError) -> Iterator[Path]:
    """Tell which file or folder an error of the operating system is about.

    Raises:
        ProtomaskError: ``error``, unless that is None.

    """
    try:
        yield path
    except (OSError, ValueError) as cause:
        # A name with a NUL in it is a ValueError.
        is_about_path = isinstance(cause, OSError) or "null byte" in str(cause)
        if error is None or not is_about_path or isinstance(cause, ProtomaskError):
            raise
        raise error(f"{path}: cannot be written: {getattr(cause, 'strerror', None) or cause}") from cause


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


def check_exists(path: str | Path) -> None:
    """Check that something is there, before what reads it is imported.

    Raises:
        DataError: nothing is; the message names what is spelled almost like it.

    """
    if not os.path.lexists(path):
        near = near_path(Path(path))
        raise DataError(f"{path}: no such file or folder" + (f"; did you mean {near}?" if near else ""))


_MOST_LISTED = 10_000


def near_path(path: Path) -> Path | None:
    """The path that exists and is spelled almost like one that does not; None where there is none.

    Any folder of the path may be misspelled as well.
    """
    found = Path(path.anchor)
    for part in path.parts[len(found.parts) :]:
        if not os.path.lexists(found / part):
            near = difflib.get_close_matches(part, names_in(found), n=1, cutoff=0.7)
            if not near:
                return None
            part = near[0]
        found /= part
    return found


def names_in(folder: Path) -> list[str]:
    """Names of what lies in a folder, hidden files left out; empty where it cannot be listed."""
    try:
        return sorted(entry.name for entry in islice(folder.iterdir(), _MOST_LISTED) if entry.name[:1] != ".")
    except OSError:
        return []
