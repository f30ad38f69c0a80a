"""Many frames through a predictor: decoding, the network and writing at the same time, in order, in little memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
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
        threads: so many calls at a time.
        ahead: at most so many items are in work or done beyond the one the caller has asked for.

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
        frames: any source; it is advanced by the caller's thread.
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
    with closing(map_ahead(Frame.read, frames, threads=decoders, ahead=size + decoders - 1)) as decoded:
        while batch := list(islice(decoded, size)):
            readable = [frame for frame in batch if frame.error is None]
            found = predictor.predict_images([frame.image for frame in readable], options)
            known = (one.from_image(frame.image_source) for one, frame in zip(found, readable, strict=True))
            for frame in batch:
                yield frame if frame.error is not None else frame.replace(found=next(known))
