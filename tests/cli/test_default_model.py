from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from fake_predictor import FakePredictor, scene
from protomask.cli.default_model import DefaultModelNotes
from protomask.detection.options import PredictOptions
from protomask.structures.frame import Frame

if TYPE_CHECKING:
    from cli.conftest import Run

HIGH, LOW = ((2, 3, 10, 9), 0, 250), ((12, 20, 30, 28), 1, 100)
SEVERAL = [((0, row, 4, row + 3), 0, score) for row, score in zip(range(0, 40, 4), range(250, 50, -20), strict=True)]


@pytest.mark.parametrize(
    ("objects", "options", "doubtful"),
    [
        ([HIGH], {}, False),
        ([LOW], {}, True),
        ([HIGH, LOW], {}, False),  # mean 0.69
        (SEVERAL[3:], {}, True),  # mean above 0.3: 0.53
        (SEVERAL, {}, False),
        (SEVERAL[3:], {"score_threshold": 0.1}, True),
        (SEVERAL, {"score_threshold": 0.1}, False),
        ([LOW], {"score_threshold": 0.35}, False),  # nothing is known of what scores less
        ([LOW], {"score_threshold": 0.5}, True),  # nothing found
        ([], {}, True),
        ([], {"classes": ["nut"]}, False),  # the image may hold others
    ],
)
def test_images_that_the_default_does_not_know(
    objects: list[tuple[tuple[int, int, int, int], int, int]],
    options: dict[str, object],
    doubtful: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    predictor, settled = FakePredictor(), PredictOptions(**options)  # type: ignore[arg-type]
    image = scene((40, 50), *objects)
    notes = DefaultModelNotes(predictor, settled)
    notes.see(Frame(image, source="a.png", found=predictor.predict(image, settled)))
    notes.end()
    assert ("1 of 1 images do not look like drawn scenes" in capsys.readouterr().err) == doubtful


@pytest.fixture(scope="module")
def gray(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image in which there is nothing."""
    path = tmp_path_factory.mktemp("gray") / "gray.png"
    Image.fromarray(np.full((64, 64, 3), 128, dtype=np.uint8)).save(path)
    return path


def test_without_a_model_notes_say_what_the_default_knows(run: Run, gray: Path, tmp_path: Path) -> None:
    outcome = run("predict", gray, "--save-dir", tmp_path, "--json")
    assert outcome.code == 0
    first, last = outcome.err.splitlines()
    assert first.startswith("note: no --model was named: yolact_nano knows drawn shapes only (disk, ring, ")
    assert "for photographs use --model yolact_resnet50" in first
    assert last.startswith("note: 1 of 1 images do not look like drawn scenes")
    assert outcome.json["failed"] == 0


def test_with_a_model_there_are_none(run: Run, gray: Path, tmp_path: Path) -> None:
    outcome = run("predict", gray, "--save-dir", tmp_path, "--model", "yolact_nano")
    assert (outcome.code, outcome.err) == (0, "")
