"""What a prediction writes as a data set is read again as it was found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fake_predictor import CLASS_NAMES, FakePredictor
from protomask.data.coco.dataset import CocoDataset
from protomask.data.formats.convert import convert_dataset
from protomask.inference.sinks.datasets import CocoDatasetSink, DatasetSink, LabelMeSink, YoloSink
from protomask.structures.instances import Instances


def blobs(seed: int) -> np.ndarray:
    """Six ragged objects in the colours that the predictor reads, some with holes and in parts."""
    random = np.random.default_rng(seed)
    image = np.zeros((48, 64, 3), dtype=np.uint8)
    for number in range(1, 7):
        top, left = random.integers(0, 36), random.integers(0, 50)
        part = image[top : top + 12, left : left + 14]
        part[random.random(part.shape[:2]) < (0.9 if number % 2 else 0.5)] = number, number % 2, 120 + 20 * number
    return image


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(3):
        Image.fromarray(blobs(seed)).save(folder / f"{seed}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(blobs(3))).save(folder / "3.png", exif=exif)
    return folder


@pytest.mark.parametrize("kind", [CocoDatasetSink, LabelMeSink, YoloSink])
def test_masks_come_back(photos: Path, tmp_path: Path, kind: type[DatasetSink]) -> None:
    found: list[Instances] = []
    with kind(tmp_path / "predicted", CLASS_NAMES) as sink:
        for frame in FakePredictor().stream(photos):
            assert frame.found is not None
            found.append(frame.found)
            sink.write(frame)
    folder = tmp_path / "predicted"
    if kind is not CocoDatasetSink:
        done = convert_dataset(folder, tmp_path / "coco", output_format="coco")
        assert [remark for remark in done.remarks if "left out" in remark] == []
        folder = tmp_path / "coco"
    dataset = CocoDataset(folder / "annotations" / "train.json", folder / "images" / "train")
    assert not dataset.problems
    assert dataset.class_names == CLASS_NAMES
    assert len(dataset) == 4
    for index, expected in enumerate(found):
        target, problems = dataset.load_target(index)
        assert not problems
        assert len(target) == len(expected) > 3
        np.testing.assert_array_equal(target.labels, expected.labels)
        np.testing.assert_array_equal(target.masks, expected.masks)
        np.testing.assert_array_equal(dataset.load_pixels(index), blobs(index))
