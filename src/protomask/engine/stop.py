"""Stopping a run so that it can continue."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """Within its block Ctrl-C, SIGTERM and SIGHUP ask the run to stop after the current step.

    A second Ctrl-C stops at once. Other signals that follow change nothing: who ends a group of processes often sends
    them more than once, and the run is about to save itself.

    Args:
        then: called when the first one arrives, in its handler.

    """

    def __init__(self, then: Callable[[], None] | None = None) -> None:
        self._then = then
        self._requested = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # elsewhere signals cannot be handled
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                # Who ignores one, as nohup does, goes on ignoring it.
                if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                    self._former[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)

    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return self._requested

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._requested = True
        if self._then is not None:
            self._then()
