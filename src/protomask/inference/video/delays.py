"""`Delays`: how long results take, in memory that does not grow."""

from __future__ import annotations

from collections import deque
from time import monotonic

import numpy as np

from protomask.structures.frame import Frame

_KEPT = 1 << 14
"""The newest delays: nine minutes at 30 frames per second."""


class Delays:
    """Seconds from the capture of frames to their results.

    The time between the light that falls into a camera and the frame that arrives here is not in them.
    """

    def __init__(self) -> None:
        self.count = 0
        self._newest: deque[float] = deque(maxlen=_KEPT)

    def add(self, frame: Frame) -> None:
        """A frame is finished; one that was not captured does not count."""
        if frame.captured is not None:
            self.count += 1
            self._newest.append(monotonic() - frame.captured)

    def percentile(self, percent: float) -> float | None:
        """Seconds within which this share of the newest frames was finished; None before the first one."""
        return float(np.percentile(self._newest, percent)) if self._newest else None

    def __str__(self) -> str:
        half, most = self.percentile(50), self.percentile(95)
        return "" if half is None or most is None else f"delay p50 {1000 * half:.0f} ms, p95 {1000 * most:.0f} ms"
