from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.test_run import Recorder, assert_same, settings, shapes, tensors
from protomask.engine.config import TrainConfig
from protomask.engine.result import TrainResult
from protomask.engine.run import train
from protomask.errors import ConfigError

__all__ = ["shapes"]
LOSSES = {"loss_objectness", "loss_rpn_box", "loss_class", "loss_box", "loss_mask", "loss_total"}
NARROW: dict[str, Any] = {
    "backbone": "shufflenet_v2_x1_0",
    "fpn_channels": 8,
    "head_channels": 8,
    "anchor_sizes": [8, 16, 32, 48, 64],
    "roi_samples": 16,
    "training_rpn_candidates": 50,
    "training_max_proposals": 20,
    "max_image_size": 90,
}


def two_stage(data: Path, output: Path, **changes: Any) -> TrainConfig:
    return settings(
        data, output, **{"model": "mask_rcnn_resnet50_fpn", "model_options": NARROW, "iterations": 3, **changes}
    )


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, Recorder]:
    recorder = Recorder()
    return train(two_stage(shapes, tmp_path_factory.mktemp("runs") / "run"), reporter=recorder), recorder


def test_all_losses_are_logged(trained: tuple[TrainResult, Recorder]) -> None:
    result, recorder = trained
    assert result.iteration == 3
    assert {name for name in recorder.steps[0] if name.startswith("loss_")} == LOSSES
    assert all(step["skipped_steps"] == 0 for step in recorder.steps)
    assert result.metrics is not None


def test_an_interrupted_run_continues_as_if_nothing_had_happened(
    trained: tuple[TrainResult, Recorder], shapes: Path, tmp_path: Path
) -> None:
    assert train(two_stage(shapes, tmp_path / "run"), reporter=Recorder(stop_after=2)).interrupted
    result = train(two_stage(shapes, tmp_path / "run", resume=True))
    assert_same(tensors(trained[0].last_weights), tensors(result.last_weights))


def test_mask_iou_is_added_and_trained_alone(
    trained: tuple[TrainResult, Recorder], shapes: Path, tmp_path: Path
) -> None:
    before = trained[0].last_weights
    recorder = Recorder()
    changes: dict[str, Any] = {"model": None, "weights": str(before), "model_options": {}, "learning_rate": 0.05}
    config = two_stage(shapes, tmp_path / "run", add="mask_iou", train_only="mask_iou", **changes)
    result = train(config, reporter=recorder)
    old, new = tensors(before), tensors(result.last_weights)
    added = {name for name in new if name not in old}
    assert added == {name for name in new if name.startswith("mask_iou_head.")}
    assert [name for name in old if not torch.equal(old[name], new[name])] == []
    assert {name for name in recorder.steps[0] if name.startswith("loss_")} == LOSSES | {"loss_mask_iou"}


@pytest.mark.parametrize(
    ("model", "part", "message"),
    [
        ("mask_rcnn_resnet50_fpn", "mask_rescoring", r"mask_rescoring is a part of yolact_nano, .*cannot have it"),
        ("yolact_nano", "mask_iou", r"mask_iou is a part of mask_rcnn_resnet50_fpn, .*yolact_nano cannot have it"),
    ],
)
def test_parts_of_the_other_family_are_refused(
    model: str, part: str, message: str, shapes: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(two_stage(shapes, tmp_path / "run", model=model, model_options={}, add=part))


def test_frozen_stages_and_rates_of_biases(shapes: Path, tmp_path: Path) -> None:
    config = two_stage(
        shapes, tmp_path / "run", iterations=1, frozen_stages=3, bias_learning_rate_factor=2.0, bias_weight_decay=False
    )
    result = train(config)
    again = train(two_stage(shapes, tmp_path / "again", iterations=1))
    frozen, free = tensors(result.last_weights), tensors(again.last_weights)
    stages = (
        "backbone.body.conv1.0.weight",
        "backbone.body.stage2.0.branch1.0.weight",
        "backbone.body.stage3.0.branch1.0.weight",
    )
    assert [torch.equal(frozen[name], free[name]) for name in stages] == [False, False, True]
    assert not torch.equal(frozen["box_predictor.cls_score.bias"], free["box_predictor.cls_score.bias"])
