"""Standard streams that can always be written to, and signals that end a command in good order."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_ENDING_SIGNALS = ("SIGTERM", "SIGHUP")


class EndedBySignalError(KeyboardInterrupt):
    """A signal asks the command to end, as Ctrl-C does."""


def make_writable() -> None:
    """Make standard output and error take any text.

    A stream that was closed when the process began swallows what it gets, and no file gets its number. Characters that
    a stream's encoding lacks, and those that stand for bytes of file names that are not UTF-8, become escapes.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _fill(number)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - for good
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def silence_output() -> None:
    """Send standard output nowhere from now on, also at the end of the interpreter: its reader has gone."""
    try:
        _fill(sys.stdout.fileno())
    except (OSError, ValueError):  # a stream without a file
        return


def _fill(number: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise, so that what is not complete is removed; further ones change nothing.

    Raises:
        EndedBySignalError: one came.

    """
    taken: list[int] = []

    def end(number: int, frame: FrameType | None) -> NoReturn:
        for one in taken:
            signal.signal(one, signal.SIG_IGN)
        raise EndedBySignalError(signal.Signals(number).name)

    if threading.current_thread() is threading.main_thread():  # elsewhere signals cannot be handled
        numbers = [getattr(signal, name) for name in _ENDING_SIGNALS if hasattr(signal, name)]
        # Who ignores one, as nohup does, goes on ignoring it.
        taken += [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
        for number in taken:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
