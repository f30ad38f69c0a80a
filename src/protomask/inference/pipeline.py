"""Many files through a predictor: decoding, the network and writing at the same time, in order, in little memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from torch import Tensor

from protomask.errors import DataError
from protomask.inference.sources import read_image

if TYPE_CHECKING:
    from protomask.inference.base import ImagePredictor
    from protomask.structures.instances import Instances

Item = TypeVar("Item")
Result = TypeVar("Result")


class FilePrediction(NamedTuple):
    """What came of one file: ``error`` says why it could not be read, else ``image`` and ``found`` are there.

    ``image`` is (3, H, W) uint8 RGB, as `read_image` gives it.
    """

    path: Path
    image: Tensor | None
    found: Instances | None
    error: DataError | None


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int = 1, ahead: int = 2
) -> Generator[Result, None, None]:
    """`map`, computed by threads while the caller does something else; results come in the order of the items.

    Threads suffice where the work releases Python's lock, as decoding and encoding images do. ``items`` is advanced by
    the caller's thread alone.

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


def predict_files(
    predictor: ImagePredictor, paths: Sequence[Path], *, batch_size: int = 1, decoders: int = 1, **options: Any
) -> Generator[FilePrediction, None, None]:
    """Predict image files; the next ones are decoded while the network runs.

    Args:
        predictor: runs in the caller's thread.
        paths: image files.
        batch_size: files that go through the network together.
        decoders: threads that decode.
        options: as in `ImagePredictor.predict`.

    Yields:
        One `FilePrediction` for each path, in order; besides those of one batch, at most ``batch_size + decoders``
        images are in memory. Close the generator (`contextlib.closing`) where it is left early.

    Raises:
        ConfigError: an option is out of range.

    """
    with closing(map_ahead(_decode, paths, threads=decoders, ahead=batch_size + decoders - 1)) as decoded:
        while batch := list(islice(decoded, batch_size)):
            images = [image for _, image, _ in batch if image is not None]
            found = iter(predictor.predict_images(images, **options))
            for path, image, error in batch:
                yield FilePrediction(path, image, None if image is None else next(found), error)


def _decode(path: Path) -> tuple[Path, Tensor | None, DataError | None]:
    try:
        return path, read_image(path), None
    except DataError as error:
        return path, None, error
