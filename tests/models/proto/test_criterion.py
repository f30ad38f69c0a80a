from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from protomask.models.proto.criterion import ProtoCriterion
from protomask.models.proto.heads import ProtoOutput
from protomask.structures.target import Target
from targets import empty_target, target_of_boxes
from tiny_proto import SMALL, tiny_config, tiny_network

SIDE = SMALL["image_size"]
TERMS = {"loss_box", "loss_class", "loss_mask", "loss_semantic", "loss_quality"}
YOLACT_PARTS: list[dict[str, Any]] = [
    {},
    {"neck": "fpn", "num_levels": 4},
    {"head": "anchors"},
    {"head": "anchors", "assigner": "static", "box_loss": "smooth_l1"},
    {"branches": "shared"},
    {"output_kernel": 3},
    {"box_bins": 11},
    {"score": "class"},
    {"score": "quality"},
    {"score": "quality", "one_to_one": True},
    {"assigner": "static"},
    {"box_loss": "smooth_l1"},
    {"box_loss": "giou"},
    {"mask_loss": "bce"},
    {"mask_head": "dynamic"},
    {"prototypes": "p3"},
    {"prototype_upsamplings": 2},
    {"prototype_upsamplings": 3},
    {"prototype_upsamplings": 2, "prototype_convolutions": "dense"},
    {"one_to_one": True},
    {"loss_weight_semantic": 0.0, "objects_to_train": 1, "masks_per_object": 1},
]


def some_images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def make_target(boxes: list[tuple[float, ...]], **options: Any) -> Target:
    return target_of_boxes(boxes, size=(SIDE, SIDE), **options)


BOX = (10, 10, 30, 40)
ODD_BATCHES: dict[str, list[Target]] = {
    "objects": [make_target([BOX, (30, 5, 60, 60)]), make_target([BOX])],
    "no objects in one": [make_target([BOX]), empty_target((SIDE, SIDE))],
    "no objects at all": [empty_target((SIDE, SIDE)), empty_target((SIDE, SIDE))],
    "crowds": [make_target([BOX, (30, 5, 60, 60)], crowds=(1,)), make_target([BOX], crowds=(0,))],
    "tiny and whole": [make_target([(31, 31, 32, 32), (0, 0, SIDE, SIDE)]), make_target([(0, 0, 1, SIDE)])],
    "the same twice": [make_target([BOX, BOX]), make_target([BOX, BOX, BOX])],
    "no area": [make_target([(10, 10, 10, 30)]), make_target([BOX])],
}


def loss_and_gradients(output: ProtoOutput, targets: list[Target], **changes: Any) -> tuple[dict[str, Tensor], Any]:
    leaves = {
        name: value.detach().clone().requires_grad_()
        for name, value in output._asdict().items()
        if name != "references" and value is not None
    }
    torch.manual_seed(0)
    losses = ProtoCriterion(tiny_config(**changes))(output._replace(**leaves), targets)
    losses["loss_total"].backward()
    return {name: value.detach() for name, value in losses.items()}, leaves


@pytest.mark.parametrize("name", ODD_BATCHES)
@pytest.mark.parametrize("changes", [{}, {"score": "class", "assigner": "static"}], ids=["modern", "as YOLACT"])
def test_losses_of_odd_batches_are_finite(name: str, changes: dict[str, Any]) -> None:
    output = tiny_network(**changes).train()(some_images())
    losses, leaves = loss_and_gradients(output, ODD_BATCHES[name], **changes)
    terms = TERMS - {"loss_quality"} if changes else TERMS
    assert set(losses) == {*terms, "loss_total"}
    assert all(value.isfinite() and value >= 0 and value.shape == () for value in losses.values())
    assert float(losses["loss_total"]) == pytest.approx(sum(float(losses[term]) for term in terms), rel=1e-5)
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves.values())
    if name == "no objects at all":
        assert losses["loss_box"] == losses["loss_mask"] == 0


@pytest.mark.parametrize("changes", YOLACT_PARTS, ids=str)
def test_every_part_can_be_exchanged_and_learns(changes: dict[str, Any]) -> None:
    network = tiny_network(**changes).train()
    criterion = ProtoCriterion.for_network(network)
    losses = criterion(network(some_images()), ODD_BATCHES["objects"])
    losses["loss_total"].backward()
    # A level on which no object is learned does not learn its own batch norm.
    own_of_level = (".norms.", "semantic") if changes.get("loss_weight_semantic") == 0 else (".norms.",)
    idle = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert [name for name in idle if not any(part in name for part in own_of_level)] == []
    assert ("loss_one_to_one" in losses) == bool(changes.get("one_to_one"))


def perfect_output(target: Target, *, logit: float = 6.0, **changes: Any) -> ProtoOutput:
    """What a network gives that knows one object exactly: its mask is the first prototype."""
    network = tiny_network(**changes)
    with torch.no_grad():
        output: ProtoOutput = network.train()(some_images(1))
    height, width = output.prototypes.shape[1:3]
    mask = torch.nn.functional.interpolate(target.masks[:1][None].float(), (height, width), mode="area")[0, 0]
    prototypes = torch.zeros_like(output.prototypes)
    prototypes[0, ..., 0] = mask * 40 - 20
    parameters = torch.zeros_like(output.mask_parameters)
    parameters[..., 0] = 1.0
    references = output.references
    box = target.boxes[0] / SIDE
    distances = torch.cat((references[:, :2] - box[:2], box[2:] - references[:, :2]), dim=1) / (references[:, 2:3] / 2)
    inside = (distances > 0).all(dim=1)
    logits = torch.full_like(output.class_logits, -9.0)
    background = logits.shape[-1] - 3
    if background:
        logits[..., 0] = 0
    logits[0, inside.nonzero()[0, 0], int(target.labels[0]) + background] = logit
    return output._replace(
        box_values=distances.clamp(min=1e-2).log()[None],
        class_logits=logits,
        mask_parameters=parameters,
        prototypes=prototypes,
        quality_logits=None if output.quality_logits is None else torch.full_like(output.quality_logits, logit),
    )


def test_a_perfect_prediction_costs_little() -> None:
    target = make_target([(8, 8, 40, 40)])
    losses, _ = loss_and_gradients(perfect_output(target), [target], points_per_object=1)
    assert losses["loss_box"] < 0.01
    assert losses["loss_class"] < 0.1
    assert losses["loss_mask"] < 0.1
    other = make_target([(30, 30, 60, 60)])
    worse, _ = loss_and_gradients(perfect_output(target), [other], points_per_object=1)
    assert worse["loss_box"] > 1
    assert worse["loss_mask"] > 1


@pytest.mark.parametrize(("score", "learning"), [("quality", "class_logits"), ("rated", "quality_logits")])
def test_the_score_learns_the_iou_of_the_mask(score: str, learning: str) -> None:
    """The gradient of the output that says how good a mask is points to the IoU that it has."""
    target = make_target([(8, 8, 40, 40)])
    output = perfect_output(target, score=score)
    output.prototypes[0, :, : output.prototypes.shape[2] // 2 - 2, 0] = -20.0  # the left part of the mask is missed
    gradients = []
    for quality in (0.05, 0.25, 0.75, 0.95):
        at = perfect_output(target, logit=float(torch.tensor(quality).logit()), score=score)
        given = output._replace(**{learning: getattr(at, learning)})
        _, leaves = loss_and_gradients(given, [target], points_per_object=1, score=score)
        gradients.append(float(leaves[learning].grad.sum()))
    # 16 of 32 columns are found, so the expected quality is about a half: below it scores must rise, above it fall.
    assert max(gradients[:2]) < 0 < min(gradients[2:])


def losses_by_weights(weights: tuple[float, ...], **changes: Any) -> dict[str, float]:
    output = tiny_network().train()(some_images(1))
    target = make_target([BOX, (30, 5, 60, 60)])
    losses, _ = loss_and_gradients(output, [replace(target, mask_weights=torch.tensor(weights))], **changes)
    return {name: float(value) for name, value in losses.items()}


def test_masks_count_as_much_as_their_weights() -> None:
    first, second, both, less = (
        losses_by_weights(weights) for weights in ((1.0, 0.001), (0.001, 1.0), (1.0, 1.0), (0.001, 0.5))
    )
    for losses in (first, second, less):
        assert all(losses[term] == both[term] for term in TERMS - {"loss_mask"})
    assert first["loss_mask"] + second["loss_mask"] == pytest.approx(1.001 * both["loss_mask"], rel=1e-4)
    assert 2 * less["loss_mask"] == pytest.approx(second["loss_mask"] + 0.001 * first["loss_mask"], rel=1e-4)


def test_masks_of_weight_zero_learn_from_their_boxes() -> None:
    masks, boxes, nothing = (
        losses_by_weights(weights, box_supervision=share)["loss_mask"]
        for weights, share in (((1.0, 1.0), 1.0), ((0.0, 0.0), 1.0), ((0.0, 0.0), 0.0))
    )
    assert nothing == 0 < boxes
    assert boxes != pytest.approx(masks, rel=0.01)
    # One half of the masks counts for each kind of truth.
    mixed = losses_by_weights((1.0, 0.0))["loss_mask"]
    assert losses_by_weights((1.0, 0.0), box_supervision=0.0)["loss_mask"] < mixed < masks + boxes


def test_only_the_box_counts_of_a_mask_of_weight_zero() -> None:
    """Whatever the mask says inside the box, the losses are the same."""
    target = make_target([(8, 8, 40, 40)])
    hollow = target.masks.clone()
    hollow[:, 16:32, 16:32] = False
    output = tiny_network().train()(some_images(1))
    first, second = (
        loss_and_gradients(output, [replace(target, masks=masks, mask_weights=torch.zeros(1))])[0]
        for masks in (target.masks, hollow)
    )
    semantic = {"loss_semantic", "loss_total"}  # of which it takes what may be the object
    assert {name: float(value) for name, value in first.items() if name not in semantic} == {
        name: float(value) for name, value in second.items() if name not in semantic
    }
    sure, _ = loss_and_gradients(output, [target])
    assert float(first["loss_semantic"]) < float(sure["loss_semantic"])
