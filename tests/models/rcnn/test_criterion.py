"""The training loss of Mask R-CNN and Mask Scoring R-CNN on small networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from padded_images import SIZES, make_batch, train_output
from protomask.models.rcnn.criterion import RCNNCriterion, project_masks
from protomask.models.rcnn.mask_iou_head import inside_shares, mask_iou_loss, mask_iou_targets
from protomask.models.rcnn.model import MaskRCNN
from protomask.ops.matching import sample_balanced
from protomask.structures.target import Target
from targets import target_of_boxes
from tiny_rcnn import tiny_rcnn

TERMS = ("loss_objectness", "loss_rpn_box", "loss_class", "loss_box", "loss_mask", "loss_mask_iou")


@pytest.fixture(scope="module")
def network() -> MaskRCNN:
    return tiny_rcnn()


Boxes = list[tuple[float, ...]]
ORDINARY: Boxes = [(5.0, 5.0, 40.0, 40.0), (20.0, 10.0, 60.0, 50.0)]
TRUTHS: dict[str, list[tuple[Boxes, tuple[int, ...]]]] = {
    "ordinary": [(ORDINARY, ()), (ORDINARY[:1], ())],
    "nothing": [([], ()), ([], ())],
    "nothing in one": [(ORDINARY, ()), ([], ())],
    "crowds only": [(ORDINARY, (0, 1)), (ORDINARY[:1], (0,))],
    "an object in a crowd": [(ORDINARY, (1,)), ([], ())],
    "one pixel": [([(3.0, 3.0, 4.0, 4.0)], ()), ([(63.0, 63.0, 64.0, 64.0)], ())],
    "no area": [([(3.0, 3.0, 3.0, 9.0)], ()), ([(5.0, 5.0, 4.0, 4.0)], ())],
    "whole image": [([(0.0, 0.0, 85.0, 64.0)], ()), ([(0.0, 0.0, 64.0, 64.0)], ())],
}
NOTHING_TO_LEARN = ("nothing", "crowds only", "no area")


def ordinary_targets() -> list[Target]:
    return [target_of_boxes(ORDINARY, size=size) for size in SIZES]


@pytest.mark.parametrize("without_proposals", [False, True], ids=["", "without proposals"])
@pytest.mark.parametrize("truth", TRUTHS)
def test_the_loss_is_finite_and_teaches(network: MaskRCNN, truth: str, without_proposals: bool) -> None:
    output = train_output(network)
    if without_proposals:
        output = replace(output, proposals=[proposals[:0] for proposals in output.proposals])
    targets = [
        target_of_boxes(boxes, size=size, crowds=crowds)
        for (boxes, crowds), size in zip(TRUTHS[truth], SIZES, strict=True)
    ]
    losses = RCNNCriterion(network)(output, targets)
    assert set(losses) == {*TERMS, "loss_total"}
    assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
    assert losses["loss_total"].item() == pytest.approx(sum(losses[term].item() for term in TERMS), rel=1e-5)
    network.zero_grad()
    losses["loss_total"].backward()
    gradients = {name: one.grad for name, one in network.named_parameters() if one.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert gradients["rpn_head.cls_logits.weight"].any()
    for term in ("loss_rpn_box", "loss_box", "loss_mask"):
        assert (losses[term] > 0) == (truth not in NOTHING_TO_LEARN), term


def test_no_positives_among_the_chosen(network: MaskRCNN) -> None:
    criterion = RCNNCriterion(network)
    criterion.sample = lambda labels, count, share: (labels == 0).nonzero()[:count, 0]
    losses = criterion(train_output(network), ordinary_targets())
    losses["loss_total"].backward()
    assert losses["loss_class"] > 0
    assert all(losses[term] == 0 for term in ("loss_rpn_box", "loss_box", "loss_mask", "loss_mask_iou"))


def test_without_the_head_there_is_no_mask_iou_term() -> None:
    network = tiny_rcnn(mask_iou=False)
    losses = RCNNCriterion(network)(train_output(network), ordinary_targets())
    assert set(losses) == {*TERMS, "loss_total"} - {"loss_mask_iou"}


def test_weights_of_the_terms() -> None:
    networks = [tiny_rcnn(), tiny_rcnn(loss_weight_mask_iou=0.5, loss_weight_class=3.0)]
    first, second = (losses_of_every_proposal(network) for network in networks)
    factors = {"loss_mask_iou": 0.5, "loss_class": 3.0}
    for term in TERMS:
        assert second[term].item() == pytest.approx(factors.get(term, 1.0) * first[term].item(), rel=1e-5), term


def losses_of_every_proposal(network: MaskRCNN) -> dict[str, Tensor]:
    criterion = RCNNCriterion(network)
    criterion.sample = lambda labels, count, share: (labels >= 0).nonzero()[:, 0]
    losses: dict[str, Tensor] = criterion(train_output(network), ordinary_targets())
    return losses


def test_an_anchor_grid_of_a_prediction_serves_training() -> None:
    network = tiny_rcnn()
    with torch.inference_mode():
        network(make_batch(network))
    losses = RCNNCriterion(network)(train_output(network), ordinary_targets())
    losses["loss_total"].backward()


def labels_seen(network: MaskRCNN, target: Target, proposals: Tensor) -> dict[str, Tensor]:
    """What the sampler is asked to choose from: labels of the proposals and of the anchors."""
    seen: dict[str, Tensor] = {}

    def see(labels: Tensor, count: int, share: float) -> Tensor:
        seen["anchors" if count == network.config.rpn_samples else "proposals"] = labels
        return sample_balanced(labels, count, share)

    criterion = RCNNCriterion(network)
    criterion.sample = see
    criterion(replace(train_output(network, SIZES[:1]), proposals=[proposals]), [target])
    return seen


def test_crowds_are_neither_positive_nor_background(network: MaskRCNN) -> None:
    boxes = [(2.0, 2.0, 20.0, 20.0), (40.0, 20.0, 80.0, 60.0)]
    target = target_of_boxes(boxes, size=SIZES[0], crowds=(1,))
    proposals = torch.tensor(
        [
            [2.0, 2.0, 20.0, 22.0],  # the object
            [41.0, 21.0, 79.0, 59.0],  # the crowd, nearly
            [45.0, 25.0, 55.0, 35.0],  # in the crowd
            [30.0, 20.0, 50.0, 60.0],  # half in the crowd
            [0.0, 40.0, 20.0, 60.0],  # background
        ]
    )
    seen = labels_seen(network, target, proposals)
    assert seen["proposals"].tolist() == [1, 1, -1, -1, 0, 0]
    anchors = torch.cat(network(make_batch(network, SIZES[:1])).anchors)
    inside = (anchors[:, :2] >= 40 - 1e-3).all(dim=1) & (anchors[:, 2] <= 80) & (anchors[:, 3] <= 60)
    assert inside.any()
    assert (seen["anchors"][inside] == -1).all()
    without = labels_seen(network, target_of_boxes(boxes[:1], size=SIZES[0]), proposals)
    assert without["proposals"].tolist() == [1, 1, 0, 0, 0, 0]
    assert (without["anchors"][inside] == 0).all()


def test_every_object_has_an_anchor(network: MaskRCNN) -> None:
    target = target_of_boxes([(3.0, 3.0, 4.0, 4.0), (0.0, 0.0, 85.0, 64.0)], size=SIZES[0])
    anchors = torch.cat(network(make_batch(network, SIZES[:1])).anchors)
    labels, matched = RCNNCriterion(network).label_anchors(anchors, target, torch.zeros(0, 4), SIZES[0])
    assert set(matched[labels == 1].tolist()) == {0, 1}
    assert (matched[labels <= 0] < 0).all()


@given(
    st.lists(st.integers(-1, 3), max_size=60),
    st.integers(1, 40),
    st.floats(0, 1),
)
def test_samples_are_balanced(labels: list[int], count: int, share: float) -> None:
    given_labels = torch.tensor(labels, dtype=torch.int64)
    rows = sample_balanced(given_labels, count, share)
    assert rows.tolist() == sorted(set(rows.tolist()))
    drawn = given_labels[rows]
    positive, negative = int((given_labels > 0).sum()), int((given_labels == 0).sum())
    wanted = min(positive, int(count * share))
    assert int((drawn > 0).sum()) == wanted
    assert int((drawn == 0).sum()) == min(negative, count - wanted)
    assert (drawn >= 0).all()


# Targets of the mask heads


def test_masks_are_projected_onto_the_grid_of_their_box() -> None:
    masks = torch.zeros(3, 16, 24, dtype=torch.bool)
    masks[:, 4:12, 4:20] = True
    boxes = torch.tensor([[4.0, 4.0, 20.0, 12.0], [4.0, 4.0, 12.0, 12.0], [0.0, 0.0, 3.0, 3.0]])
    targets, shares = project_masks(masks, boxes, 8)
    assert targets.shape == (3, 8, 8)
    # Up to the outline, where the interpolation sees the background.
    assert (targets[:2, 1:-1, 1:-1] > 0.99).all()
    assert not targets[2].any()
    torch.testing.assert_close(shares, torch.tensor([1.0, 0.5, 1e-10]))


def test_targets_of_nothing() -> None:
    targets, shares = project_masks(torch.zeros(0, 8, 8, dtype=torch.bool), torch.zeros(0, 4), 28)
    assert targets.shape == (0, 28, 28)
    assert shares.shape == (0,)
    estimates = torch.zeros(0, requires_grad=True)
    loss = mask_iou_loss(estimates, mask_iou_targets(targets, targets, shares))
    torch.autograd.backward(loss)
    assert loss == 0
    assert inside_shares(torch.zeros(1, 8, 8, dtype=torch.bool), torch.tensor([[0.0, 0.0, 8.0, 8.0]])).item() > 0


@pytest.mark.parametrize(
    ("predicted", "share", "wanted"),
    [
        (lambda grid: grid[:], 1.0, 1.0),
        (lambda grid: grid[:14], 1.0, 0.5),
        (lambda grid: grid[:], 0.5, 0.5),
        (lambda grid: grid[:0], 1.0, 0.0),
    ],
    ids=["all", "half", "half of the object is outside", "nothing"],
)
def test_mask_iou_counts_what_the_region_does_not_see(
    predicted: Callable[[Tensor], Tensor], share: float, wanted: float
) -> None:
    logits = torch.full((1, 28, 28), -1.0)
    predicted(logits[0]).fill_(1.0)
    got = mask_iou_targets(logits, torch.ones(1, 28, 28), torch.tensor([share]))
    assert got.item() == pytest.approx(wanted)


def test_masks_that_miss_their_object_do_not_teach_the_estimate() -> None:
    estimates = torch.tensor([0.5, 0.9], requires_grad=True)
    loss = mask_iou_loss(estimates, torch.tensor([0.0, 0.7]))
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(0.5 * 0.2**2)
    assert estimates.grad is not None
    assert estimates.grad.tolist() == pytest.approx([0.0, 0.2])


def test_masks_count_as_much_as_their_weights(network: MaskRCNN) -> None:
    criterion = RCNNCriterion(network)
    criterion.sample = lambda labels, count, share: (labels >= 0).nonzero()[:, 0]
    losses = []
    for weight in (1.0, 0.5, 0.0):
        targets = [replace(one, mask_weights=torch.full((len(one),), weight)) for one in ordinary_targets()]
        losses.append(criterion(train_output(network), targets))
    for term in TERMS:
        factors = (0.5, 0.0) if term in ("loss_mask", "loss_mask_iou") else (1.0, 1.0)
        for factor, found in zip(factors, losses[1:], strict=True):
            assert found[term].item() == pytest.approx(factor * losses[0][term].item(), rel=1e-5, abs=1e-9), term
