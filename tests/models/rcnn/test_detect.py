"""From the output of a Mask R-CNN to `Instances`: shapes, scores, and everything that can be empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from padded_images import SIZES, Sizes, make_batch, some_image, train_output
from protomask.detection.options import NMS_MODES, NmsMode, PredictOptions
from protomask.errors import ConfigError
from protomask.models.families import read_output
from protomask.models.rcnn.criterion import RCNNCriterion
from protomask.models.rcnn.detect import detect
from protomask.models.rcnn.model import MaskRCNN, RCNNOutput
from protomask.models.rcnn.proposals import select_proposals
from protomask.structures.instances import Instances
from targets import target_of_boxes
from tiny_rcnn import CONFIG, tiny_rcnn


@pytest.fixture(scope="module")
def network() -> MaskRCNN:
    return tiny_rcnn()


@pytest.fixture(scope="module")
def plain() -> MaskRCNN:
    """Without the head that scores masks, of the same weights."""
    network = tiny_rcnn(mask_iou=False)
    network.load_state_dict({key: value for key, value in tiny_rcnn().state_dict().items() if "mask_iou" not in key})
    return network


@pytest.fixture(scope="module")
def output(network: MaskRCNN) -> RCNNOutput:
    with torch.inference_mode():
        output: RCNNOutput = network(make_batch(network))
    return output


def read(
    network: MaskRCNN,
    output: RCNNOutput,
    sizes: Sequence[tuple[int, int]] = SIZES,
    *,
    score_threshold: float = 0,
    **options: Any,
) -> list[Instances]:
    return read_output(network, output, sizes, PredictOptions(score_threshold=score_threshold, **options))


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
    for found, (height, width) in zip(read(network, output, originals), originals, strict=True):
        assert 0 < len(found) <= network.config.max_detections
        assert found.image_size == (height, width)
        assert found.masks.shape == (len(found), height, width)
        assert (found.boxes >= 0).all()
        assert (found.boxes <= np.array([width, height, width, height])).all()
        assert (found.class_scores > network.config.candidate_threshold).all()
        assert (np.diff(found.scores) <= 0).all()
    first, _ = read(network, output)
    enlarged, _ = read(network, output, [(128, 170), SIZES[1]])
    np.testing.assert_allclose(enlarged.boxes, 2 * first.boxes, rtol=1e-5)


def test_what_is_kept_is_in_the_order_of_class_scores(network: MaskRCNN, output: RCNNOutput) -> None:
    for rows in detect(network, output, PredictOptions(score_threshold=0)):
        assert len(rows.labels) > 0
        assert (np.diff(rows.class_scores) <= 0).all()
        assert rows.mask_scores is not None
        assert rows.mask_probs.shape == (len(rows.labels), 28, 28)


def test_the_score_is_the_product_with_the_mask_score(network: MaskRCNN, output: RCNNOutput, plain: MaskRCNN) -> None:
    with torch.inference_mode():
        plain_output = plain(make_batch(plain))
    for found, other in zip(read(network, output), read(plain, plain_output), strict=True):
        assert found.mask_scores is not None
        np.testing.assert_array_equal(found.scores, found.class_scores * found.mask_scores)
        assert other.mask_scores is None
        by_class_score = found[np.argsort(-found.class_scores, kind="stable")]
        np.testing.assert_array_equal(other.scores, by_class_score.class_scores)
        np.testing.assert_array_equal(other.masks, by_class_score.masks)


@pytest.mark.parametrize("nms", NMS_MODES)
def test_score_threshold_asks_for_the_final_score(network: MaskRCNN, output: RCNNOutput, nms: NmsMode) -> None:
    everything = read(network, output, nms=nms)[0]
    middle = float(np.median(everything.scores))
    above = read(network, output, nms=nms, score_threshold=middle)[0]
    same = everything[everything.scores > middle]
    assert 0 < len(above) < len(everything)
    np.testing.assert_allclose(above.scores, same.scores, rtol=1e-5)
    np.testing.assert_array_equal(above.labels, same.labels)
    np.testing.assert_allclose(above.boxes, same.boxes, rtol=1e-5)


@pytest.mark.parametrize("nms", NMS_MODES)
def test_every_nms_mode_works(network: MaskRCNN, output: RCNNOutput, nms: NmsMode) -> None:
    for found in read(network, output, nms=nms, max_detections=5):
        assert len(found) == 5
        assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("nms", NMS_MODES)
@pytest.mark.parametrize("mask_iou", [True, False])
def test_images_without_detections(
    network: MaskRCNN, plain: MaskRCNN, output: RCNNOutput, nms: NmsMode, mask_iou: bool
) -> None:
    tested = network if mask_iou else plain
    for found in read(tested, output, candidate_threshold=1.0, nms=nms):
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
    none, some = read(network, changed)
    assert len(none) == 0
    wanted = read(network, output)[1]
    np.testing.assert_allclose(some.scores, wanted.scores, rtol=1e-5)
    np.testing.assert_array_equal(some.masks, wanted.masks)


def test_images_without_proposals(network: MaskRCNN, output: RCNNOutput) -> None:
    logits, deltas = network.classify(output.features, [torch.zeros(0, 4)] * 2)
    assert logits.shape == (0, 4)
    assert deltas.shape == (0, 4, 4)
    nothing = replace(
        output, proposals=[torch.zeros(0, 4)] * 2, class_logits=(logits, logits), box_deltas=(deltas, deltas)
    )
    assert [len(found) for found in read(network, nothing)] == [0, 0]


# Only for images of one size: beyond the edge of a smaller image the first layers see the same zeros in a batch, but
# their biases fill the padding, and the layers behind see that.
def test_a_batch_finds_what_single_images_find(network: MaskRCNN) -> None:
    images = [some_image(64, 80), some_image(64, 80).flip(1)]
    prepared = [network.geometry.preprocess(image) for image in images]
    with torch.inference_mode():
        together = read(network, network(network.geometry.batch(prepared)), [(64, 80)] * 2)
        for image, found in zip(prepared, together, strict=True):
            (alone,) = read(network, network(network.geometry.batch([image])), [(64, 80)])
            np.testing.assert_allclose(found.boxes, alone.boxes, rtol=0, atol=1e-3)
            np.testing.assert_allclose(found.scores, alone.scores, rtol=0, atol=1e-5)
            np.testing.assert_array_equal(found.labels, alone.labels)
            assert (found.masks != alone.masks).mean() < 1e-3


@pytest.mark.parametrize("sizes", [((40, 300), (300, 40)), ((1, 1),), ((1, 500), (64, 64))])
def test_images_of_very_different_shapes(network: MaskRCNN, sizes: Sizes) -> None:
    batch = make_batch(network, sizes)
    with torch.inference_mode():
        for found, size in zip(read(network, network(batch), sizes), sizes, strict=True):
            assert found.image_size == size
            assert found.masks.shape[1:] == size
            assert np.isfinite(found.boxes).all()
            assert (found.boxes[:, 2:] <= np.array([size[1], size[0]])).all()
    losses = RCNNCriterion(network)(
        train_output(network, sizes), [target_of_boxes([(0, 0, 3, 3)], size=size) for size in batch.sizes]
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


def test_output_in_training_mode_is_not_read(network: MaskRCNN) -> None:
    with pytest.raises(ConfigError, match="output: expected that of a network in evaluation mode"):
        read(network, train_output(network))


def test_class_names_must_fit() -> None:
    with pytest.raises(ConfigError, match=r"class_names: expected 3 names \(num_classes\), got 2"):
        MaskRCNN(CONFIG, ("a", "b"))


@pytest.mark.parametrize("nms", NMS_MODES)
def test_wanted_classes_are_found_as_with_all(plain: MaskRCNN, output: RCNNOutput, nms: NmsMode) -> None:
    wholes = read(plain, output, nms=nms, max_detections=1000)
    name = wholes[0].names[-1]
    assert 0 < len(wholes[0][name]) < sum(map(len, wholes))
    for whole, chosen, one in zip(
        wholes,
        read(plain, output, nms=nms, max_detections=1000, classes=(name,)),
        read(plain, output, nms=nms, max_detections=1, classes=(name,)),
        strict=True,
    ):
        expected = whole[name]
        for field in ("boxes", "labels", "scores"):
            np.testing.assert_array_equal(getattr(chosen, field), getattr(expected, field))
            np.testing.assert_array_equal(getattr(one, field), getattr(expected, field)[:1])
        assert (chosen.masks != expected.masks).mean() < 1e-3


@pytest.mark.parametrize("classes", [1, 80])
def test_an_untrained_network_is_undecided(classes: int) -> None:
    network = MaskRCNN(replace(CONFIG, num_classes=classes), [f"class {number}" for number in range(classes)])
    # Larger than what a pretrained backbone gives.
    masks = network.mask_predictor(20 * torch.rand(2, CONFIG.fpn_channels, 14, 14))
    class_logits, box_deltas = network.box_predictor(20 * torch.rand(2, CONFIG.head_channels))
    assert masks.shape[1] == classes + 1
    for tensor, most in ((masks, 0.5), (class_logits, 5), (box_deltas, 0.5)):
        assert 0 < tensor.detach().abs().max() < most
