from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError
from protomask.models.build import build_criterion, build_network
from protomask.models.families import read_output
from protomask.models.yolact.config import RESCORING_CHANNELS
from protomask.models.yolact.mask_rescoring import MaskRescoring
from protomask.structures.target import Target
from targets import empty_target

SMALL: dict[str, Any] = {
    "image_size": 128, "backbone": "resnet18", "backbone_levels": ("C2", "C3", "C4"), "fpn_channels": 16,
    "protonet_channels": 8, "rescoring_channels": (4, 8),
}  # fmt: skip


def square_target(side: int = 60, size: int = 128) -> Target:
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    mask[0, 20 : 20 + side, 30 : 30 + side] = True
    return Target(
        boxes=torch.tensor([[30.0, 20.0, 30.0 + side, 20.0 + side]]), labels=torch.tensor([1]), masks=mask,
        is_crowd=torch.tensor([False]), image_size=(size, size),
    )  # fmt: skip


def test_each_mask_gets_the_estimate_of_its_class() -> None:
    torch.manual_seed(0)
    rescoring = MaskRescoring((4,), num_classes=3)
    rescoring.initialize()
    masks = torch.rand(2, 9, 9)
    every = torch.stack([rescoring(masks, torch.full((2,), label)) for label in range(3)], dim=1)
    torch.testing.assert_close(rescoring(masks, torch.tensor([2, 0])), every[[0, 1], [2, 0]])
    assert bool((every >= 0).all())
    assert rescoring(masks[:0], torch.zeros(0, dtype=torch.int64)).shape == (0,)


def test_prototypes_too_small_for_the_network_are_refused_early() -> None:
    with pytest.raises(ConfigError, match="rescoring_channels"):
        build_network("yolact_nano", image_size=64, protonet_upsamplings=1, rescoring_channels=RESCORING_CHANNELS)
    build_network("yolact_nano", rescoring_channels=RESCORING_CHANNELS)


def test_loss_is_the_distance_from_the_measured_iou() -> None:
    torch.manual_seed(0)
    network = build_network("yolact_nano", num_classes=3, **SMALL).train()
    assert network.rescoring is not None
    torch.nn.init.zeros_(network.rescoring.classify.weight)
    torch.nn.init.constant_(network.rescoring.classify.bias, 3.0)
    criterion = build_criterion(network)
    output = network(torch.randn(2, 3, 128, 128))
    with torch.no_grad():  # masks everywhere: the IoU is the share of the padded box that the object fills
        output.mask_coefficients.fill_(1.0)
        output.prototypes.fill_(1.0)
    losses = criterion(output, [square_target(), square_target()])
    # 64 prototype pixels for 128: the object is 30 x 30 of them, its crop 32 x 32. Smooth L1 beyond 1 is linear.
    expected = 25.0 * (3.0 - 30**2 / 32**2 - 0.5)
    assert losses["loss_rescoring"].item() == pytest.approx(expected, rel=1e-5)
    terms = [value for name, value in losses.items() if name != "loss_total"]
    assert losses["loss_total"].item() == pytest.approx(sum(term.item() for term in terms), rel=1e-5)


def test_small_masks_and_empty_images_have_no_rescoring_loss_but_a_gradient_path() -> None:
    torch.manual_seed(0)
    network = build_network("yolact_nano", num_classes=3, **SMALL).train()
    criterion = build_criterion(network)
    output = network(torch.randn(2, 3, 128, 128))
    targets = [square_target(side=8), empty_target((128, 128))]
    losses = criterion(output, targets)
    assert losses["loss_rescoring"].item() == 0
    losses["loss_rescoring"].backward(retain_graph=True)
    losses["loss_total"].backward()


def test_results_carry_class_and_mask_scores() -> None:
    torch.manual_seed(0)
    network = build_network("yolact_nano", num_classes=3, **SMALL).eval()
    plain = build_network("yolact_nano", num_classes=3, **{**SMALL, "rescoring_channels": ()}).eval()
    plain.load_state_dict({key: value for key, value in network.state_dict().items() if key in plain.state_dict()})
    images = torch.randn(1, 3, 128, 128)
    with torch.inference_mode():
        [found] = read_output(network, network(images), [(90, 120)], EVERYTHING)
        [without] = read_output(plain, plain(images), [(90, 120)], EVERYTHING)
    assert found.mask_scores is not None
    assert without.mask_scores is None
    assert len(found) > 0
    torch.testing.assert_close(found.scores, found.class_scores * found.mask_scores)
    assert torch.equal(found.class_scores, without.class_scores)
    assert torch.equal(found.boxes, without.boxes)
    assert torch.equal(found.masks, without.masks)
