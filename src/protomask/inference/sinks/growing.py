"""`GrowingFile`: what others can read while it is written."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from protomask.errors import ConfigError
from protomask.files import lock_file, naming


class GrowingFile:
    """A file that others can read while it grows, line by line; opened at the first line, and locked until closed.

    Args:
        path: the file.
        keep: bytes of an earlier file that stay; what is written follows them.
        head: what a new file begins with.

    """

    def __init__(self, path: Path, *, keep: int = 0, head: bytes = b"") -> None:
        self.path = path
        self._keep, self._head = keep, head
        self._file: IO[bytes] | None = None

    def extend(self, text: bytes) -> None:
        """Write whole lines, at once.

        Raises:
            ConfigError: another process is writing this file.
            ProtomaskError: it cannot be written.

        """
        with naming(self.path):
            file = self._opened()
            file.write(text)
            file.flush()

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self._file is not None:
            with naming(self.path):
                self._file.close()

    def _opened(self) -> IO[bytes]:
        # Not before the first frame: a sink beside this one may still refuse to be made.
        if self._file is None:
            file = self.path.open("ab")
            if not lock_file(file):
                file.close()
                raise ConfigError(f"{self.path}: expected a file that nothing else is writing")
            file.truncate(self._keep)
            file.write(self._head)
            self._file = file
        return self._file
