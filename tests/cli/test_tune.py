from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("optuna")

if TYPE_CHECKING:
    from cli.conftest import Run


def test_tune_and_train_with_what_it_found(run: Run, scenes: Path, tiny_options: str, tmp_path: Path) -> None:
    arguments = (
        "tune", "--data", scenes, "--output", tmp_path / "study", "--model", "yolact_nano", "--image-size", 64,
        "--model-options", tiny_options, "--no-pretrained-backbone", "--batch-size", 2, "--num-workers", 0,
        "--device", "cpu", "--iterations", 1, "--space", '{"momentum": [0.9, 0.5]}', "--trackers", "[]",
    )  # fmt: skip
    outcome = run(*arguments, "--trials", 1)
    assert outcome.code == 0, outcome.err
    assert "trial 0: momentum 0.9\n" in outcome.out
    assert re.search(r"best: trial 0 with mask AP 0\.\d+, the given settings reached 0\.\d+\n", outcome.out)
    again = run(*arguments, "--trials", 2, "--resume", "--json")
    assert [trial["state"] for trial in again.json["trials"]] == ["complete", "complete"]
    config = again.json["config_file"]
    printed = run("train", "--config", config, "--output", tmp_path / "run", "--print_config")
    assert (printed.code, "image_size: 64" in printed.out) == (0, True)
    assert run(*arguments).code == 2
