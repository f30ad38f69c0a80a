from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from padded_images import SIZES, train_output
from protomask.models.fcis.criterion import FCISCriterion
from protomask.models.fcis.targets import label_anchors, pixel_boxes, project_masks
from protomask.structures.target import Target
from targets import target_of_boxes
from tiny_fcis import tiny_fcis

TERMS = ("loss_objectness", "loss_rpn_box", "loss_class", "loss_box", "loss_mask")


def nothing(size: tuple[int, int]) -> Target:
    return target_of_boxes([], size=size)


def some() -> list[Target]:
    return [
        target_of_boxes([(8, 8, 40, 40), (30, 5, 80, 60)], size=SIZES[0]),
        target_of_boxes([(20, 20, 50, 44)], size=SIZES[1]),
    ]


def losses_of(targets: list[Target], label_smoothing: float = 0.0) -> dict[str, Any]:
    torch.manual_seed(1)
    network = tiny_fcis()
    losses: dict[str, Any] = FCISCriterion(network, label_smoothing=label_smoothing)(train_output(network), targets)
    losses["loss_total"].backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())
    return losses


def test_terms_and_their_sum() -> None:
    losses = losses_of(some())
    assert set(losses) == {*TERMS, "loss_total"}
    assert all(float(losses[name]) > 0 for name in TERMS)
    assert float(losses["loss_total"]) == pytest.approx(sum(float(losses[name]) for name in TERMS), rel=1e-5)
    assert float(losses_of(some(), 0.2)["loss_class"]) != pytest.approx(float(losses["loss_class"]))


def test_images_without_objects_teach_only_the_background() -> None:
    losses = losses_of([nothing(size) for size in SIZES])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert [float(losses[name]) for name in ("loss_rpn_box", "loss_box", "loss_mask")] == [0, 0, 0]
    assert float(losses["loss_class"]) > 0


def test_images_without_proposals_and_objects() -> None:
    network = tiny_fcis()
    output = train_output(network)
    for boxes in output.proposals:
        boxes.resize_(0, 4)
    losses = FCISCriterion(network)(output, [nothing(size) for size in SIZES])
    losses["loss_total"].backward()
    assert float(losses["loss_class"]) == 0
    assert float(losses["loss_objectness"]) > 0


def test_the_hardest_regions_alone_train() -> None:
    network = tiny_fcis(hard_regions=3)
    few = FCISCriterion(network)(train_output(network), some())
    network = tiny_fcis(hard_regions=20)
    many = FCISCriterion(network)(train_output(network), some())
    assert float(few["loss_class"]) > float(many["loss_class"])


def test_crowds_are_no_background() -> None:
    network = tiny_fcis()
    output = train_output(network)
    crowd = target_of_boxes([(0, 0, 85, 64)], size=SIZES[0])
    crowd = Target(boxes=crowd.boxes, labels=crowd.labels, masks=crowd.masks, is_crowd=torch.tensor([True]),
                   image_size=SIZES[0])  # fmt: skip
    losses = FCISCriterion(network)(output, [crowd, nothing(SIZES[1])])
    plain = FCISCriterion(network)(output, [nothing(SIZES[0]), nothing(SIZES[1])])
    assert float(losses["loss_class"]) == pytest.approx(float(plain["loss_class"]) / 2, rel=0.5)
    assert float(losses["loss_class"]) != pytest.approx(float(plain["loss_class"]), rel=1e-3)


def test_an_object_that_no_anchor_touches_makes_none_positive() -> None:
    anchors = torch.tensor([[0.0, 0.0, 15.0, 15.0], [16.0, 0.0, 31.0, 15.0], [40.0, 0.0, 80.0, 15.0]])
    objects = torch.tensor([[50.0, 50.0, 60.0, 60.0]])
    labels, _ = label_anchors(anchors, objects, (64, 64), positive_iou=0.7, negative_iou=0.3)
    assert labels.tolist() == [0, 0, -1]  # the last one sticks out


def test_the_best_anchor_of_an_object_is_positive() -> None:
    anchors = torch.tensor([[0.0, 0.0, 15.0, 15.0], [16.0, 0.0, 31.0, 15.0]])
    labels, owners = label_anchors(
        anchors, torch.tensor([[20.0, 0.0, 22.0, 3.0]]), (64, 64), positive_iou=0.7, negative_iou=0.3
    )
    assert labels.tolist() == [0, 1]
    assert owners.tolist() == [0, 0]


def test_boxes_become_pixels() -> None:
    boxes = torch.tensor([[10.0, 5.0, 20.0, 15.0], [0.5, 1.5, 0.6, 9.4]])
    assert pixel_boxes(boxes).tolist() == [[10, 5, 19, 14], [0, 2, 0, 8]]


def test_mask_targets_end_at_the_box_of_the_object() -> None:
    masks = torch.ones(1, 42, 84, dtype=torch.bool)
    objects = torch.tensor([[0.0, 0.0, 41.0, 41.0]])
    [target] = project_masks(masks, objects, torch.tensor([[0.0, 0.0, 83.0, 41.0]]))
    assert target[:, :10].all()
    assert not target[:, 12:].any()
    assert project_masks(masks[:0], objects[:0], objects[:0]).shape == (0, 21, 21)


def test_masks_count_as_much_as_their_weights() -> None:
    network = tiny_fcis(hard_regions=10_000)
    criterion, output = FCISCriterion(network), train_output(network)
    whole, half, none = (
        criterion(output, [replace(one, mask_weights=torch.full((len(one),), weight)) for one in some()])
        for weight in (1.0, 0.5, 0.0)
    )
    assert 2 * float(half["loss_mask"]) == pytest.approx(float(whole["loss_mask"]), rel=1e-5)
    assert none["loss_mask"] == 0
    assert all(float(half[name]) == float(whole[name]) for name in TERMS if name != "loss_mask")
