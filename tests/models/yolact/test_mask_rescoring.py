from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from networks import build_yolact
from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError
from protomask.models.build import build_criterion
from protomask.models.families import read_output
from protomask.models.yolact import detect as detection
from protomask.models.yolact.config import RESCORING_CHANNELS
from protomask.models.yolact.mask_rescoring import MaskRescoring
from protomask.models.yolact.model import Yolact
from targets import empty_target, target_of_boxes

SIDE = 128
SMALL: dict[str, Any] = {
    "num_classes": 3, "image_size": SIDE, "backbone": "resnet18", "backbone_levels": ("C2", "C3", "C4"),
    "fpn_channels": 16, "protonet_channels": 8, "rescoring_channels": (4, 8),
}  # fmt: skip
EVERYTHING = PredictOptions(score_threshold=0, candidate_threshold=0)


@pytest.fixture(scope="module")
def network() -> Yolact:
    torch.manual_seed(0)
    return build_yolact(**SMALL)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def always_estimating(iou: float) -> Yolact:
    torch.manual_seed(0)
    network = build_yolact(**SMALL)
    torch.nn.init.zeros_(network.get_parameter("rescoring.classify.weight"))
    torch.nn.init.constant_(network.get_parameter("rescoring.classify.bias"), iou)
    return network


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
        build_yolact(image_size=64, protonet_upsamplings=1, rescoring_channels=RESCORING_CHANNELS)
    with torch.device("meta"):
        build_yolact(rescoring_channels=RESCORING_CHANNELS)


def test_loss_is_the_distance_from_the_measured_iou(images: Tensor) -> None:
    network = always_estimating(3.0).train()
    output = network(images)
    with torch.no_grad():  # masks everywhere: the IoU is the share of the padded box that the object fills
        output.mask_coefficients.fill_(1.0)
        output.prototypes.fill_(1.0)
    object_of_60 = target_of_boxes([(30, 20, 90, 80)], size=(SIDE, SIDE))
    losses = build_criterion(network)(output, [object_of_60, object_of_60])
    # 64 prototype pixels for 128: the object is 30 x 30 of them, its crop 32 x 32. Smooth L1 beyond 1 is linear.
    expected = 25.0 * (3.0 - 30**2 / 32**2 - 0.5)
    assert losses["loss_rescoring"].item() == pytest.approx(expected, rel=1e-5)
    terms = [value for name, value in losses.items() if name != "loss_total"]
    assert losses["loss_total"].item() == pytest.approx(sum(term.item() for term in terms), rel=1e-5)


def test_small_masks_and_empty_images_have_no_rescoring_loss_but_a_gradient_path(
    network: Yolact, images: Tensor
) -> None:
    targets = [target_of_boxes([(30, 20, 38, 28)], size=(SIDE, SIDE)), empty_target((SIDE, SIDE))]
    losses = build_criterion(network)(network.train()(images), targets)
    assert losses["loss_rescoring"].item() == 0
    losses["loss_rescoring"].backward(retain_graph=True)
    losses["loss_total"].backward()
    network.zero_grad()


def test_results_carry_class_and_mask_scores(network: Yolact, images: Tensor) -> None:
    network.eval()
    plain = build_yolact(**{**SMALL, "rescoring_channels": ()}).eval()
    plain.load_state_dict({key: value for key, value in network.state_dict().items() if key in plain.state_dict()})
    with torch.inference_mode():
        output = network(images[:1])
        [found] = read_output(network, output, [(90, 120)], EVERYTHING)
        [without] = read_output(plain, plain(images[:1]), [(90, 120)], EVERYTHING)
    assert found.mask_scores is not None
    assert without.mask_scores is None
    assert len(found) > 0
    np.testing.assert_array_equal(found.scores, found.class_scores * found.mask_scores)
    assert (np.diff(found.scores) <= 0).all()
    by_class_score = found[np.argsort(-found.class_scores, kind="stable")]
    np.testing.assert_array_equal(by_class_score.class_scores, without.class_scores)
    np.testing.assert_array_equal(by_class_score.boxes, without.boxes)
    np.testing.assert_array_equal(by_class_score.masks, without.masks)


def test_the_threshold_asks_for_the_final_score(network: Yolact, images: Tensor) -> None:
    network.eval()
    with torch.inference_mode():
        output = network(images[:1])
        [everything] = read_output(network, output, [(90, 120)], EVERYTHING)
        middle = float(np.median(everything.scores))
        [above] = read_output(network, output, [(90, 120)], EVERYTHING.replace(score_threshold=middle))
    wanted = everything[everything.scores > middle]
    assert 0 < len(above) < len(everything)
    np.testing.assert_array_equal(above.scores, wanted.scores)
    np.testing.assert_array_equal(above.boxes, wanted.boxes)


def test_estimates_beyond_the_range_of_an_iou_are_limited(images: Tensor) -> None:
    network = always_estimating(3.0).eval()
    with torch.inference_mode():
        output = network(images[:1])
        [rows] = detection.detect(network, output, EVERYTHING)
        [found] = read_output(network, output, [(90, 120)], EVERYTHING)
    assert rows.mask_scores is not None
    assert (rows.mask_scores == 3).all()
    assert found.mask_scores is not None
    assert (found.mask_scores == 1).all()
