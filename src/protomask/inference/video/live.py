"""`LiveStream`: the newest frame of a camera or stream; what came before it and was not used is dropped and counted."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from time import monotonic, sleep
from typing import TYPE_CHECKING, BinaryIO

from protomask.errors import DataError
from protomask.inference.video.address import Address
from protomask.inference.video.choice import choose
from protomask.inference.video.library import load_av, reason, warn
from protomask.inference.video.opening import opened
from protomask.inference.video.options import VideoOptions
from protomask.inference.video.pictures import Pictures
from protomask.inference.video.pixels import Upright
from protomask.structures.frame import Frame

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 8.0
"""Seconds between attempts to reach a lost stream; each wait is twice the one before."""
_POLL = 0.05
"""Seconds after which who waits looks whether it shall stop: a signal cannot wake it safely."""
_TICK = 0.001
"""Seconds that the first frame of a connection is later than the last one before, at least."""


class LiveStream:
    """The frames of a camera or stream, each the newest at the moment it is asked for.

    A thread decodes what comes. Frames have ``time``, seconds since the first one, and ``captured``, when they were
    there to be used; their ``index`` counts the dropped ones too. A stream that is lost is looked for again, less and
    less often, with a `VideoWarning`; one that does not come back ends in a frame with an ``error``.

    Args:
        address: of the camera or stream.
        options: what of it is read, and when it is given up.
        file: read this instead of the address; there is no way back to it when it has ended.

    Raises:
        MissingExtraError: PyAV is not installed.

    """

    live = True

    def __init__(self, address: Address, options: VideoOptions | None = None, *, file: BinaryIO | None = None) -> None:
        load_av()
        self.address = address
        self.options = options or VideoOptions()
        self.captured = 0
        """Frames that came and were to be used."""
        self.dropped = 0
        """Frames that were replaced by newer ones before anybody asked for them."""
        self.reconnects = 0
        """How often a lost stream came back."""
        self._file = file
        self._returns = file is None and not address.url.startswith("file:")
        self._change = threading.Condition()
        self._newest: Frame | None = None
        self._last: Frame | None = None
        self._failure: BaseException | None = None
        self._ended = False
        self._stopped = False
        self._notes: list[str] = []

    @property
    def name(self) -> str:
        """Name shown by frames and messages."""
        return self.address.name

    def stop(self) -> None:
        """End the frames soon; can be called from a signal handler."""
        self._stopped = True

    def _asked_to_stop(self) -> bool:
        return self._stopped

    def __iter__(self) -> Generator[Frame, None, None]:
        self._stopped = self._ended = False
        self._newest = self._last = self._failure = None
        thread = threading.Thread(target=self._capture, name="protomask-capture", daemon=True)
        thread.start()
        try:
            while (frame := self._take()) is not None:
                yield frame
                del frame
            self._say()
        finally:
            self._stopped = True
            thread.join(1.0)  # it may hang in a read, and dies with the process

    def _take(self) -> Frame | None:
        """The newest frame, waited for; None at the end."""
        while True:
            self._say()
            with self._change:
                if self._newest is None and not self._ended:
                    self._change.wait(_POLL)
                if self._asked_to_stop():
                    return None
                if self._newest is not None:
                    frame, self._newest = self._newest, None
                    return frame
                if self._failure is not None:
                    raise self._failure
                if self._ended:
                    last, self._last = self._last, None
                    return last

    def _say(self) -> None:
        while self._notes:
            warn(self._notes.pop(0))

    def _capture(self) -> None:
        number, upright = -1, Upright()
        try:
            for number, time, (picture, arrived) in choose(self._timed(), self.options):
                frame = Frame(upright.pixels_of(picture), source=self.name, index=number, time=time, captured=arrived)
                with self._change:
                    self.captured += 1
                    self.dropped += self._newest is not None
                    self._newest = frame
                    self._change.notify()
        except DataError as error:
            self._last = Frame.failed(error, source=self.name, index=number + 1)
        except BaseException as error:  # an error of our own must not look like a stream that has ended
            self._failure = error
        finally:
            with self._change:
                self._ended = True
                self._change.notify()

    def _timed(self) -> Iterator[tuple[float, tuple[VideoFrame, float]]]:
        """Seconds since the first frame, picture, and when it came; over the gaps of a lost stream."""
        begun: float | None = None
        lost: float | None = None
        wait, frames, last = _FIRST_WAIT, 0, 0.0
        while not self._asked_to_stop():
            why = "it ended"
            try:
                for time, picture in self._pictures():
                    arrived = monotonic()
                    if self._asked_to_stop():
                        return
                    begun = arrived if begun is None else begun
                    if lost is not None:
                        self._notes.append(f"{self.name}: back after {arrived - lost:.1f} s")
                        self.reconnects += 1
                        lost, wait = None, _FIRST_WAIT
                    if time == 0.0:  # what came in a burst may be ahead of the clock
                        offset = max(arrived - begun, last)
                    frames += 1
                    last = time + offset + _TICK
                    yield time + offset, (picture, arrived)
            except DataError as error:
                why = str(error).removeprefix(f"{self.name}: ")
                if begun is None:
                    raise
            if not self._returns:
                return
            now = monotonic()
            if lost is None:
                lost = now
                self._notes.append(f"{self.name}: lost after {frames} frames ({why}); looking for it again")
            if now - lost + wait > self.options.give_up:
                raise DataError(
                    f"{self.name}: lost after {frames} frames, and not back within {self.options.give_up:g} s ({why})"
                )
            self._pause(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _pictures(self) -> Iterator[tuple[float, VideoFrame]]:
        """Seconds since the first frame of this connection, and picture."""
        av = load_av()
        first: float | None = None
        try:
            with opened(self.address, self.options, file=self._file, live=True) as video:
                pictures = Pictures(video, [])
                for time, picture in pictures.since(0.0):
                    first = time if first is None else first
                    yield max(time - first, 0.0), picture
                if first is None:
                    raise DataError(f"{self.name}: no frame came of it")
        except av.FFmpegError as error:
            raise DataError(f"{self.name}: {reason(error)}") from error

    def _pause(self, seconds: float) -> None:
        until = monotonic() + seconds
        while not self._stopped and monotonic() < until:
            sleep(min(_POLL, seconds))
