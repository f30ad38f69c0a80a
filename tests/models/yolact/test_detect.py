"""From the output of a YOLACT to `Instances`, without a backbone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from protomask.detection.options import NMS_MODES, NmsMode, PredictOptions
from protomask.errors import ConfigError
from protomask.models.families import read_output
from protomask.models.yolact.config import YolactConfig
from protomask.models.yolact.heads import YolactOutput
from protomask.models.yolact.model import Yolact
from protomask.ops.anchors import pyramid_anchors
from protomask.structures.instances import Instances

CONFIG = YolactConfig(
    name="test", num_classes=3, image_size=64, backbone="resnet18", max_detections=30, max_candidates=80
)
NAMES = ("a", "b", "c")
SIZES = [(50, 70), (1, 1)]
ONE_SIZE = [(50, 70)]


def random_output(batch: int = 2, *, sharpness: float = 3.0, seed: int = 0) -> YolactOutput:
    anchors = pyramid_anchors(
        [(8, 8), (4, 4)], scales=[(10,), (30,)], aspect_ratios=(1.0, 0.5, 2.0), image_size=64, square=False
    )
    generator = torch.Generator().manual_seed(seed)
    count = len(anchors)
    return YolactOutput(
        box_deltas=torch.randn(batch, count, 4, generator=generator),
        class_logits=sharpness * torch.randn(batch, count, 4, generator=generator),
        mask_coefficients=torch.randn(batch, count, 5, generator=generator).tanh(),
        prototypes=torch.rand(batch, 16, 16, 5, generator=generator),
        anchors=anchors,
        semantic_logits=None,
    )


def read(
    output: YolactOutput,
    sizes: list[tuple[int, int]] = SIZES,
    *,
    config: YolactConfig = CONFIG,
    score_threshold: float = 0,
    **options: Any,
) -> list[Instances]:
    with torch.device("meta"):  # without mask rescoring no weight takes part
        network = Yolact(config, NAMES)
    return read_output(network, output, sizes, PredictOptions(score_threshold=score_threshold, **options))


def same(one: Instances, other: Instances) -> bool:
    fields = ("scores", "boxes", "labels", "masks")
    return all(np.array_equal(getattr(one, field), getattr(other, field)) for field in fields)


@pytest.mark.parametrize("nms", NMS_MODES)
def test_every_mode_keeps_the_promises_of_its_result(nms: NmsMode) -> None:
    for found, (height, width) in zip(read(random_output(), nms=nms), SIZES, strict=True):
        assert len(found) > 0
        assert found.image_size == (height, width)
        assert found.class_names == NAMES
        assert found.mask_scores is None
        assert (np.diff(found.scores) <= 0).all()
        assert ((found.scores >= 0) & (found.scores <= 1)).all()
        assert (found.boxes >= 0).all()
        assert (found.boxes <= np.array([width, height, width, height])).all()
        assert (found.boxes[:, :2] <= found.boxes[:, 2:]).all()
        assert found.masks.shape == (len(found), height, width)
        if nms != "cross_class_fast":
            assert len(found) <= CONFIG.max_detections


@pytest.mark.parametrize("nms", NMS_MODES)
def test_options_are_honoured_in_every_mode(nms: NmsMode) -> None:
    output = random_output(1)
    [everything] = read(output, ONE_SIZE, nms=nms)
    middle = float(np.median(everything.scores))
    [above] = read(output, ONE_SIZE, nms=nms, score_threshold=middle)
    assert 0 < len(above) < len(everything)
    assert same(above, everything[everything.scores > middle])
    [few] = read(output, ONE_SIZE, nms=nms, max_detections=4)
    np.testing.assert_array_equal(few.scores, everything.scores[:4])
    best = output.class_logits[0].softmax(dim=-1)[:, 1:].amax(dim=-1).sort(descending=True).values
    [certain] = read(output, ONE_SIZE, nms=nms, candidate_threshold=float(best[2]))
    assert 0 < len(certain) <= 2 * CONFIG.num_classes  # two anchors, with every class at most
    assert len(read(output, ONE_SIZE, nms=nms, candidate_threshold=1.0)[0]) == 0


def test_cross_class_is_cut_only_when_asked() -> None:
    output = random_output(1)
    [whole] = read(output, ONE_SIZE, nms="cross_class_fast")
    assert CONFIG.max_detections < len(whole) <= CONFIG.max_candidates
    assert len(read(output, ONE_SIZE, nms="cross_class_fast", max_detections=30)[0]) == 30


@pytest.mark.parametrize("nms", NMS_MODES)
def test_nothing_found(nms: NmsMode) -> None:
    output = random_output()
    output = output._replace(class_logits=torch.tensor([50.0, 0, 0, 0]).expand_as(output.class_logits))
    for found, size in zip(read(output, nms=nms), SIZES, strict=True):
        assert len(found) == 0
        assert found.masks.shape == (0, *size)
        assert found.rle() == []


def test_no_images() -> None:
    assert read(random_output(0), []) == []


@pytest.mark.parametrize("nms", NMS_MODES)
@pytest.mark.parametrize("field", ["box_deltas", "class_logits", "mask_coefficients", "prototypes"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")
def test_a_diverged_network_gives_finite_boxes_and_scores(nms: NmsMode, field: str, value: float) -> None:
    output = random_output(1)
    broken = getattr(output, field).clone()
    broken.view(-1)[::3] = value
    [found] = read(output._replace(**{field: broken}), ONE_SIZE, nms=nms)
    assert np.isfinite(found.boxes).all()
    assert np.isfinite(found.scores).all()
    assert found.masks.shape == (len(found), *ONE_SIZE[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_output_gives_float32_results(dtype: torch.dtype) -> None:
    output = random_output(1)
    fields = ("box_deltas", "class_logits", "mask_coefficients", "prototypes")
    half = output._replace(**{field: getattr(output, field).to(dtype) for field in fields})
    [found] = read(half, ONE_SIZE)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert len(found)


def test_the_best_of_each_level_are_looked_at() -> None:
    limited = CONFIG.override(
        candidates_per_level=1, num_levels=2, backbone_levels=("C3", "C4"), anchor_scales=((10,), (30,))
    )
    [found] = read(random_output(1), ONE_SIZE, config=limited)
    assert 0 < len(found) <= 2 * CONFIG.num_classes
    fewer = limited.override(image_size=32, anchor_scales=((10,), (30,)))
    with pytest.raises(ConfigError, match=r"candidates_per_level: expected 60 anchors \(48, 12 on the levels\), got"):
        read(random_output(1), ONE_SIZE, config=fewer)
