from __future__ import annotations

import copy
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from protomask.errors import DataError
from protomask.images.decode import Pixels, read_image
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def test_the_image_is_read_at_its_first_use_and_once() -> None:
    calls: list[int] = []

    def read() -> Pixels:
        calls.append(1)
        return PIXELS

    frame = Frame(read, source="a.jpg", index=3, time=0.5)
    assert calls == []
    assert frame.image is PIXELS
    assert frame.image is PIXELS
    assert calls == [1]
    assert (frame.source, frame.index, frame.time, frame.found, frame.error) == ("a.jpg", 3, 0.5, None, None)


def test_frames_of_arrays() -> None:
    frame = Frame(PIXELS, source="camera")
    assert frame.image is PIXELS
    assert (frame.index, frame.time) == (0, None)
    assert frame.read() is frame


def test_a_frame_that_cannot_be_read_says_why() -> None:
    frame = Frame(partial(read_image, "missing.jpg"), source="missing.jpg", index=2)
    with pytest.raises(DataError, match=r"missing\.jpg: no such file"):
        _ = frame.image
    tried = frame.read()
    assert frame.error is None
    assert isinstance(tried.error, DataError)
    assert (tried.source, tried.index) == ("missing.jpg", 2)


def test_other_errors_than_those_of_data_are_not_kept() -> None:
    def read() -> Pixels:
        raise MemoryError

    with pytest.raises(MemoryError):
        Frame(read, source="a.jpg").read()


def test_replace_makes_a_new_frame() -> None:
    frame = Frame(PIXELS, source="a.jpg", index=1)
    found = Instances.empty((2, 4), ("cat",))
    seen = frame.replace(found=found, time=1.5)
    assert frame.found is None
    assert (seen.found, seen.time, seen.source, seen.index) == (found, 1.5, "a.jpg", 1)
    assert seen.image is PIXELS
    with pytest.raises(TypeError, match="colour"):
        frame.replace(colour="red")


@pytest.mark.parametrize("name", ["source", "index", "found", "image", "anything"])
def test_frames_never_change(name: str) -> None:
    frame = Frame(PIXELS, source="a.jpg")
    with pytest.raises(AttributeError, match="never change"):
        setattr(frame, name, None)
    with pytest.raises(AttributeError):
        delattr(frame, name)


@pytest.mark.parametrize("used", [True, False])
def test_copies_and_pickles(tmp_path: Path, used: bool) -> None:
    from PIL import Image

    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    frame = Frame(partial(read_image, tmp_path / "a.png"), source="a.png", index=4, time=0.25)
    frame = frame.replace(found=Instances.empty((2, 4), ("cat",)), error=DataError("a.png: odd"))
    if used:
        assert frame.image.shape == (2, 4, 3)
    for same in (copy.copy(frame), copy.deepcopy(frame), pickle.loads(pickle.dumps(frame))):
        np.testing.assert_array_equal(same.image, PIXELS)
        assert (same.source, same.index, same.time) == ("a.png", 4, 0.25)
        assert same.found is not None
        assert same.found.class_names == ("cat",)
        assert str(same.error) == "a.png: odd"


def test_words() -> None:
    assert repr(Frame(PIXELS, source="a.mp4", index=7, time=0.28)) == "Frame(7 of a.mp4 at 0.280 s, found None)"
    assert repr(Frame(PIXELS, source="a.jpg")) == "Frame(0 of a.jpg, found None)"
