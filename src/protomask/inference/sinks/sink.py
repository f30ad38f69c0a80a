"""`Sink`, and several of them as one."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from protomask.errors import ConfigError
from protomask.files import naming
from protomask.structures.frame import Frame


class Sink(ABC):
    """Takes frames in which something was found, and writes them; a context manager.

    Leaving the ``with`` block normally completes what was begun; leaving it by an exception removes what is not
    complete.
    """

    def check(self, frame: Frame) -> None:  # noqa: B027 - a sink may accept all
        """Refuse a frame before anything is written about it.

        Raises:
            ProtomaskError: why it cannot be written.

        """

    @abstractmethod
    def write(self, frame: Frame) -> list[Path]:
        """Write one frame, whose ``found`` is there, best first.

        Returns:
            The files that were written for this frame and no other.

        Raises:
            ProtomaskError: a file cannot be written; the message names it.

        """

    def replay(self, frame: Frame) -> None:  # noqa: B027 - a sink may not care
        """Take note of a frame that an interrupted run has written, whose image is not known.

        A sink that makes one file of all frames takes it again; one that makes files for each frame counts it.
        """

    def close(self, *, complete: bool) -> None:  # noqa: B027 - a sink may have nothing to end
        """End; ``complete`` says whether all frames have come."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(complete=error is None)


class Sinks(Sink):
    """Several sinks as one: a frame that one of them refuses is written by none.

    Args:
        sinks: each gets every frame.

    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.sinks = tuple(sinks)

    def check(self, frame: Frame) -> None:
        """See `Sink.check`."""
        for sink in self.sinks:
            sink.check(frame)

    def write(self, frame: Frame) -> list[Path]:
        """See `Sink.write`."""
        self.check(frame)
        if frame.found is not None:
            frame = frame.replace(found=frame.found.best_first())
        return [path for sink in self.sinks for path in sink.write(frame)]

    def replay(self, frame: Frame) -> None:
        """See `Sink.replay`."""
        for sink in self.sinks:
            sink.replay(frame)

    def close(self, *, complete: bool) -> None:
        """See `Sink.close`; every sink is closed, also where another one fails."""
        errors: list[Exception] = []
        for sink in self.sinks:
            try:
                sink.close(complete=complete and not errors)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]


class Names:
    """File names for frames: the name of the source without its ending; a second one of that name becomes NAME_2.

    Frames of a video add their number: NAME_000012.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}

    def next(self, frame: Frame) -> str:
        """The name for one more frame."""
        if frame.time is None:
            return self.unique(_stem(frame.source))
        return self.unique(f"{_stem(frame.source)}_{frame.index:06d}")

    def next_of(self, source: str) -> str:
        """The name for one more source, of which all frames go into one file."""
        return self.unique(_stem(source))

    def peek(self, source: str) -> str:
        """What `next_of` would give."""
        return self._free(_stem(source))[0]

    def unique(self, first: str) -> str:
        """A name that no other one was given, ``first`` if it can be."""
        stem, count = self._free(first)
        self._counts[first.casefold()] = count
        self._taken.add(stem.casefold())
        return stem

    def _free(self, first: str) -> tuple[str, int]:
        # Some file systems do not tell A.png from a.png.
        stem, count = first, self._counts.get(first.casefold(), 1)
        while stem.casefold() in self._taken:
            count += 1
            stem = f"{first}_{count}"
        return stem, count


def _stem(source: str) -> str:
    """The last part of a path without its ending; of an address without a path its host; only what file names hold."""
    if "://" not in source and not source.startswith("camera:"):
        return Path(source).stem or "image"
    host, *path = [part for part in re.split("[?#]", source)[0].partition("://")[2].split("/") if part] or [source]
    return re.sub(r'[:<>"|*\\]', "_", Path(path[-1]).stem if path else host.rpartition("@")[2])


def make_folder(path: Path) -> Path:
    """A folder that exists.

    Raises:
        ProtomaskError: it cannot be made.

    """
    with naming(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def check_not_among_inputs(frame: Frame, folder: Path) -> None:
    """Raises: ConfigError if the frame's image lies in a folder that is written to."""
    source = Path(frame.source)
    try:
        inside = source.is_file() and source.resolve().parent == folder.resolve()
    except (OSError, ValueError):  # a source that is not a path
        return
    if inside:
        raise ConfigError(
            f"save_dir: expected a folder other than that of the images, got {folder}, where {source.name} lies"
        )
