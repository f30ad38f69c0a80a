"""The parts of Mask R-CNN in the official conventions against numbers of the official code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from networks import build_rcnn
from protomask.checkpoints.maskrcnn_benchmark import CONVENTIONS
from protomask.masks.rle import decode_rle, encode_runs
from protomask.models.rcnn.criterion import RCNNCriterion
from protomask.models.rcnn.detect import BOX_WEIGHTS
from protomask.models.rcnn.model import MaskRCNN
from protomask.models.rcnn.proposals import anchors_of_levels, greedy_nms
from protomask.ops.boxes import clip_to_image, decode_deltas, encode_deltas
from protomask.structures.mask_sources import RegionMasks
from protomask.structures.target import Target
from targets import empty_target


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, Tensor]:
    with np.load(golden_dir / "msrcnn" / "units.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind != "U"}


@pytest.fixture(scope="module")
def facts(golden_dir: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((golden_dir / "msrcnn" / "units.json").read_text())
    return read


@pytest.fixture(scope="module")
def network() -> MaskRCNN:
    """A small network in the official conventions; what is tested here has no weights."""
    small: dict[str, Any] = {"backbone": "resnet18", "fpn_channels": 8, "head_channels": 8}
    return build_rcnn(conventions=replace(CONVENTIONS, stride_in_1x1=False), **small)


@pytest.mark.parametrize(("kind", "weights"), [("rpn", (1.0, 1.0)), ("box", BOX_WEIGHTS)])
def test_box_coder(golden: dict[str, Tensor], kind: str, weights: tuple[float, float]) -> None:
    references, boxes = golden[f"coder_{kind}/ref"], golden[f"coder_{kind}/gt"]
    encoded = encode_deltas(boxes, references, weights=weights, extent_offset=1.0)
    torch.testing.assert_close(encoded, golden[f"coder_{kind}/encoded"], rtol=1e-5, atol=1e-5)
    codes = golden[f"coder_{kind}/codes"].reshape(-1, 4)
    decoded = decode_deltas(codes, references.repeat_interleave(3, dim=0), weights=weights, extent_offset=1.0)
    torch.testing.assert_close(decoded, golden[f"coder_{kind}/decoded"].reshape(-1, 4), rtol=1e-5, atol=1e-3)
    clipped = clip_to_image(decoded, (800, 1066), 1.0)
    torch.testing.assert_close(clipped, golden[f"coder_{kind}/decoded_clipped_1066x800"], rtol=1e-5, atol=1e-3)


def objects_of(boxes: Tensor) -> Target:
    count = len(boxes)
    return replace(
        empty_target((8, 8)),
        boxes=boxes,
        labels=torch.zeros(count, dtype=torch.int64),
        masks=torch.zeros(count, 8, 8, dtype=torch.bool),
        is_crowd=torch.zeros(count, dtype=torch.bool),
    )


def test_matching_of_anchors(golden: dict[str, Tensor], network: MaskRCNN) -> None:
    labels, matched = RCNNCriterion(network).label_anchors(
        golden["iou/b"], objects_of(golden["iou/a_gt"]), torch.zeros(0, 4), (100_000, 100_000)
    )
    wanted = golden["iou/matcher_rpn_0.7_0.3_lowquality"]
    assert torch.equal(matched, wanted)
    inside = (golden["iou/b"][:, :2] >= 0).all(dim=1)
    assert torch.equal(labels[inside], ((wanted >= 0).long() - (wanted == -2).long())[inside])
    assert (labels[~inside] == -1).all()


def test_matching_of_proposals(golden: dict[str, Tensor], network: MaskRCNN) -> None:
    objects = replace(objects_of(golden["iou/a_gt"]), labels=torch.arange(len(golden["iou/a_gt"])))
    criterion = RCNNCriterion(network)
    seen = []

    def see(labels: Tensor, count: int, positive_share: float) -> Tensor:
        seen.append(labels)
        return torch.zeros(0, dtype=torch.int64)

    criterion.sample = see
    criterion._choose(golden["iou/b"], objects, torch.zeros(0, 4))
    # The objects are candidates too; class c of object c is label c + 1, background 0.
    wanted = torch.cat((torch.arange(len(objects.labels)), golden["iou/matcher_box_0.5_0.5"]))
    assert torch.equal(seen[0], wanted + 1)


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_nms(golden: dict[str, Tensor], facts: dict[str, Any], network: MaskRCNN, threshold: float) -> None:
    boxes, scores = golden["nms/boxes"], golden["nms/scores"]
    one_group = torch.zeros(len(boxes), dtype=torch.int64)
    kept = greedy_nms(boxes, scores, one_group, threshold, network.config)
    assert kept.sort().values.tolist() == golden[f"nms/keep_{threshold}_ascending_index"].tolist()
    assert scores[kept].tolist() == sorted(scores[kept].tolist(), reverse=True)
    # In torchvision's conventions others survive.
    config = replace(network.config, conventions=replace(CONVENTIONS, extent_offset=0.0, nms_inclusive=False))
    kept = greedy_nms(boxes, scores, one_group, threshold, config)
    assert len(kept) == facts[f"nms_{threshold}"]["torchvision_nms_kept"]


@pytest.mark.parametrize(("inclusive", "survivors"), [(True, [0]), (False, [0, 1])])
def test_nms_at_the_threshold(network: MaskRCNN, inclusive: bool, survivors: list[int]) -> None:
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 4.0]])  # their IoU with both ends counted is a half
    config = replace(network.config, conventions=replace(CONVENTIONS, nms_inclusive=inclusive))
    kept = greedy_nms(boxes, torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.int64), 0.5, config)
    assert kept.tolist() == survivors


def test_levels_of_boxes(golden: dict[str, Tensor], network: MaskRCNN) -> None:
    levels = network.roi_levels(golden["levels/boxes"])
    assert levels.tolist() == golden["levels/level_index_0_is_P2"].tolist()


@pytest.mark.parametrize("side", [7, 14])
def test_pooled_features(golden: dict[str, Tensor], network: MaskRCNN, side: int) -> None:
    features = [
        np.random.default_rng(900 + level).standard_normal((1, 3, 800 // stride, 1088 // stride)).astype(np.float32)
        for level, stride in enumerate((4, 8, 16, 32))
    ]
    levels = [*map(torch.from_numpy, features), torch.zeros(1, 3, 13, 17)]
    pooled = network.roi_features(levels, [golden["pooler/boxes"]], side)
    torch.testing.assert_close(pooled, golden[f"pooler/out_{side}"], rtol=0, atol=1e-5)


def test_anchors(golden: dict[str, Tensor], network: MaskRCNN) -> None:
    sizes = ((3, 4), (2, 2), (1, 2), (1, 1), (1, 1))
    levels = anchors_of_levels(sizes, (96, 120), network.config)
    criterion = RCNNCriterion(network)
    for index, ((rows, columns), anchors) in enumerate(zip(sizes, levels, strict=True)):
        assert torch.equal(anchors[:3], golden[f"anchors/cell_{index}"])
        assert torch.equal(anchors, golden[f"anchors/grid_{index}_featurehw_{rows}x{columns}"])
        labels, _ = criterion.label_anchors(anchors, objects_of(torch.zeros(0, 4)), torch.zeros(0, 4), (96, 120))
        assert torch.equal(labels == 0, golden[f"anchors/inside_{index}_image_120x96"])


def test_sizes_of_resized_images(facts: dict[str, Any], network: MaskRCNN) -> None:
    for row in facts["resize_hw(min 800,max 1333)"]:
        assert list(network.geometry.resized_size(tuple(row["original_hw"]))) == row["resized_hw"]


def test_pasted_masks(golden: dict[str, Tensor]) -> None:
    masks = RegionMasks(
        golden["masker/mask_prob"][:, 0].numpy(),
        golden["masker/boxes_image_wh_160x120"].numpy(),
        (120, 160),
        paste="integer",
    )
    wanted = np.unpackbits(golden["masker/pasted_bits"].numpy(), axis=-1)[..., :160]
    codes = encode_runs(list(masks.runs()), (120, 160))
    np.testing.assert_array_equal(np.stack([decode_rle(code) for code in codes]), wanted.astype(np.bool_))
