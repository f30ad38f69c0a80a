"""Stopping a run so that it can continue."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """Inside its block, Ctrl-C and SIGTERM stop the run after the current step; a second one stops it at once.

    In any thread but the main one signals cannot be handled, and the block changes nothing.
    """

    def __init__(self) -> None:
        self._requested = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # as signals need
            for number in (signal.SIGINT, signal.SIGTERM):
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
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
