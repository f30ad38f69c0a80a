"""FCIS as a graph: the same detections as in PyTorch, from the pixels of any image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import protomask
from graph_predictor import graph_of
from padded_images import some_image
from protomask.detection.options import PredictOptions
from protomask.detection.voting import VotingRows, VotingRule, elect
from protomask.errors import ConfigError
from protomask.exporting.graphs import wrap
from protomask.images.decode import Pixels
from protomask.models.fcis.targets import overlaps
from protomask.ops.psroi import bin_cells, pool_groups, pool_groups_by_sums
from protomask.ops.voting import count_votes
from protomask.structures.instances import Instances
from protomask.torch_runtime.predictor import TorchPredictor, ready
from tiny_fcis import tiny_fcis

EVERYTHING = PredictOptions(score_threshold=0)


def pixels(height: int, width: int) -> Pixels:
    image: Pixels = some_image(height, width).permute(1, 2, 0).numpy()
    return image


def same(found: Instances, wanted: Instances) -> None:
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, wanted.boxes, atol=1e-4)
    assert (found.masks != wanted.masks).sum(axis=(1, 2)).max(initial=0) <= 3


# As it is, enlarged, shrunk with halves to round, and limited by its long side.
@pytest.mark.parametrize("size", [(64, 85), (50, 90), (101, 77), (40, 110)])
def test_a_graph_finds_what_the_network_finds(size: tuple[int, int]) -> None:
    network = tiny_fcis()
    predictor = ready(TorchPredictor(network, "tiny"), "cpu")
    wanted = predictor.predict(pixels(*size), EVERYTHING)
    assert len(wanted) > 0
    same(graph_of(network).predict(pixels(*size), EVERYTHING), wanted)


def test_a_graph_without_detections() -> None:
    network = tiny_fcis(candidate_threshold=0.99)
    assert len(graph_of(network).predict(pixels(64, 64), EVERYTHING)) == 0


def test_other_kinds_of_nms_have_no_graph() -> None:
    network = tiny_fcis()
    with pytest.raises(ConfigError, match="nms: expected batched in an exported file, got fast"):
        wrap(network, network.config.replace(nms="fast"))


def test_votes_are_those_of_predictions(golden_dir: Path) -> None:
    with np.load(golden_dir / "fcis" / "units.npz") as golden:
        boxes, masks, probs = (
            torch.from_numpy(golden[f"voting/{name}"]).float() for name in ("boxes", "masks", "prob")
        )
        size: tuple[int, int] = tuple(golden["voting/hw"].tolist())
    rows = VotingRows(boxes.numpy(), probs[:, 1:].numpy(), masks.numpy())
    elected = elect(rows, size, VotingRule(max_detections=20), scale=1.0)
    kept, labels = torch.from_numpy(elected.rows), torch.from_numpy(elected.labels)
    weights = probs.T[labels + 1] * (overlaps(boxes[kept], boxes) >= 0.5)
    weights = torch.cat((weights / weights.sum(dim=1, keepdim=True), torch.zeros(1, len(boxes))))
    voted, shares, there = count_votes(boxes.round(), masks, weights, torch.tensor(size).float())
    np.testing.assert_array_equal(voted[:-1], elected.boxes + np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(shares[:-1], elected.mask_probs, atol=1e-5)
    assert there.tolist() == [1] * 20 + [0]


def test_pooling_by_sums_is_pooling() -> None:
    numbers = torch.Generator().manual_seed(0)
    maps = torch.randn(6 * 49, 9, 12, generator=numbers) + 5
    corners = torch.rand(40, 2, generator=numbers) * 150
    boxes = torch.cat((corners, corners + torch.rand(40, 2, generator=numbers) * 150 - 20), dim=1)
    cells = bin_cells(boxes, (9, 12), bins=21, stride=16)
    wanted = pool_groups(maps, cells, groups=7)
    torch.testing.assert_close(pool_groups_by_sums(maps, cells, groups=7), wanted, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "packages"), [("a.onnx", ["onnxscript"]), ("a.xml", ["onnxscript", "openvino"])])
def test_files_go_from_pixels_to_masks(name: str, packages: list[str], tmp_path: Path) -> None:
    for package in packages:
        pytest.importorskip(package)
    predictor = ready(TorchPredictor(tiny_fcis(), "tiny"), "cpu")
    images = [pixels(64, 85), pixels(50, 90)]
    agreement = protomask.export(predictor, tmp_path / name, images=images, score_threshold=0)
    assert agreement.detections > 0
    assert agreement.unmatched == 0
    assert agreement.mask_iou > 0.99
    exported = protomask.load(tmp_path / name)
    for image in (*images, pixels(101, 77)):
        same(exported.predict(image, EVERYTHING), predictor.predict(image, EVERYTHING))
