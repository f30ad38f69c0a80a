"""Targets, losses and gradients of FCIS against numbers of the official code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from golden_values import Golden, official_rcnn_image, read_golden
from official_fcis import official_fcis
from protomask.checkpoints import mxnet_fcis
from protomask.images.resize import resize_opencv
from protomask.masks.rle import decode_rle
from protomask.models.fcis.config import FCISConfig
from protomask.models.fcis.criterion import FCISCriterion, TrainingRegions, region_terms
from protomask.models.fcis.model import FCIS, FCISOutput, Pooled
from protomask.models.fcis.proposals import ProposalMaps, anchors_of_map
from protomask.models.fcis.targets import label_anchors, overlaps, project_masks
from protomask.ops.boxes import encode_deltas
from protomask.structures.target import Target

STDS = torch.tensor([0.2, 0.2, 0.5, 0.5], dtype=torch.float64)
CONFIG = FCISConfig(name="test", num_classes=5, hard_regions=16)


@pytest.fixture(scope="module")
def units(golden_dir: Path) -> Golden:
    return read_golden(golden_dir / "fcis" / "units.npz")


def enlarged(masks: NDArray[Any], size: tuple[int, int]) -> Tensor:
    """(N, h, w) masks as the official training resizes them: float32 shares, whose last digits decide ties at 0.4."""
    values = masks.astype(np.float32)
    for axis in (2, 1):
        values = np.moveaxis(values, axis, -1)
        place = ((np.arange(size[axis - 1]) + 0.5) * (values.shape[-1] / size[axis - 1]) - 0.5).astype(np.float32)
        low = np.floor(place)
        share = np.where((low < 0) | (low >= values.shape[-1] - 1), np.float32(0), place - low).astype(np.float32)
        first = low.clip(0, values.shape[-1] - 1).astype(np.int64)
        second = np.minimum(first + 1, values.shape[-1] - 1)
        values = values[..., first] * (1 - share) + values[..., second] * share
        values = np.moveaxis(values, -1, axis)
    return torch.from_numpy(np.ascontiguousarray(values))


def unit_regions(units: Golden) -> TrainingRegions:
    """The regions of the unit goldens in their order, with what they should say."""
    boxes = torch.from_numpy(np.concatenate([units["targets/rois"], units["targets/gt_boxes"][:, :4]]))
    boxes = boxes[torch.from_numpy(units["targets/order"])]
    labels = torch.from_numpy(units["targets/labels"]).long()
    positive = (labels > 0).nonzero()[:, 0]
    masks = torch.from_numpy(units["targets/mask_targets"].astype(np.int64))[positive]
    deltas = torch.from_numpy(units["targets/box_targets"])[positive, 4:]
    return TrainingRegions(boxes, labels, positive, deltas, masks)


def test_regions_belong_to_the_official_objects(units: Golden) -> None:
    objects = torch.from_numpy(units["targets/gt_boxes"])
    regions = unit_regions(units)
    best, owners = overlaps(regions.boxes, objects[:, :4]).max(dim=1)
    torch.testing.assert_close(best, torch.from_numpy(units["targets/iou"]), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(torch.where(best >= 0.5, objects[owners, 4], 0.0), units["targets/labels"])
    own = objects[owners[regions.positive], :4]
    deltas = encode_deltas(own, regions.boxes[regions.positive], extent_offset=1.0) / STDS
    torch.testing.assert_close(deltas, regions.box_deltas, rtol=0, atol=1e-9)


def test_mask_targets_are_the_official_ones(units: Golden) -> None:
    width = int(units["targets/hw0"][1])
    masks = np.unpackbits(units["targets/gt_masks_packed"], axis=-1)[..., :width]
    resized = enlarged(masks, tuple(units["targets/hw"].tolist()))
    np.testing.assert_allclose(resized[0], units["targets/gt_mask0_resized_f32"], atol=1e-6)
    regions = unit_regions(units)
    owners = torch.from_numpy(units["targets/matched_gt"])[regions.positive]
    objects = torch.from_numpy(units["targets/gt_boxes"])[owners, :4]
    found = project_masks(resized[owners], objects, regions.boxes[regions.positive])
    assert torch.equal(found, regions.masks)


def test_anchor_labels_are_the_official_ones(units: Golden) -> None:
    height, width = units["targets/hw"].tolist()
    anchors = anchors_of_map((height // 16, width // 16), CONFIG)
    objects = torch.from_numpy(units["targets/gt_boxes"])[:, :4].float()
    labels, owners = label_anchors(anchors, objects, (height, width), positive_iou=0.7, negative_iou=0.3)
    np.testing.assert_array_equal(labels, units["targets/anchor_labels"])
    positive = labels == 1
    np.testing.assert_array_equal(owners[positive], units["targets/anchor_gt"][positive])
    deltas = encode_deltas(objects[owners[positive]], anchors[positive], extent_offset=1.0)
    np.testing.assert_allclose(deltas, units["targets/anchor_box"][positive], atol=1e-5)


def test_losses_and_gradients_are_the_official_ones(units: Golden) -> None:
    regions = unit_regions(units)
    count = len(regions.labels)
    maps = np.random.default_rng(int(units["losses/maps_seed"])).standard_normal((count, 6, 2, 21, 21))
    scores: Any = torch.from_numpy(maps.astype(np.float32)).double().requires_grad_()
    boxes: Any = torch.from_numpy(units["losses/box"]).double().requires_grad_()
    logits: Any = torch.from_numpy(units["losses/logits"]).double().requires_grad_()

    class Given(Pooled):
        """With class logits that are not those of the maps."""

        @property
        def class_logits(self) -> Tensor:
            return logits  # type: ignore[no-any-return]

    terms = region_terms(Given(scores.permute(0, 3, 4, 1, 2), boxes[:, 4:]), regions)
    np.testing.assert_allclose(torch.stack(terms).detach(), units["losses/per_roi"], atol=1e-9)
    hardness = terms.class_term + 10 * terms.mask_term + terms.box_term
    kept = hardness.topk(CONFIG.hard_regions).indices
    assert sorted(kept.tolist()) == sorted(units["losses/kept"].tolist())
    losses: Any = [
        terms.class_term[kept].mean(),
        10 * terms.mask_term[kept].sum() / 16,
        terms.box_term[kept].sum() / 16,
    ]
    for loss, name in zip(losses, ("cls", "mask", "box"), strict=True):
        assert float(loss) == pytest.approx(float(units[f"losses/loss_{name}"]), abs=1e-9)
    sum(losses).backward()
    np.testing.assert_allclose(logits.grad, units["losses/grad_logits"], atol=1e-12)
    np.testing.assert_allclose(boxes.grad, units["losses/grad_box"], atol=1e-12)
    got = scores.grad.flatten()[torch.from_numpy(units["losses/grad_maps_idx"])]
    np.testing.assert_allclose(got, units["losses/grad_maps"], atol=1e-12)
    assert float(scores.grad.abs().sum()) == pytest.approx(float(units["losses/grad_maps_abs_sum"]), rel=1e-9)


def test_proposal_losses_are_the_official_ones(units: Golden, golden_dir: Path) -> None:
    logits: Any = torch.from_numpy(units["losses/rpn_cls_in"]).double().requires_grad_()
    deltas: Any = torch.from_numpy(units["losses/rpn_box_in"]).double().requires_grad_()
    sampled = torch.from_numpy(units["losses/rpn_labels"])
    with torch.device("meta"):
        criterion = FCISCriterion(FCIS(CONFIG.replace(backbone="resnet18"), ("a", "b", "c", "d", "e")))
    criterion.sample = lambda labels, count, share: (sampled >= 0).nonzero()[:, 0]
    size = tuple(units["targets/hw"].tolist())
    output = FCISOutput(
        image_sizes=(size,), proposal_maps=ProposalMaps(logits, deltas), score_maps=logits, box_maps=deltas,
        proposals=[], objectness=[],
    )  # fmt: skip
    boxes = torch.from_numpy(units["targets/gt_boxes"])[:, :4]
    losses: Any = criterion.proposal_terms(output, 0, boxes, boxes[:0])
    for loss, name in zip(losses, ("cls", "box"), strict=True):
        assert float(loss) == pytest.approx(float(units[f"losses/loss_rpn_{name}"]), abs=1e-7)
    (losses[0] + losses[1]).backward()
    np.testing.assert_allclose(logits.grad, units["losses/grad_rpn_cls"], atol=1e-7)
    np.testing.assert_allclose(deltas.grad, units["losses/grad_rpn_box"], atol=1e-7)


# One whole step


@pytest.fixture(scope="module")
def step(golden_dir: Path) -> tuple[Golden, dict[str, Any]]:
    facts = json.loads((golden_dir / "fcis" / "train_e2e.json").read_text())
    return read_golden(golden_dir / "fcis" / "train_e2e.npz"), facts


def step_target(golden: Golden, facts: dict[str, Any]) -> tuple[Target, Tensor]:
    """The objects of the step, and their masks as shares."""
    height, width = facts["input_hw"]
    masks = np.stack([decode_rle(code) for code in facts["gt_masks_rle"]])
    resized = enlarged(masks, (height, width))
    boxes = torch.from_numpy(golden["gt_boxes"])
    return Target(
        boxes=(boxes[:, :4] + torch.tensor([0, 0, 1, 1])).float(), labels=boxes[:, 4].long() - 1,
        masks=resized >= 0.5, is_crowd=torch.zeros(len(boxes), dtype=torch.bool), image_size=(height, width),
    ), resized  # fmt: skip


@pytest.fixture(scope="module")
def losses_and_network(
    step: tuple[Golden, dict[str, Any]], golden_dir: Path, two_threads: None
) -> tuple[dict[str, Tensor], FCIS]:
    golden, facts = step
    network = official_fcis(golden_dir).double()
    pixels = resize_opencv(official_rcnn_image(golden_dir, 0), tuple(facts["input_hw"]), scale=facts["scale"])
    mean = torch.tensor(network.config.pixel_mean, dtype=torch.float64)  # float32 would turn some maxima around
    image = (torch.from_numpy(pixels).double() - mean).permute(2, 0, 1).float().double()
    target, shares = step_target(golden, facts)
    maps = network.maps(image[None])
    output = FCISOutput(
        image_sizes=(tuple(facts["input_hw"]),), proposal_maps=maps[0], score_maps=maps[1], box_maps=maps[2],
        proposals=[torch.from_numpy(golden["proposals"])], objectness=[],
    )  # fmt: skip
    criterion = FCISCriterion(network)
    drawn = torch.from_numpy(np.concatenate([golden["rpn_pos"], golden["rpn_neg"]]))
    criterion.sample = lambda labels, count, share: drawn
    objects = torch.from_numpy(golden["gt_boxes"])[:, :4]
    criterion.mask_targets = lambda own, owners, regions: project_masks(shares[owners], objects[owners], regions)
    losses = criterion(output, [target])
    losses["loss_total"].backward()
    return losses, network


@pytest.mark.slow
def test_a_step_has_the_official_losses(
    losses_and_network: tuple[dict[str, Tensor], FCIS], step: tuple[Golden, dict[str, Any]]
) -> None:
    losses, _ = losses_and_network
    names = {"cls": "class", "mask": "mask", "box": "box", "rpn_cls": "objectness", "rpn_box": "rpn_box"}
    for theirs, ours in names.items():
        assert float(losses[f"loss_{ours}"]) == pytest.approx(step[1]["losses"][theirs], rel=1e-6), ours
    assert float(losses["loss_total"]) == pytest.approx(step[1]["total"], rel=1e-6)


@pytest.mark.slow
def test_a_step_has_the_official_gradients(
    losses_and_network: tuple[dict[str, Tensor], FCIS], step: tuple[Golden, dict[str, Any]]
) -> None:
    golden, facts = step
    gradients = {name: parameter.grad for name, parameter in losses_and_network[1].named_parameters()}
    for key, norm in facts["grad_norms"].items():
        [name] = mxnet_fcis.rename({key: torch.zeros(1)})
        gradient = gradients[name]
        assert gradient is not None
        assert float(gradient.norm()) == pytest.approx(norm, rel=1e-6), key
        if f"grad/{key}/idx" in golden:
            got = gradient.flatten()[torch.from_numpy(golden[f"grad/{key}/idx"].astype(np.int64))]
            wanted = golden[f"grad/{key}/f64"]
            np.testing.assert_allclose(got, wanted, atol=1e-6 * np.abs(wanted).max(), err_msg=key)
