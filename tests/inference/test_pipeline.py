from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from protomask.errors import DataError
from protomask.inference import pipeline
from protomask.inference.base import ImagePredictor
from protomask.inference.pipeline import map_ahead, predict_files
from protomask.models.zoo import yolact_nano
from protomask.structures.instances import Instances


class Counter(ImagePredictor):
    """Finds nothing, and remembers what it was given."""

    source = "test"
    class_names = ("thing",)
    config = yolact_nano()

    def __init__(self, on_batch: Callable[[], None] = lambda: None) -> None:
        self.batches: list[int] = []
        self.options: dict[str, Any] = {}
        self.on_batch = on_batch

    def predict_batch(
        self, images: Sequence[Tensor], *, timings: dict[str, float] | None = None, **options: Any
    ) -> list[Instances]:
        self.on_batch()
        self.batches.append(len(images))
        self.options = options
        return [
            Instances(
                boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64), class_scores=torch.zeros(0),
                masks=torch.zeros(0, *image.shape[1:], dtype=torch.bool), image_size=(image.shape[1], image.shape[2]),
                class_names=self.class_names,
            )
            for image in images
        ]  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Eleven pictures of widths 1 to 11, the third of which is broken."""
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
    assert threading.active_count() == before


@pytest.mark.parametrize("decoders", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 20])
def test_files_come_in_order_and_broken_ones_as_errors(files: list[Path], batch_size: int, decoders: int) -> None:
    predictor = Counter()
    results = list(predict_files(predictor, files, batch_size=batch_size, decoders=decoders, score_threshold=0.5))
    assert [one.path for one in results] == files
    assert sum(predictor.batches) == 10
    assert max(predictor.batches) <= batch_size
    assert predictor.options == {"score_threshold": 0.5}
    for width, one in enumerate(results, start=1):
        if width == 3:
            assert (one.image, one.found) == (None, None)
            assert isinstance(one.error, DataError)
            assert "3.png" in str(one.error)
        else:
            assert one.found is not None
            assert one.image is not None
            assert one.found.image_size == tuple(one.image.shape[1:]) == (2, width)
            assert one.error is None


def test_no_files() -> None:
    assert list(predict_files(Counter(), [])) == []


@pytest.mark.parametrize(("batch_size", "decoders"), [(1, 1), (3, 2)])
def test_memory_does_not_grow_with_the_number_of_files(
    batch_size: int, decoders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    class Pixels(torch.Tensor):
        """A tensor that can be counted."""

    def read(path: Path) -> Tensor:
        nonlocal most
        image = torch.zeros(3, 1, 1, dtype=torch.uint8).as_subclass(Pixels)
        alive.add(image)
        most = max(most, len(alive))
        return image

    monkeypatch.setattr(pipeline, "read_image", read)
    paths = [Path(str(number)) for number in range(2000)]
    found = predict_files(Counter(), paths, batch_size=batch_size, decoders=decoders)
    with closing(found), closing(map_ahead(lambda one: one.path, found)) as written:
        assert list(written) == paths
    # Decoding, one batch and the next, what waits to be written.
    assert most <= 3 * batch_size + decoders + 4


def fails_at(number: int) -> Callable[[int], int]:
    def call(item: int) -> int:
        if item == number:
            raise RuntimeError(f"item {item}")
        return item

    return call


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
    found = predict_files(Counter(fail), files)
    with pytest.raises(kind, match="network"), closing(found), closing(map_ahead(str, found)) as written:
        list(written)
    assert time.perf_counter() - started < 5


def test_leaving_early_ends_the_threads(files: list[Path]) -> None:
    with closing(predict_files(Counter(), files)) as found, closing(map_ahead(lambda one: one.path, found)) as written:
        assert next(written) == files[0]


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
