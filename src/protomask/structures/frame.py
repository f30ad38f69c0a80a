"""`Frame`: one image on its way from a source through a model to a sink."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from protomask.errors import DataError
from protomask.images.decode import Pixels
from protomask.structures.instances import Instances
from protomask.structures.zone_report import ZoneReport


class Frame:
    """One image of a source, and what was found in it.

    Frames never change, except that the image is read on first use, in whichever thread that happens.

    Args:
        image: (H, W, 3) uint8 RGB, or a function that reads it.
        source: where the image comes from: a path, an address, or a name if it has neither.
        index: number within its source, from 0.
        time: seconds from the beginning of its source; None for still images.
        captured: when a camera or stream delivered it, by the clock of `time.monotonic`; None for files.
        found: what was found in it; None before a prediction.
        error: why the image could not be read; None if it could, or if nobody has tried.
        zones: what happened in zones and at lines; None if none are watched.
        image_source: path or address from which the image can be read again; None if there is none, as for a frame of a
            video.

    """

    __slots__ = ("_image", "captured", "error", "found", "image_source", "index", "source", "time", "zones")

    source: str
    index: int
    time: float | None
    captured: float | None
    found: Instances | None
    error: DataError | None
    zones: ZoneReport | None
    image_source: str | None
    _image: Pixels | Callable[[], Pixels]

    def __init__(
        self,
        image: Pixels | Callable[[], Pixels],
        *,
        source: str,
        index: int = 0,
        time: float | None = None,
        captured: float | None = None,
        found: Instances | None = None,
        error: DataError | None = None,
        zones: ZoneReport | None = None,
        image_source: str | None = None,
    ) -> None:
        values = {
            "_image": image, "source": source, "index": index, "time": time, "captured": captured, "found": found,
            "error": error, "zones": zones, "image_source": image_source,
        }  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"frames never change: make a new one with replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("frames never change")

    @property
    def image(self) -> Pixels:
        """(H, W, 3) uint8 RGB, upright.

        Raises:
            DataError: the image cannot be read; the message names it.

        """
        if callable(self._image):
            object.__setattr__(self, "_image", self._image())
        assert not callable(self._image)
        return self._image

    @classmethod
    def failed(cls, error: DataError, *, source: str, index: int = 0) -> Frame:
        """Make a frame that cannot be read, with the reason."""
        return cls(partial(_fail, error), source=source, index=index, error=error)

    def read(self) -> Frame:
        """Return the frame with its image read, or with the ``error`` that kept it from being read."""
        try:
            _ = self.image
        except DataError as error:
            return self.replace(error=error)
        return self

    def replace(self, **changes: Any) -> Frame:
        """Return the same frame with some fields changed."""
        return Frame(**{**self._fields(), **changes})

    def _fields(self) -> dict[str, Any]:
        return {
            "image": self._image,
            "source": self.source,
            "index": self.index,
            "time": self.time,
            "captured": self.captured,
            "found": self.found,
            "error": self.error,
            "zones": self.zones,
            "image_source": self.image_source,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._fields(),)

    def __repr__(self) -> str:
        time = "" if self.time is None else f" at {self.time:.3f} s"
        return f"Frame({self.index} of {self.source}{time}, found {self.found})"


def _fail(error: DataError) -> Pixels:
    raise error


def _rebuild(fields: dict[str, Any]) -> Frame:
    """A `Frame` from its pickled fields."""
    return Frame(**fields)
