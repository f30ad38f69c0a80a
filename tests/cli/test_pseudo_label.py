from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cli.conftest import Run


def test_labels_can_be_trained_on(run: Run, scenes: Path, weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "labelled"
    options = ["--model", weights, "--device", "cpu", "--no-only-unfinished", "--ignore-above", 0.01]
    outcome = run("data", "pseudo-label", scenes, output, *options, "--keep-above", 0.02)
    assert outcome.code == 0, outcome.err
    assert "6 images labelled, 0 left as they are" in outcome.out
    before = json.loads((scenes / "annotations" / "train.json").read_text())
    after = json.loads((output / "annotations" / "train.json").read_text())
    assert len(after["annotations"]) > len(before["annotations"])
    checked = run("data", "check", output / "dataset.yaml", "--json").json
    assert not [problem for problem in checked["problems"] if problem["severity"] == "error"]
    told = run("data", "pseudo-label", scenes, tmp_path / "again", *options, "--keep-above", 0.02, "--json").json
    assert told["added"] == len([one for one in after["annotations"] if "score" in one and not one["iscrowd"]])


def test_an_existing_folder_is_refused(run: Run, scenes: Path, weights: Path) -> None:
    outcome = run("data", "pseudo-label", scenes, scenes, "--model", weights, "--device", "cpu")
    assert outcome.code == 2
    assert "to be new or empty" in outcome.err
