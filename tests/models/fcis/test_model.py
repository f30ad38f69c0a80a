from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from padded_images import SIZES, make_batch, train_output
from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError
from protomask.models.families import FCIS as FAMILY
from protomask.models.families import read_output
from protomask.models.fcis.model import FCIS
from protomask.models.layers.backbone import build_backbone, dilate_last_stage
from tiny_fcis import tiny_fcis


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "efficientnet_lite0"])
def test_both_maps_have_stride_16(backbone: str) -> None:
    network = build_backbone(backbone, ("C4", "C5")).eval()
    dilate_last_stage(network)
    assert network.strides == (16, 16)
    with torch.inference_mode():
        middle, last = network(torch.zeros(1, 3, 96, 64))
    assert middle.shape[2:] == last.shape[2:] == (6, 4)


def test_a_dilated_stage_sees_what_the_strided_one_saw() -> None:
    torch.manual_seed(0)
    plain, dilated = (build_backbone("resnet18", ("C5",)).eval() for _ in range(2))
    dilated.load_state_dict(plain.state_dict())
    dilate_last_stage(dilated)
    # The first convolution of the stage is dilated, too, so only one that sees a single cell gives the same numbers.
    block = [module for _, module in dilated.layers()][-1][0].downsample  # type: ignore[index]
    strided = [module for _, module in plain.layers()][-1][0].downsample  # type: ignore[index]
    x = torch.randn(1, 256, 6, 8)
    torch.testing.assert_close(block(x)[:, :, ::2, ::2], strided(x))


def test_backbones_without_a_last_stage_are_refused() -> None:
    with pytest.raises(ConfigError, match="backbone: expected one whose last stage can be dilated"):
        dilate_last_stage(build_backbone("resnet18", ("C3",)))


def test_what_a_network_says() -> None:
    network = tiny_fcis()
    with torch.inference_mode():
        output = network(make_batch(network))
    assert output.score_maps.shape[1] == (3 + 1) * 2 * 49
    for regions, proposals, (height, width) in zip(output.regions, output.proposals, SIZES, strict=True):
        count = 2 * len(proposals)
        assert count > 0
        assert regions.boxes.shape == (count, 4)
        assert regions.class_logits.shape == (count, 4)
        assert regions.mask_probs.shape == (count, 21, 21)
        assert (regions.boxes >= 0).all()
        assert (regions.boxes <= torch.tensor([width - 1, height - 1] * 2)).all()
        assert torch.equal(regions.boxes[: len(proposals)], proposals)
        assert 0 <= float(regions.mask_probs.min()) < float(regions.mask_probs.max()) <= 1


def test_images_of_one_batch_see_only_their_own_maps() -> None:
    network = tiny_fcis()
    with torch.inference_mode():
        both, alone = network(make_batch(network)), network(make_batch(network, (SIZES[0],)))
    torch.testing.assert_close(both.regions[0].boxes, alone.regions[0].boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(both.regions[0].mask_probs, alone.regions[0].mask_probs, atol=1e-4, rtol=0)


def test_an_output_of_training_is_not_read() -> None:
    network = tiny_fcis()
    with pytest.raises(ConfigError, match="output: expected that of a network in evaluation mode"):
        FAMILY.detect(network, train_output(network), PredictOptions())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_network_that_diverged_is_read(value: float) -> None:
    network = tiny_fcis()
    for layer in (network.rpn.box_deltas, network.box_maps, network.score_maps):
        nn.init.constant_(layer.weight, value)
    with torch.inference_mode():
        found = read_output(network, network(make_batch(network)), SIZES, PredictOptions(score_threshold=0))
    for one in found:
        assert np.isfinite(one.boxes).all()


def test_names_and_classes_must_agree() -> None:
    with pytest.raises(ConfigError, match=r"class_names: expected 3 names \(num_classes\), got 1"):
        FCIS(tiny_fcis().config, ("a",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_image_size": 32}, "max_image_size: expected a whole number of at least image_size=64"),
        ({"rpn_negative_iou": 0.8}, "rpn_negative_iou: expected at most rpn_positive_iou=0.7"),
        ({"anchor_sizes": ()}, "anchor_sizes: expected"),
    ],
)
def test_impossible_configs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_fcis().config.replace(**changes)


def test_another_image_size_scales_the_limit() -> None:
    assert tiny_fcis().config.for_input(96).max_image_size == 192
