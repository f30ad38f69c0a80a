from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import protomask
from engine.test_run import Recorder, settings, shapes
from protomask.engine.config import TrainConfig
from protomask.engine.recipes import with_recipe
from protomask.engine.result import TrainResult
from protomask.engine.run import train
from protomask.models.zoo import zoo_entry

__all__ = ["shapes"]
NARROW: dict[str, Any] = {
    "backbone": "shufflenet_v2_x1_0",
    "rpn_channels": 8,
    "head_channels": 8,
    "anchor_sizes": [16, 32],
    "rpn_candidates": 50,
    "max_proposals": 20,
    "hard_regions": 8,
    "max_image_size": 90,
}


def fcis(data: Path, output: Path, **changes: Any) -> TrainConfig:
    return settings(data, output, **{"model": "fcis_resnet50", "model_options": NARROW, "iterations": 3, **changes})


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, Recorder]:
    recorder = Recorder()
    return train(fcis(shapes, tmp_path_factory.mktemp("runs") / "run"), reporter=recorder), recorder


def test_a_run_from_images_to_predictions(trained: tuple[TrainResult, Recorder], shapes: Path) -> None:
    result, recorder = trained
    assert {name for name in recorder.steps[0] if name.startswith("loss_")} == {
        "loss_objectness", "loss_rpn_box", "loss_class", "loss_box", "loss_mask", "loss_total",
    }  # fmt: skip
    assert all(step["skipped_steps"] == 0 for step in recorder.steps)
    image = next((shapes / "images" / "val").iterdir())
    found = protomask.load(result.best).predict(image, score_threshold=0, tile=48)
    assert found.class_names == ("box", "slab")


def test_the_official_recipe_fits_the_official_model() -> None:
    config = with_recipe("fcis_paper", {"data": "mydata", "model": "fcis_resnet101"})
    preset: Any = zoo_entry("fcis_resnet101").preset()
    assert config.image_size == preset.image_size
    assert config.model_options == {"max_image_size": preset.max_image_size}
    assert config.freezes_batch_norm
