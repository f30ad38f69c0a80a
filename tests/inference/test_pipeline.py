from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fake_predictor import FakePredictor
from protomask.detection.options import PredictOptions
from protomask.errors import DataError
from protomask.images.decode import Pixels
from protomask.inference.pipeline import map_ahead, predict_frames
from protomask.inference.sources import open_source
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances

ONE_BY_ONE = PredictOptions(batch_size=1)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Eleven images of widths 1 to 11, the third of which is broken."""
    paths = []
    for width in range(1, 12):
        paths.append(tmp_path / f"{width}.png")
        Image.fromarray(np.zeros((2, width, 3), dtype=np.uint8)).save(paths[-1])
    paths[2].write_bytes(b"no picture")
    return paths


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() <= before


@pytest.mark.parametrize("decoders", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 20])
def test_frames_come_in_order_and_broken_ones_as_errors(files: list[Path], batch_size: int, decoders: int) -> None:
    predictor, options = FakePredictor(), PredictOptions(batch_size=batch_size, score_threshold=0.5)
    results = list(predict_frames(predictor, open_source(files), options, decoders=decoders))
    assert [frame.source for frame in results] == [str(path) for path in files]
    assert [frame.index for frame in results] == list(range(11))
    assert sum(len(batch) for batch in predictor.batches) == 10
    assert max(len(batch) for batch in predictor.batches) <= batch_size
    assert set(predictor.options) == {options}
    for width, frame in enumerate(results, start=1):
        if width == 3:
            assert frame.found is None
            assert isinstance(frame.error, DataError)
            assert "3.png" in str(frame.error)
        else:
            assert frame.found is not None
            assert frame.found.image_size == frame.image.shape[:2] == (2, width)
            assert frame.error is None


def test_no_frames() -> None:
    assert list(predict_frames(FakePredictor(), [], PredictOptions())) == []


def test_a_frame_keeps_everything_else() -> None:
    before = Frame(np.zeros((2, 3, 3), dtype=np.uint8), source="video.mp4", index=7, time=0.28)
    [after] = predict_frames(FakePredictor(), [before], PredictOptions())
    assert (after.source, after.index, after.time) == ("video.mp4", 7, 0.28)
    assert after.image is before.image
    assert before.found is None


def test_all_frames_broken() -> None:
    predictor = FakePredictor()
    frames = open_source([b"no image"] * 5)
    assert all(frame.error is not None for frame in predict_frames(predictor, frames, PredictOptions(batch_size=2)))
    assert predictor.batches == []


class Nothing:
    """Finds nothing."""

    def predict_images(self, images: Sequence[Pixels], options: PredictOptions) -> list[Instances]:
        return [Instances.empty((image.shape[0], image.shape[1]), ("thing",)) for image in images]


@pytest.mark.parametrize(("batch_size", "decoders"), [(1, 1), (3, 2)])
def test_memory_does_not_grow_with_the_number_of_frames(batch_size: int, decoders: int) -> None:
    alive: set[int] = set()
    most = 0

    def read(number: int) -> Pixels:
        nonlocal most
        image = np.zeros((1, 1, 3), dtype=np.uint8)
        alive.add(number)
        weakref.finalize(image, alive.discard, number)
        most = max(most, len(alive))
        return image

    frames = (Frame(partial(read, number), source=str(number), index=number) for number in range(2000))
    found = predict_frames(Nothing(), frames, PredictOptions(batch_size=batch_size), decoders=decoders)
    with closing(found), closing(map_ahead(lambda frame: frame.index, found)) as written:
        assert list(written) == list(range(2000))
    # Decoding, one batch and the next, what waits to be written.
    assert most <= 3 * batch_size + decoders + 4


def fails_at(number: int) -> Callable[[int], int]:
    def call(item: int) -> int:
        if item == number:
            raise RuntimeError(f"item {item}")
        return item

    return call


@pytest.mark.parametrize(("threads", "ahead"), [(1, 0), (1, 2), (4, 1), (3, 100)])
def test_results_come_in_the_order_of_the_items(threads: int, ahead: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.001 * (item % 3))
        return item

    assert list(map_ahead(work, range(30), threads=threads, ahead=ahead)) == list(range(30))


def test_no_items_start_no_work() -> None:
    assert list(map_ahead(fails_at(0), [])) == []


def test_no_more_items_are_taken_than_asked_for() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    with closing(map_ahead(str, items(), threads=2, ahead=3)) as results:
        assert taken == []
        assert next(results) == "0"
        assert taken == [0, 1, 2, 3]
        assert next(results) == "1"
        assert taken == [0, 1, 2, 3, 4]


def test_the_first_error_of_a_thread_comes_in_its_place_and_ends_the_work() -> None:
    called = []

    def items() -> Iterator[int]:
        for number in range(1000):
            called.append(number)
            yield number

    got: list[int] = []
    with pytest.raises(RuntimeError, match="item 7"):
        got.extend(map_ahead(fails_at(7), items(), threads=2, ahead=3))
    assert got == list(range(7))
    assert len(called) <= 7 + 4


def test_an_error_of_the_items_comes_as_it_is() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(map_ahead(str, items()))


def test_nothing_is_done_after_a_call_that_failed() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 3:
            raise KeyboardInterrupt
        done.append(item)

    with pytest.raises(KeyboardInterrupt):
        list(map_ahead(work, range(10), ahead=5))
    assert done == [0, 1, 2]


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_error_of_the_network_ends_all_threads_at_once(files: list[Path], kind: type[BaseException]) -> None:
    def fail() -> None:
        raise kind("network")

    started = time.perf_counter()
    found = predict_frames(FakePredictor(before=fail), open_source(files), ONE_BY_ONE)
    with pytest.raises(kind, match="network"), closing(found), closing(map_ahead(str, found)) as written:
        list(written)
    assert time.perf_counter() - started < 5


def test_an_error_that_is_no_broken_image_is_not_swallowed() -> None:
    def read() -> Pixels:
        raise RuntimeError("camera")

    frames = [Frame(read, source="camera")]
    with pytest.raises(RuntimeError, match="camera"):
        list(predict_frames(FakePredictor(), frames, PredictOptions()))


def test_leaving_early_ends_the_threads(files: list[Path]) -> None:
    with (
        closing(predict_frames(FakePredictor(), open_source(files), ONE_BY_ONE)) as found,
        closing(map_ahead(lambda frame: frame.source, found)) as written,
    ):
        assert next(written) == str(files[0])


def test_work_goes_on_while_the_caller_is_busy() -> None:
    third_began = threading.Event()

    def work(item: int) -> int:
        if item == 2:
            third_began.set()
        return item

    results = map_ahead(work, range(5), ahead=2)
    assert next(results) == 0
    assert third_began.wait(timeout=5)
    assert list(results) == [1, 2, 3, 4]


def test_frames_are_decoded_while_the_network_runs() -> None:
    second_is_read = threading.Event()

    def read(number: int) -> Pixels:
        if number == 1:
            second_is_read.set()
        return np.zeros((2, 2, 3), dtype=np.uint8)

    def wait() -> None:
        assert second_is_read.wait(timeout=5)

    frames = [Frame(partial(read, number), source=str(number), index=number) for number in range(3)]
    found = predict_frames(FakePredictor(before=wait), frames, ONE_BY_ONE)
    assert [frame.index for frame in found] == [0, 1, 2]
