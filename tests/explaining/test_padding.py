"""The experiment with small untrained models: other paddings change what they should, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from protomask.data.synthetic.shapes import CLASS_NAMES
from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError
from protomask.explaining.padding import PaddingResult, compare_paddings, with_padding
from protomask.explaining.padding_measures import PADDINGS
from protomask.explaining.padding_page import write_padding_page
from protomask.torch_runtime.predictor import TorchPredictor, ready
from tiny_rcnn import tiny_rcnn
from tiny_yolact import block_images, tiny_yolact


def model() -> TorchPredictor:
    return tiny_yolact(
        class_names=CLASS_NAMES, image_size=128, candidate_threshold=0.05, num_levels=4,
        anchor_scales=((12.0,), (24.0,), (48.0,), (96.0,)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def result() -> PaddingResult:
    torch.manual_seed(0)
    return compare_paddings(model(), images=3)


def test_only_zeros_show_a_plain_image_its_place(result: PaddingResult) -> None:
    zeros, *others = result.rows
    assert [row.padding for row in result.rows] == list(PADDINGS)
    assert zeros.plain_deviation > 0.01
    assert all(row.plain_deviation < 1e-3 for row in others)
    assert all(row.position_prototypes == 0 for row in others)
    assert result.plain_maps[0].shape[2] == result.num_prototypes == 4
    for row in result.rows:
        assert 0 <= row.place_share <= 1
        assert row.mask_ap is not None
        assert row.shifted_mask_ap is not None


def test_the_page_has_the_numbers_and_no_other_file(result: PaddingResult, tmp_path: Path) -> None:
    page = write_padding_page(result, tmp_path / "out")
    content = page.read_text(encoding="utf-8")
    assert 'src="data:image/' in content
    assert f"{result.rows[0].plain_deviation:.3f}" in content
    assert json.loads((page.parent / "padding.json").read_text())["rows"][1]["padding"] == "reflect"
    assert (page.parent / "padding.svg").read_text().startswith("<?xml")


def test_the_model_stays_as_it_is() -> None:
    predictor = model()
    [image] = block_images((64, 64))
    before = predictor.predict(image, score_threshold=0.0)
    changed = with_padding(predictor, "circular")
    after = predictor.predict(image, score_threshold=0.0)
    assert np.array_equal(before.scores, after.scores)
    other = changed.predict(image, score_threshold=0.0)
    assert len(other) != len(before) or not np.array_equal(other.scores, before.scores)
    same = with_padding(predictor, "zeros").predict(image, score_threshold=0.0)
    assert np.array_equal(same.scores, before.scores)


def test_a_circular_network_on_a_rolled_image_rolls_its_prototypes() -> None:
    # 64 is a multiple of every stride; upsampling is the only thing left that sees the edge.
    predictor = with_padding(model(), "circular")
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    maps = []
    for pixels in (image, np.roll(image, (64, 64), axis=(0, 1))):
        _, [inside] = predictor.look_inside([pixels], PredictOptions())
        assert inside.prototypes is not None
        maps.append(inside.prototypes.prototypes)
    height, width = maps[0].shape[:2]
    rolled = np.roll(maps[0], (height // 2, width // 2), axis=(0, 1))
    middle = (slice(height // 2 + 6, -6), slice(width // 2 + 6, -6))
    assert np.abs(rolled[middle] - maps[1][middle]).max() < 0.5 * maps[0].std()


def test_what_the_experiment_cannot_take_is_an_error() -> None:
    with pytest.raises(ConfigError, match="images: expected at least 2"):
        compare_paddings(model(), images=1)
    named = tiny_rcnn()
    named.class_names = tuple(CLASS_NAMES[:3])
    with pytest.raises(Exception, match=r"expected one with prototypes|do not match"):
        compare_paddings(ready(TorchPredictor(named), "cpu"), images=2)


def test_maps_that_are_too_small_are_an_error() -> None:
    with pytest.raises(ConfigError, match="too small for reflect padding"):
        compare_paddings(tiny_yolact(class_names=CLASS_NAMES, image_size=32), images=2)
