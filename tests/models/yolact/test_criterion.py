from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from protomask.models.yolact.config import YolactConfig
from protomask.models.yolact.criterion import YolactCriterion
from protomask.models.yolact.heads import YolactOutput
from protomask.models.yolact.model import Yolact
from protomask.ops.matching import BACKGROUND
from protomask.structures.target import Target
from targets import empty_target, target_of_boxes

SIDE = 64
CONFIG = YolactConfig(
    name="test", num_classes=3, image_size=SIDE, backbone="resnet18", backbone_levels=("C3", "C4"), fpn_channels=16,
    num_levels=3, protonet_channels=8, num_prototypes=4, anchor_scales=((12.0,), (24.0,), (48.0,)),
    square_anchors=False,
)  # fmt: skip
TERMS = ("loss_box", "loss_class", "loss_mask", "loss_semantic")


def make_target(
    boxes: list[tuple[float, ...]], *, crowds: tuple[int, ...] = (), size: tuple[int, int] = (SIDE, SIDE)
) -> Target:
    return target_of_boxes(boxes, crowds=crowds, size=size)


@pytest.fixture(scope="module")
def network() -> Yolact:
    torch.manual_seed(0)
    return Yolact(CONFIG, ("a", "b", "c")).train()


@pytest.fixture(scope="module")
def output(network: Yolact) -> YolactOutput:
    with torch.no_grad():
        output: YolactOutput = network(torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)))
    return output


def score(
    output: YolactOutput, targets: list[Target], config: YolactConfig = CONFIG
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses, and the gradient of their total for every output."""
    images = len(targets)
    leaves = {
        name: value[:images].detach().clone().requires_grad_()
        for name, value in output._asdict().items()
        if name != "anchors" and value is not None
    }
    losses = YolactCriterion(config)(
        YolactOutput(anchors=output.anchors, **{"semantic_logits": None} | leaves), targets
    )
    losses["loss_total"].backward()
    losses = {name: value.detach() for name, value in losses.items()}
    return losses, {name: torch.zeros(1) if leaf.grad is None else leaf.grad for name, leaf in leaves.items()}


def check_finite(losses: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
    assert set(losses) == {*TERMS, "loss_total"}
    for name, value in losses.items():
        assert value.shape == (), name
        assert value.dtype == torch.float32, name
        assert bool(value.isfinite()), name
        assert value.item() >= 0, name
    assert losses["loss_total"].item() == pytest.approx(sum(losses[term].item() for term in TERMS), rel=1e-5)
    for name, gradient in gradients.items():
        assert bool(gradient.isfinite().all()), name


BOX = (10, 10, 30, 40)
NAN = float("nan")
ODD_BATCHES: dict[str, list[Target]] = {
    "objects": [make_target([BOX, (30, 5, 60, 60)]), make_target([BOX])],
    "no objects in one": [make_target([BOX]), empty_target((SIDE, SIDE))],
    "no objects at all": [empty_target((SIDE, SIDE)), empty_target((SIDE, SIDE))],
    "only crowds": [make_target([BOX], crowds=(0,)), make_target([BOX, (0, 0, 64, 64)], crowds=(0, 1))],
    "crowd before object": [make_target([(0, 0, 64, 64), BOX], crowds=(0,)), make_target([BOX])],
    "empty boxes": [make_target([(10, 10, 10, 40), (5, 5, 5, 5), (30, 30, 20, 20)]), make_target([BOX])],
    "hair-thin box": [make_target([(10, 10, 10.00001, 40), BOX]), make_target([(60, 60, 60.000004, 60.000004)])],
    "thin box": [make_target([(10, 10, 10.1, 40)]), make_target([BOX])],
    "endless boxes": [make_target([(0, 0, float("inf"), 9), (NAN, 0, 9, 9), BOX]), make_target([BOX])],
    "endless crowd": [make_target([(NAN, NAN, NAN, NAN), BOX], crowds=(0,)), make_target([BOX])],
    "outside": [make_target([(100, 100, 130, 130), (-50, -50, -20, -20)]), make_target([(60, -30, 90, 200)])],
    "covering everything": [make_target([(0, 0, 64, 64)] * 3), make_target([(-10, -10, 99, 99)])],
    "one pixel": [make_target([(7, 7, 8, 8), (0, 0, 1, 1), (63, 63, 64, 64)]), make_target([(20, 30, 21, 31)])],
    "many on one spot": [make_target([BOX] * 40), make_target([BOX])],
    "more than anchors": [
        make_target([(i % 60, i // 60, i % 60 + 4, i // 60 + 4) for i in range(400)]),
        make_target([]),
    ],
    "batch of one": [make_target([BOX])],
    "frames of other sizes": [make_target([BOX], size=(50, 90)), make_target([(100, 50, 400, 300)], size=(480, 640))],
}


@pytest.mark.parametrize("targets", ODD_BATCHES.values(), ids=ODD_BATCHES)
def test_loss_and_gradients_are_finite(output: YolactOutput, targets: list[Target]) -> None:
    check_finite(*score(output, targets))


@pytest.mark.parametrize("logit", [200.0, -200.0, 3e4])
def test_certain_outputs_stay_finite(output: YolactOutput, logit: float) -> None:
    extreme = output._replace(
        class_logits=output.class_logits.sign() * logit, prototypes=output.prototypes.sign() * abs(logit)
    )
    check_finite(*score(extreme, ODD_BATCHES["objects"]))


def test_nothing_to_learn_leaves_only_the_semantic_term(output: YolactOutput) -> None:
    losses, gradients = score(output, ODD_BATCHES["no objects at all"])
    assert [float(losses[term]) for term in TERMS[:3]] == [0, 0, 0]
    assert float(losses["loss_semantic"]) > 0
    assert float(gradients["class_logits"].abs().max()) == 0


def test_objects_without_area_are_as_if_not_there(output: YolactOutput) -> None:
    with_them, _ = score(output, [make_target([BOX, BOX, (20, 20, 20, 30)])[[0, 2]]])
    without, _ = score(output, [make_target([BOX])])
    assert {name: float(value) for name, value in with_them.items()} == {
        name: float(value) for name, value in without.items()
    }


def test_the_frame_of_the_target_does_not_matter(output: YolactOutput) -> None:
    small, _ = score(output, [make_target([(8, 16, 40, 48)])])
    large, _ = score(output, [make_target([(16, 32, 80, 96)], size=(128, 128))])
    for name in small:
        assert float(large[name]) == pytest.approx(float(small[name]), rel=1e-4), name


def test_more_positives_than_masks_to_train(output: YolactOutput) -> None:
    # Equal objects have equal mask losses when all anchors predict alike: the subset, scaled up, must give the whole.
    alike = output._replace(mask_coefficients=torch.full_like(output.mask_coefficients, 0.3))
    targets, lenient = [make_target([BOX])], CONFIG.override(positive_iou=0.3, negative_iou=0.2)
    criterion = YolactCriterion(lenient)
    _, labels = criterion.match(output.anchors, targets[0], targets[0])
    assert int((labels > BACKGROUND).sum()) > 2
    whole, _ = score(alike, targets, lenient)
    part, gradients = score(alike, targets, lenient.override(masks_to_train=2))
    assert float(part["loss_mask"]) == pytest.approx(float(whole["loss_mask"]), rel=1e-4)
    assert int(gradients["mask_coefficients"].abs().sum(dim=-1).gt(0).sum()) == 2


def test_weights_scale_their_terms(output: YolactOutput) -> None:
    targets = ODD_BATCHES["objects"]
    plain, _ = score(output, targets)
    for term in TERMS:
        field = term.replace("loss_", "loss_weight_")
        doubled, _ = score(output, targets, CONFIG.override(**{field: 2 * getattr(CONFIG, field)}))
        assert float(doubled[term]) == pytest.approx(2 * float(plain[term]), rel=1e-5)


def test_without_semantic_output_its_term_is_zero(output: YolactOutput) -> None:
    losses, _ = score(output._replace(semantic_logits=None), ODD_BATCHES["objects"])
    assert float(losses["loss_semantic"]) == 0
    assert bool(losses["loss_total"].isfinite())


@pytest.mark.parametrize("inside", [True, False], ids=["criterion inside autocast", "criterion outside"])
def test_mixed_precision(network: Yolact, inside: bool) -> None:
    images, targets = torch.randn(2, 3, SIDE, SIDE), ODD_BATCHES["objects"]
    criterion = YolactCriterion(CONFIG)
    network.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(images)
        losses = criterion(output, targets) if inside else {}
    if not inside:
        losses = criterion(output, targets)
    assert output.class_logits.dtype == torch.bfloat16
    losses["loss_total"].backward()
    check_finite(losses, {name: p.grad for name, p in network.named_parameters() if p.grad is not None})
    network.zero_grad()


def test_training_works_after_predicting_in_inference_mode() -> None:
    network = Yolact(CONFIG, ("a", "b", "c"))
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, SIDE, SIDE))
    output = network.train()(torch.zeros(2, 3, SIDE, SIDE))
    assert not output.anchors.is_inference()
    check_finite(YolactCriterion(CONFIG)(output, ODD_BATCHES["objects"]), {})


def nano_like(**changes: Any) -> YolactConfig:
    return CONFIG.override(
        norm="batch", protonet_detail=True, backbone_levels=("C2", "C3", "C4"), protonet_upsamplings=2, **changes
    )


@pytest.mark.parametrize("image_size", [64, 90, 125])
def test_a_finer_level_fits_the_protonet_at_any_image_size(image_size: int) -> None:
    network = Yolact(nano_like(image_size=image_size), ("a", "b", "c")).train()
    output = network(torch.randn(2, 3, image_size, image_size))
    check_finite(YolactCriterion(network.config)(output, ODD_BATCHES["objects"]), {})


def test_a_tiny_network_learns_one_image() -> None:
    torch.manual_seed(0)
    network = Yolact(nano_like(), ("a", "b", "c")).train()
    criterion = YolactCriterion(network.config)
    targets = [make_target([BOX, (34, 20, 58, 60)])] * 2
    images = targets[0].masks.float().sum(dim=0).expand(2, 3, SIDE, SIDE).contiguous() - 0.5
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    history = []
    for _ in range(30):
        losses = criterion(network(images), targets)
        optimizer.zero_grad()
        losses["loss_total"].backward()
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    assert history[-1]["loss_total"] < 0.6 * history[0]["loss_total"]
    for term in TERMS:
        assert history[-1][term] < history[0][term], term


def test_masks_count_as_much_as_their_weights(output: YolactOutput) -> None:
    target = make_target([BOX, (30, 5, 60, 60)])
    whole, _ = score(output, [target])
    parts = []
    for weights in ((1.0, 0.0), (0.0, 0.5), (0.0, 0.0)):
        losses, _ = score(output, [replace(target, mask_weights=torch.tensor(weights))])
        assert all(float(losses[term]) == float(whole[term]) for term in TERMS if term != "loss_mask")
        parts.append(float(losses["loss_mask"]))
    assert parts[0] + 2 * parts[1] == pytest.approx(float(whole["loss_mask"]), rel=1e-5)
    assert min(parts[:2]) > parts[2] == 0
