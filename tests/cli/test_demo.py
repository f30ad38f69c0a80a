from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from cli.conftest import Run


@pytest.mark.slow
def test_demo(run: Run, tmp_path: Path) -> None:
    outcome = run("demo", "--save-dir", tmp_path / "demo", "--images", 2)
    assert (outcome.code, outcome.err) == (0, "")
    assert str(tmp_path / "demo") in outcome.out.replace("\n", "")
    for word in ("AP50", "network", "images/s", "photo_1.jpg", "scene_1.jpg"):
        assert word in outcome.out
    pictures = sorted((tmp_path / "demo").glob("*.png"))
    assert pictures
    for picture in pictures:
        Image.open(picture).verify()
    lines = (tmp_path / "demo" / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == len(pictures)
    assert any(json.loads(line)["instances"] for line in lines)


@pytest.mark.slow
def test_demo_json(run: Run, tmp_path: Path) -> None:
    told = run("demo", "--save-dir", tmp_path / "demo", "--images", 2, "--json").json
    assert told["fresh"]["num_images"] == 2
    assert set(told["milliseconds"]) == {"everyday", "shapes"}
    for stages in told["milliseconds"].values():
        assert {"decode", "preprocess", "network", "postprocess"} <= set(stages)
    assert all(row["instances"] > 0 for row in told["found"])
