"""Anchors, boxes, proposals and pooling of FCIS against numbers of the official code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import nms

from golden_values import Golden, read_golden
from protomask.models.fcis.config import FCISConfig
from protomask.models.fcis.model import Pooled
from protomask.models.fcis.proposals import ProposalMaps, anchors_of_map, select_proposals, with_far_pixel
from protomask.models.fcis.targets import overlaps
from protomask.ops.boxes import clip_to_image, decode_deltas, encode_deltas
from protomask.ops.psroi import bin_cells, pool_groups

CONFIG = FCISConfig(name="test", num_classes=2)


@pytest.fixture(scope="module")
def units(golden_dir: Path) -> Golden:
    return read_golden(golden_dir / "fcis" / "units.npz")


def test_anchors(units: Golden) -> None:
    np.testing.assert_array_equal(anchors_of_map((1, 1), CONFIG), units["anchors/coco"])
    np.testing.assert_array_equal(anchors_of_map((2, 3), CONFIG), units["anchors/grid_2x3"])
    voc = CONFIG.replace(anchor_sizes=(128.0, 256.0, 512.0))
    np.testing.assert_array_equal(anchors_of_map((1, 1), voc), units["anchors/voc"])


def test_boxes(units: Golden) -> None:
    given, objects, deltas = (torch.from_numpy(units[f"boxes/{name}"]) for name in ("ex", "gt", "deltas"))
    encoded = encode_deltas(objects, given, extent_offset=1.0)
    np.testing.assert_allclose(encoded, units["boxes/encode"], atol=1e-9)
    decoded = decode_deltas(deltas, given, extent_offset=1.0, limit_above=False)
    np.testing.assert_allclose(decoded, units["boxes/decode"], rtol=1e-9)
    np.testing.assert_allclose(clip_to_image(decoded, (150, 170), 1.0), units["boxes/clip_150x170"], rtol=1e-9)
    np.testing.assert_allclose(overlaps(given, objects), units["boxes/iou"], atol=1e-9)


@pytest.mark.parametrize(("threshold", "name"), [(0.3, "keep_03"), (0.7, "keep_07")])
def test_nms(units: Golden, threshold: float, name: str) -> None:
    boxes, scores = (torch.from_numpy(units[f"nms/{part}"]) for part in ("boxes", "scores"))
    np.testing.assert_array_equal(nms(with_far_pixel(boxes), scores, threshold), units[f"nms/{name}"])


def test_proposals(units: Golden) -> None:
    maps = ProposalMaps(torch.from_numpy(units["proposals/cls"]), torch.from_numpy(units["proposals/box"]))
    config = CONFIG.replace(rpn_candidates=250, max_proposals=40)
    height, width = units["proposals/hw"].tolist()
    boxes, scores = select_proposals(*maps.of_image(0), (height, width), config)
    np.testing.assert_allclose(boxes, units["proposals/out"], atol=1e-3)
    np.testing.assert_allclose(scores, units["proposals/scores"], atol=1e-6)


def test_pooling_and_its_gradient(units: Golden) -> None:
    maps: Any = torch.from_numpy(units["psroi/feat"])[0].requires_grad_()
    boxes = torch.from_numpy(units["psroi/rois"])
    cells = bin_cells(boxes, (maps.shape[1], maps.shape[2]), bins=21, stride=16)
    np.testing.assert_array_equal(cells.rows[..., 0], units["psroi/y0"])
    np.testing.assert_array_equal(cells.rows[..., 1], units["psroi/y1"])
    np.testing.assert_array_equal(cells.columns[..., 0], units["psroi/x0"])
    np.testing.assert_array_equal(cells.columns[..., 1], units["psroi/x1"])
    pooled: Any = pool_groups(maps, cells, groups=7)
    np.testing.assert_allclose(pooled.permute(0, 3, 1, 2).detach(), units["psroi/out"], atol=1e-5)
    seed = np.random.default_rng(int(units["psroi/grad_seed"])).standard_normal((28, 6, 21, 21)).astype(np.float32)
    pooled.permute(0, 3, 1, 2).backward(torch.from_numpy(seed))
    np.testing.assert_allclose(maps.grad, units["psroi/grad_feat"][0], atol=1e-4)


def test_classes_and_masks(units: Golden) -> None:
    maps = torch.from_numpy(units["psroi/out"]).view(28, 3, 2, 21, 21)
    pooled = Pooled(maps.permute(0, 3, 4, 1, 2), torch.zeros(28, 4))
    logits = pooled.class_logits
    np.testing.assert_allclose(logits, units["psroi/class_logits"], atol=1e-5)
    np.testing.assert_allclose(logits.softmax(dim=1), units["psroi/prob"], atol=1e-5)
    classes = logits[:, 1:].argmax(dim=1) + 1
    np.testing.assert_array_equal(classes, units["psroi/mask_class"])
    np.testing.assert_allclose(pooled.mask_probs(classes), units["psroi/mask_prob"], atol=1e-5)
