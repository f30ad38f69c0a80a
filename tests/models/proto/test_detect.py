from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import protomask
from graph_predictor import graph_of
from protomask.checkpoints.io import load_weights, save_weights
from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError
from protomask.exporting.agreement import ONE_STAGE
from protomask.exporting.verify import compare
from protomask.models.layers.folding import prepare_for_inference
from protomask.models.proto.boxes import logits_of
from protomask.models.proto.heads import BIN_RANGE, ProtoOutput
from tiny_proto import NAMES, tiny_config, tiny_network, tiny_proto
from tiny_yolact import block_images

KINDS: list[dict[str, Any]] = [
    {},
    {"mask_head": "dynamic"},
    {"head": "anchors", "score": "class"},
    {"one_to_one": True},
    {"box_bins": 11, "prototype_upsamplings": 2},
    {"prototype_upsamplings": 2, "prototype_convolutions": "dense"},
]


def test_scores_are_the_qualities() -> None:
    config = tiny_config(score="quality")
    logits = torch.tensor([[[-2.0, 0.0, -9.0], [3.0, 3.0, -30.0], [-30.0, -30.0, -30.0]]])
    other = torch.zeros(1, 3, 4)
    output = ProtoOutput(other, logits, other, other[None], other[0], None, None, None, None)
    scores = logits_of(config, output).softmax(dim=-1)
    qualities = logits.sigmoid()
    assert torch.allclose(scores[0, 0, 1:], qualities[0, 0], atol=1e-5)
    # One mask cannot be two objects.
    assert torch.allclose(scores[0, 1, 1:], qualities[0, 1] / qualities[0, 1].sum(), atol=1e-5)
    assert scores[0, 2, 0] > 0.999
    assert torch.allclose(scores.sum(dim=-1), torch.ones(1, 3))


def test_masks_that_are_no_sums_cannot_be_averaged() -> None:
    with pytest.raises(ConfigError, match="duplicates: expected drop with mask_head=dynamic, got 'average'"):
        tiny_config(mask_head="dynamic", duplicates="average")


@pytest.mark.parametrize("changes", [{"box_bins": 1}, {"box_bins": 11, "head": "anchors"}], ids=str)
def test_bins_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^box_bins: expected 0 "):
        tiny_config(**changes)


def test_a_distance_is_the_mean_of_its_bins() -> None:
    network = tiny_network(box_bins=3).train()
    output = network(torch.randn(1, 3, 64, 64))
    assert output.bin_logits.shape == (*output.box_values.shape, 3)
    shares = output.bin_logits.softmax(dim=-1)
    torch.testing.assert_close(output.box_values, BIN_RANGE * (shares[..., 2] - shares[..., 0]))
    assert network.eval()(torch.randn(1, 3, 64, 64)).bin_logits is None


def test_ratings_multiply_the_probabilities_of_the_classes() -> None:
    logits, ratings = torch.tensor([[[0.0, 2.0, -1.0]]]), torch.tensor([[[0.5]]])
    other = torch.zeros(1, 1, 4)
    output = ProtoOutput(other, logits, other, other[None], other[0], ratings, None, None, None)
    scores = logits_of(tiny_config(), output).softmax(dim=-1)
    assert torch.allclose(scores[0, 0, 1:], logits[0, 0].softmax(dim=0)[1:] * ratings.sigmoid(), atol=1e-5)


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_the_graph_reads_as_the_model_does(changes: dict[str, Any]) -> None:
    model = tiny_proto(**changes)
    graph = graph_of(prepare_for_inference(model.network))
    [image] = block_images((64, 64))
    agreement = compare(model, graph, [image], options=PredictOptions(score_threshold=0), limits=ONE_STAGE)
    assert agreement.detections > 20
    # Boxes of an untrained network that are cut to the same at the edges of the image can be taken for each other.
    assert agreement.unmatched <= 3, agreement
    assert agreement.deviating <= 10, agreement
    assert agreement.score_difference < 1e-3


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_weights_files_keep_the_network(changes: dict[str, Any], tmp_path: Path) -> None:
    network = tiny_network(**changes)
    loaded = load_weights(save_weights(network, tmp_path / "tiny.safetensors"))
    assert (loaded.config, loaded.class_names) == (network.config, NAMES)
    images = torch.randn(1, 3, 64, 64)
    for one, other in zip(network.eval()(images), loaded.eval()(images), strict=True):
        assert one is other is None or torch.equal(one, other)


@pytest.mark.parametrize("size", [(48, 80), (1, 200), (64, 64)])
def test_images_of_any_shape_are_predicted(size: tuple[int, int]) -> None:
    [image] = block_images(size)
    found = tiny_proto().predict(image, score_threshold=0)
    assert found.masks.shape[1:] == size
    assert len(tiny_proto().predict(image, score_threshold=1)) == 0


def test_other_input_sizes_are_predicted_with_the_same_weights() -> None:
    [image] = block_images((100, 100))
    found = tiny_proto().predict(image, score_threshold=0, image_size=100)
    assert len(found) > 5


def test_a_build_by_name() -> None:
    model = protomask.build("protomask_n", num_classes=2, image_size=64)
    assert len(model.predict(np.zeros((32, 32, 3), dtype=np.uint8))) == 0


def test_masks_that_are_no_sums_are_not_compared() -> None:
    [image] = block_images((64, 64))
    assert len(tiny_proto().predict(image, score_threshold=0, overlap="mask_iou")) > 1
    with pytest.raises(ConfigError, match="overlap: expected none with protomask_n"):
        tiny_proto(mask_head="dynamic").predict(image, score_threshold=0, overlap="mask_iou")
