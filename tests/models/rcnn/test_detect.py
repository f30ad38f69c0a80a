"""Mask R-CNN and its criterion on small networks: shapes, scores, and everything that can be empty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.test_criterion import make_target
from protomask.errors import ConfigError
from protomask.models.config import NMS_MODES
from protomask.models.rcnn.config import RCNNConfig
from protomask.models.rcnn.criterion import RCNNCriterion, project_masks, sample_balanced
from protomask.models.rcnn.mask_iou_head import inside_shares, mask_iou_loss, mask_iou_targets
from protomask.models.rcnn.model import MaskRCNN, RCNNOutput
from protomask.models.rcnn.proposals import select_proposals
from protomask.ops.geometry import PaddedImages
from protomask.structures.target import Target

CONFIG = RCNNConfig(
    name="test", num_classes=3, image_size=64, max_image_size=128, backbone="resnet18", fpn_channels=16,
    head_channels=16, mask_iou=True, anchor_sizes=(8.0, 16.0, 32.0, 64.0, 128.0), rpn_candidates=100,
    training_rpn_candidates=100, max_proposals=50, training_max_proposals=50,
)  # fmt: skip
TERMS = ("loss_objectness", "loss_rpn_box", "loss_class", "loss_box", "loss_mask", "loss_mask_iou")
SIZES = ((64, 85), (64, 64))


def make_network(**changes: Any) -> MaskRCNN:
    torch.manual_seed(0)
    return MaskRCNN(CONFIG.override(**changes), ("a", "b", "c")).eval()


def some_picture(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def make_batch(network: MaskRCNN, sizes: tuple[tuple[int, int], ...] = SIZES) -> PaddedImages:
    return network.geometry.batch([network.geometry.preprocess(some_picture(*size)) for size in sizes])


@pytest.fixture(scope="module")
def network() -> MaskRCNN:
    return make_network()


@pytest.fixture(scope="module")
def output(network: MaskRCNN) -> RCNNOutput:
    with torch.inference_mode():
        return network(make_batch(network))


# Prediction


def test_shapes_are_as_described(network: MaskRCNN, output: RCNNOutput) -> None:
    assert output.image_sizes == SIZES
    assert [tuple(level.shape) for level in output.features] == [
        (2, 16, *size) for size in ((16, 24), (8, 12), (4, 6), (2, 3), (1, 2))
    ]
    for level, feature in enumerate(output.features):
        count = 3 * feature.shape[-2] * feature.shape[-1]
        assert output.anchors[level].shape == (count, 4)
        assert output.objectness_logits[level].shape == (2, count)
        assert output.rpn_box_deltas[level].shape == (2, count, 4)
    for proposals, logits, deltas, (height, width) in zip(
        output.proposals, output.class_logits, output.box_deltas, SIZES, strict=True
    ):
        assert 0 < len(proposals) <= 50
        assert logits.shape == (len(proposals), 4)
        assert deltas.shape == (len(proposals), 4, 4)
        assert (proposals >= 0).all()
        assert (proposals <= torch.tensor([width, height, width, height])).all()


def test_detections_are_in_the_original_frame_and_sorted(network: MaskRCNN, output: RCNNOutput) -> None:
    originals = ((640, 850), (32, 32))
    for found, (height, width) in zip(network.postprocess(output, originals), originals, strict=True):
        assert 0 < len(found) <= network.config.max_detections
        assert found.image_size == (height, width)
        assert found.masks.shape == (len(found), height, width)
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([width, height, width, height])).all()
        assert (found.class_scores > network.config.candidate_threshold).all()
        assert (found.class_scores.diff() <= 0).all()
    (first, _) = network.postprocess(output, SIZES)
    (enlarged, _) = network.postprocess(output, [(128, 170), SIZES[1]])
    torch.testing.assert_close(enlarged.boxes, 2 * first.boxes)


def test_the_score_is_the_product_with_the_mask_score(network: MaskRCNN, output: RCNNOutput) -> None:
    for found in network.postprocess(output, SIZES):
        assert found.mask_scores is not None
        assert torch.equal(found.scores, found.class_scores * found.mask_scores)
    plain = make_network(mask_iou=False)
    plain.load_state_dict({key: value for key, value in network.state_dict().items() if "mask_iou" not in key})
    with torch.inference_mode():
        for found, other in zip(
            network.postprocess(output, SIZES), plain.postprocess(plain(make_batch(plain)), SIZES), strict=True
        ):
            assert other.mask_scores is None
            assert torch.equal(other.scores, found.class_scores)
            assert torch.equal(other.masks, found.masks)


@pytest.mark.parametrize("nms", NMS_MODES)
def test_score_threshold_asks_for_the_class_score(network: MaskRCNN, output: RCNNOutput, nms: str) -> None:
    everything = network.postprocess(output, SIZES, nms=nms)[0]
    middle = float(everything.class_scores.median())
    above = network.postprocess(output, SIZES, nms=nms, score_threshold=middle)[0]
    same = everything[everything.class_scores > middle]
    assert 0 < len(above) < len(everything)
    assert torch.equal(above.class_scores, same.class_scores)
    assert torch.equal(above.labels, same.labels)
    torch.testing.assert_close(above.boxes, same.boxes)


@pytest.mark.parametrize("nms", NMS_MODES)
def test_every_nms_mode_works(network: MaskRCNN, output: RCNNOutput, nms: str) -> None:
    for found in network.postprocess(output, SIZES, nms=nms, max_detections=5):
        assert len(found) == 5
        assert (found.class_scores.diff() <= 0).all()


@pytest.mark.parametrize("nms", NMS_MODES)
@pytest.mark.parametrize("mask_iou", [True, False])
def test_images_without_detections(network: MaskRCNN, output: RCNNOutput, nms: str, mask_iou: bool) -> None:
    tested = network if mask_iou else make_network(mask_iou=False)
    for found in tested.postprocess(output, SIZES, candidate_threshold=1.0, nms=nms):
        assert len(found) == 0
        assert found.boxes.shape == (0, 4)
        assert found.masks.shape == (0, *found.image_size)
        assert found.rle() == []
        assert found.scores.shape == (0,)
        assert (found.mask_scores is None) is not mask_iou


def test_an_image_without_proposals_beside_another(network: MaskRCNN, output: RCNNOutput) -> None:
    changed = replace(
        output,
        proposals=[output.proposals[0][:0], output.proposals[1]],
        class_logits=(output.class_logits[0][:0], output.class_logits[1]),
        box_deltas=(output.box_deltas[0][:0], output.box_deltas[1]),
    )
    none, some = network.postprocess(changed, SIZES)
    assert len(none) == 0
    wanted = network.postprocess(output, SIZES)[1]
    torch.testing.assert_close(some.scores, wanted.scores)
    assert torch.equal(some.masks, wanted.masks)


def test_images_without_proposals(network: MaskRCNN, output: RCNNOutput) -> None:
    logits, deltas = network.classify(output.features, [torch.zeros(0, 4)] * 2)
    assert logits.shape == (0, 4)
    assert deltas.shape == (0, 4, 4)
    nothing = replace(
        output, proposals=[torch.zeros(0, 4)] * 2, class_logits=(logits, logits), box_deltas=(deltas, deltas)
    )
    assert [len(found) for found in network.postprocess(nothing, SIZES)] == [0, 0]


# Only for images of one size: beyond the edge of a smaller image the first layers see the same zeros in a batch, but
# their biases fill the padding, and the layers behind see that.
def test_a_batch_finds_what_single_images_find(network: MaskRCNN) -> None:
    pictures = [some_picture(64, 80), some_picture(64, 80).flip(1)]
    prepared = [network.geometry.preprocess(picture) for picture in pictures]
    with torch.inference_mode():
        together = network.postprocess(network(network.geometry.batch(prepared)), [(64, 80)] * 2)
        for image, found in zip(prepared, together, strict=True):
            (alone,) = network.postprocess(network(network.geometry.batch([image])), [(64, 80)])
            torch.testing.assert_close(found.boxes, alone.boxes, rtol=0, atol=1e-3)
            torch.testing.assert_close(found.scores, alone.scores, rtol=0, atol=1e-5)
            assert torch.equal(found.labels, alone.labels)
            assert (found.masks != alone.masks).float().mean() < 1e-3


@pytest.mark.parametrize("sizes", [((40, 300), (300, 40)), ((1, 1),), ((1, 500), (64, 64))])
def test_images_of_very_different_shapes(network: MaskRCNN, sizes: tuple[tuple[int, int], ...]) -> None:
    batch = make_batch(network, sizes)
    with torch.inference_mode():
        for found, size in zip(network.postprocess(network(batch), sizes), sizes, strict=True):
            assert found.image_size == size
            assert found.masks.shape[1:] == size
            assert found.boxes.isfinite().all()
            assert (found.boxes[:, 2:] <= torch.tensor([size[1], size[0]])).all()
    losses = RCNNCriterion(network)(
        train_output(network, sizes), [make_target([(0, 0, 3, 3)], size=size) for size in batch.sizes]
    )
    assert losses["loss_total"].isfinite()


def test_a_network_that_diverged_proposes_only_finite_boxes() -> None:
    anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0]]).repeat(4, 1)
    logits = torch.tensor([float("nan"), float("inf"), 1.0, 0.0])
    deltas = torch.zeros(4, 4)
    deltas[2] = float("nan")
    deltas[3, 2] = 1e30
    boxes, scores = select_proposals([logits], [deltas], [anchors], (16, 16), CONFIG, training=True)
    assert len(boxes) > 0
    assert boxes.isfinite().all()
    assert scores.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 1.5}, "score_threshold: expected a number from 0 to 1, got 1.5"),
        ({"iou_threshold": -0.1}, "iou_threshold: expected"),
        ({"nms": "best"}, "nms: expected one of"),
        ({"max_detections": 0}, "max_detections: expected"),
    ],
)
def test_wrong_options_are_told(network: MaskRCNN, output: RCNNOutput, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        network.postprocess(output, SIZES, **options)


def test_output_in_training_mode_is_not_read(network: MaskRCNN) -> None:
    with pytest.raises(ConfigError, match="output: expected that of a network in evaluation mode"):
        network.postprocess(train_output(network), SIZES)


def test_class_names_must_fit() -> None:
    with pytest.raises(ConfigError, match=r"class_names: expected 3 names \(num_classes\), got 2"):
        MaskRCNN(CONFIG, ("a", "b"))


# Training


def train_output(network: MaskRCNN, sizes: tuple[tuple[int, int], ...] = SIZES) -> RCNNOutput:
    """In training mode, with batch norm as it is."""
    network.training = True
    try:
        return network(make_batch(network, sizes))
    finally:
        network.training = False


ORDINARY = [(5.0, 5.0, 40.0, 40.0), (20.0, 10.0, 60.0, 50.0)]
TRUTHS: dict[str, list[tuple[list[tuple[float, ...]], tuple[int, ...]]]] = {
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


@pytest.mark.parametrize("without_proposals", [False, True], ids=["", "without proposals"])
@pytest.mark.parametrize("truth", TRUTHS)
def test_the_loss_is_finite_and_teaches(network: MaskRCNN, truth: str, without_proposals: bool) -> None:
    output = train_output(network)
    if without_proposals:
        output = replace(output, proposals=[proposals[:0] for proposals in output.proposals])
    targets = [
        make_target(boxes, size=size, crowds=crowds) for (boxes, crowds), size in zip(TRUTHS[truth], SIZES, strict=True)
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
    losses = criterion(train_output(network), [make_target(ORDINARY, size=size) for size in SIZES])
    losses["loss_total"].backward()
    assert losses["loss_class"] > 0
    assert all(losses[term] == 0 for term in ("loss_rpn_box", "loss_box", "loss_mask", "loss_mask_iou"))


def test_without_the_head_there_is_no_mask_iou_term() -> None:
    network = make_network(mask_iou=False)
    losses = RCNNCriterion(network)(train_output(network), [make_target(ORDINARY, size=size) for size in SIZES])
    assert set(losses) == {*TERMS, "loss_total"} - {"loss_mask_iou"}


def test_weights_of_the_terms() -> None:
    networks = [make_network(), make_network(loss_weight_mask_iou=0.5, loss_weight_class=3.0)]
    first, second = (losses_of_every_proposal(network) for network in networks)
    factors = {"loss_mask_iou": 0.5, "loss_class": 3.0}
    for term in TERMS:
        assert second[term].item() == pytest.approx(factors.get(term, 1.0) * first[term].item(), rel=1e-5), term


def losses_of_every_proposal(network: MaskRCNN) -> dict[str, Tensor]:
    criterion = RCNNCriterion(network)
    criterion.sample = lambda labels, count, share: (labels >= 0).nonzero()[:, 0]
    return criterion(train_output(network), [make_target(ORDINARY, size=size) for size in SIZES])


def test_an_anchor_grid_of_a_prediction_serves_training() -> None:
    network = make_network()
    with torch.inference_mode():
        network(make_batch(network))
    losses = RCNNCriterion(network)(train_output(network), [make_target(ORDINARY, size=size) for size in SIZES])
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
    target = make_target(boxes, size=SIZES[0], crowds=(1,))
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
    without = labels_seen(network, make_target(boxes[:1], size=SIZES[0]), proposals)
    assert without["proposals"].tolist() == [1, 1, 0, 0, 0, 0]
    assert (without["anchors"][inside] == 0).all()


def test_every_object_has_an_anchor(network: MaskRCNN) -> None:
    target = make_target([(3.0, 3.0, 4.0, 4.0), (0.0, 0.0, 85.0, 64.0)], size=SIZES[0])
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
    loss.backward()
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
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * 0.2**2)
    assert estimates.grad is not None
    assert estimates.grad.tolist() == pytest.approx([0.0, 0.2])
