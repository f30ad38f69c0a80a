"""The way of a modern prototype model from data to an evaluated weights file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import protomask
from protomask.data.synthetic.shapes import CLASS_NAMES
from protomask.data.synthetic.write import write_dataset
from tiny_proto import SMALL


@pytest.mark.slow
@pytest.mark.parametrize("mask_head", ["linear", "dynamic"])
def test_a_modern_model_is_trained_evaluated_and_loaded(mask_head: str, tmp_path: Path) -> None:
    write_dataset(tmp_path / "shapes", images=8, val_images=3, seed=0)
    options = {**SMALL, "mask_head": mask_head, "duplicates": "average" if mask_head == "linear" else "drop"}
    size = options.pop("image_size")
    result = protomask.train(
        data=tmp_path / "shapes", model="protomask_n", output=tmp_path / "run", image_size=size, model_options=options,
        iterations=4, batch_size=2, pretrained_backbone=False, num_workers=0, trackers=(), device="cpu",
    )  # fmt: skip
    assert result.iteration == 4
    assert result.skipped_steps == 0
    assert result.best is not None
    metrics = protomask.evaluate(result.best, data=tmp_path / "shapes")
    assert 0 <= (metrics.tables["mask"].AP or 0) <= 1
    model = protomask.load(result.best)
    assert model.class_names == CLASS_NAMES
    found = model.predict(np.zeros((40, 60, 3), dtype=np.uint8), score_threshold=0)
    assert found.masks.shape[1:] == (40, 60)
