"""Files without a model: what a changed output does, and how many images they get at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protomask.errors import CheckpointError
from protomask.runtimes.exported import ExportedPredictor
from protomask.runtimes.golden import Golden
from protomask.runtimes.info import AnyInput, ExportInfo, FixedInput, Thresholds
from protomask.runtimes.verification import verify

INFO = ExportInfo(
    model="yolact_nano", family="yolact", class_names=("nut", "bolt"), input=AnyInput(), mask_frame="grid",
    thresholds=Thresholds(nms="fast", iou_threshold=0.5, candidate_threshold=0.05, max_detections=4), batch="one",
    protomask_version="0",
)  # fmt: skip
IMAGE = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)


class Bright(ExportedPredictor):
    """Three detections of each image, the first as sure as its first pixel is red."""

    def __init__(self, info: ExportInfo = INFO, golden: str | None = None, *, wrong: int | None = None) -> None:
        super().__init__(info, "bright.onnx", ("boxes", "labels", "class_scores", "masks"), golden=golden)
        self.wrong = wrong
        self.batches: list[int] = []

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        self.batches.append(len(images))
        each = [self._one(image) for image in images]
        if not self.info.takes_batches:
            return each[0]
        if self.wrong is not None and len(each) > 1:
            each[self.wrong]["boxes"] = each[self.wrong]["boxes"] + 1
        return {name: np.stack([one[name] for one in each]) for name in each[0]}

    def _one(self, image: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        scores = np.array([image[0, 0, 0] / 256, 0.2, 0.0], dtype=np.float32)
        masks = np.ones((3, 2, 2), dtype=np.float32)
        return {"boxes": np.eye(3, 4), "labels": np.array([1, 0, 0]), "class_scores": scores, "masks": masks}


def stored(predictor: Bright, image: NDArray[np.uint8] = IMAGE) -> str:
    return Golden.of(image, predictor.run(image.transpose(2, 0, 1)[None])).to_json()


def test_a_file_that_does_the_same_passes() -> None:
    predictor = Bright(golden=stored(Bright()))
    done = verify(predictor)
    assert (done.passed, done.batches, predictor.batches) == (True, (1,), [1])
    assert done.differences == {"boxes": 0.0, "labels": 0.0, "class_scores": 0.0, "masks": 0.0}
    assert done.to_dict()["runtime"] == "Bright"


def test_a_file_that_does_something_else_fails() -> None:
    other = IMAGE.copy()
    other[0, 0, 0] = 64
    content = Golden.from_json(stored(Bright(), other), "a")
    predictor = Bright(golden=Golden(image=IMAGE, outputs=content.outputs).to_json())
    done = verify(predictor)
    assert (done.passed, done.failed) == (False, ("class_scores",))
    assert done.differences["class_scores"] == pytest.approx(0.25)


@pytest.mark.parametrize("wrong", [None, 0, 1, 2])
def test_every_place_of_a_batch_is_looked_at_that_has_the_image(wrong: int | None) -> None:
    info = INFO.replace(batch="any")
    predictor = Bright(info, stored(Bright(info)), wrong=wrong)
    done = verify(predictor)
    assert (done.batches, predictor.batches) == ((1, 3), [1, 3])
    assert done.passed is (wrong in (None, 1))


def test_outputs_that_are_gone_or_have_another_shape_fail() -> None:
    golden = Golden.of(IMAGE, {"boxes": np.eye(2, 4), "gone": np.zeros(3)}).to_json()
    done = verify(Bright(golden=golden))
    assert done.failed == ("boxes", "gone")
    assert done.to_dict()["differences"] == {"boxes": None, "gone": None}


def test_a_file_without_stored_results_says_so() -> None:
    with pytest.raises(CheckpointError, match=r"bright\.onnx: expected stored results to verify it with, found none"):
        verify(Bright())


# Detections of several images at once


@pytest.mark.parametrize(("batch", "batches"), [("any", [2]), ("one", [1, 1])])
def test_images_of_one_size_go_together_where_the_file_takes_them(batch: Any, batches: list[int]) -> None:
    predictor = Bright(INFO.replace(batch=batch))
    bright = np.full_like(IMAGE, 128)
    found = predictor.predict_images([IMAGE, bright])
    assert predictor.batches == batches
    assert [len(one) for one in found] == [0, 1]
    assert predictor.predict_images([bright, IMAGE])[0].scores[0] == pytest.approx(0.5)


def test_images_of_other_sizes_go_one_by_one_unless_the_reader_resizes_them() -> None:
    images = [IMAGE, np.full((4, 5, 3), 128, dtype=np.uint8)]
    predictor = Bright(INFO.replace(batch="any"))
    assert len(predictor.predict_images(images)[1]) == 1
    assert predictor.batches == [1, 1]
    resizing = Bright(INFO.replace(batch="any", input=FixedInput(size=(8, 8), method="bilinear")))
    assert [one.image_size for one in resizing.predict_images(images)] == [(8, 6), (4, 5)]
    assert resizing.batches == [2]


def test_texts_live_in_archives_and_behind_other_files(tmp_path: Path) -> None:
    import zipfile

    from protomask.runtimes.archive import add_texts, entry_names, read_texts

    path = tmp_path / "a.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/version", "3")
    add_texts(path, {"protomask": "{}"})
    add_texts(path, {"protomask_golden": "[]"})
    assert read_texts(path) == {"protomask": "{}", "protomask_golden": "[]"}
    assert entry_names(path) == ("a/version", "a/extra/protomask.json", "a/extra/protomask_golden.json")
    behind = tmp_path / "a.bin"
    behind.write_bytes(b"weights" * 100)
    assert entry_names(behind) == ()
    with pytest.raises(CheckpointError, match=r"a\.bin: expected a file made by protomask export"):
        read_texts(behind)
    add_texts(behind, {"protomask": "{}"})
    assert behind.read_bytes().startswith(b"weightsweights")
    assert read_texts(behind) == {"protomask": "{}"}
