"""Many frames through a predictor: decoding, the network and writing at the same time, in order, in little memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from typing import Protocol, TypeVar

from protomask.detection.options import PredictOptions
from protomask.images.decode import Pixels
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances

Item = TypeVar("Item")
Result = TypeVar("Result")


class FramePredictor(Protocol):
    """What `predict_frames` needs of a predictor."""

    def predict_images(self, images: Sequence[Pixels], options: PredictOptions) -> list[Instances]:
        """Find the instances of images that are already read."""
        ...


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int = 1, ahead: int = 2
) -> Generator[Result, None, None]:
    """`map`, computed by threads while the caller does something else; results come in the order of the items.

    Threads suffice where the work releases Python's lock, as decoding and encoding images do. ``items`` is advanced by
    only the caller's thread.

    Args:
        function: called with each item, in a thread.
        items: any number of them.
        threads: number of calls at a time.
        ahead: maximum number of items in work or done beyond the one the caller has asked for.

    Raises:
        Exception: the first one that ``function`` or ``items`` raises, in its place. It ends the threads, as closing
            the generator does: calls that have begun are waited for, later ones are never made.

    """
    pending: deque[Future[Result]] = deque()
    failed: list[int] = []

    def call(number: int, item: Item) -> Result:
        if any(earlier < number for earlier in failed):
            raise CancelledError
        try:
            return function(item)
        except BaseException:
            failed.append(number)
            raise

    executor = ThreadPoolExecutor(threads)
    try:
        for number, item in enumerate(items):
            pending.append(executor.submit(call, number, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


def predict_frames(
    predictor: FramePredictor, frames: Iterable[Frame], options: PredictOptions, *, decoders: int = 1
) -> Generator[Frame, None, None]:
    """Predict frames; the next ones are decoded while the network runs.

    Args:
        predictor: runs in the caller's thread.
        frames: any source; it is advanced by the caller's thread. Of a live one nothing is decoded ahead, so that each
            frame is the newest when its turn comes.
        options: ``batch_size`` frames go through the network together.
        decoders: threads that decode.

    Yields:
        Every frame with what was ``found`` in it, or with the ``error`` that kept it from being read, in order; besides
        those of one batch, at most ``batch_size + decoders`` images are in memory. Close the generator
        (`contextlib.closing`) where it is left early.

    Raises:
        ConfigError: an option is out of range.

    """
    size = options.batch_size
    ahead = size - 1 if getattr(frames, "live", False) else size + decoders - 1
    with (
        _advancing(frames) as items,
        closing(map_ahead(Frame.read, items, threads=decoders, ahead=ahead)) as decoded,
    ):
        while batch := list(islice(decoded, size)):
            readable = [frame for frame in batch if frame.error is None]
            found = predictor.predict_images([frame.image for frame in readable], options)
            known = (one.from_image(frame.image_source) for one, frame in zip(found, readable, strict=True))
            for frame in batch:
                yield frame if frame.error is not None else frame.replace(found=next(known))


@contextmanager
def _advancing(frames: Iterable[Frame]) -> Iterator[Iterator[Frame]]:
    """The iterator of a source; what it holds open is closed at the end, but for an iterator of the caller's."""
    items = iter(frames)
    try:
        yield items
    finally:
        close = getattr(items, "close", None)
        if close is not None and items is not frames:
            close()


class FrameTracker(Protocol):
    """What `follow_frames` needs of a tracker."""

    def update(self, found: Instances, time: float | None = None, *, image: Pixels | None = None) -> Instances:
        """Follow the objects into the next frame."""
        ...

    def reset(self) -> None:
        """Forget everything."""
        ...


def follow_frames(frames: Iterable[Frame], tracker: FrameTracker) -> Generator[Frame, None, None]:
    """Give the instances of predicted frames their identities; each source, and each size of its frames, by itself.

    Args:
        frames: in order, with what was found in them.
        tracker: it forgets what it knows first.

    Yields:
        Every frame with the instances that belong to tracks, ``track_ids`` among their columns; frames with an error as
        they are.

    """
    known: tuple[str, tuple[int, int]] | None = None
    for frame in frames:
        if frame.found is None:
            yield frame
            continue
        here = (frame.source, frame.found.image_size)
        if here != known:
            tracker.reset()
            known = here
        yield frame.replace(found=tracker.update(frame.found, frame.time, image=frame.image))
