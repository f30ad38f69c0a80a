from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

pytest.importorskip("pyarrow")

from safetensors.torch import load_file

if TYPE_CHECKING:
    from cli.conftest import Run


def test_training_on_shards_is_training_on_the_folder(
    run: Run, scenes: Path, tiny_options: str, tmp_path: Path
) -> None:
    outcome = run("data", "shard", scenes, tmp_path / "shards", "--shard-size", 4)
    assert outcome.code == 0, outcome.err
    assert "train: 6 images with " in outcome.out
    for name, data in (("folder", scenes), ("parquet", tmp_path / "shards")):
        settings = (
            "--data", data, "--output", tmp_path / name, "--model", "yolact_nano", "--image-size", 64,
            "--model-options", tiny_options, "--no-pretrained-backbone", "--batch-size", 2, "--iterations", 2,
            "--freeze-bn", "false", "--num-workers", 0, "--device", "cpu", "--no-report", "--augmentation.mosaic", 0.5,
        )  # fmt: skip
        trained = run("train", *settings)
        assert trained.code == 0, trained.err
    weights, others = (load_file(tmp_path / name / "last.safetensors") for name in ("folder", "parquet"))
    assert [key for key in weights if not torch.equal(weights[key], others[key])] == []


def test_one_json_summary(run: Run, scenes: Path, tmp_path: Path) -> None:
    told = run("data", "shard", scenes, tmp_path / "shards", "--json").json
    assert {name: split["images"] for name, split in told["splits"].items()} == {"train": 6, "val": 3}
    assert run("data", "shard", scenes, tmp_path / "other", "--shard-size", 0).code == 2
