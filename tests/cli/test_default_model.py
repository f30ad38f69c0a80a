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

ONE = ((2, 3, 10, 9), 0, 250)


@pytest.mark.parametrize(
    ("objects", "options", "said"),
    [
        ([ONE], {}, False),
        ([], {}, True),
        ([ONE], {"score_threshold": 0.999}, True),
        ([], {"classes": ["nut"]}, False),  # the image may hold others
    ],
)
def test_images_in_which_nothing_was_found(
    objects: list[tuple[tuple[int, int, int, int], int, int]],
    options: dict[str, object],
    said: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    predictor, settled = FakePredictor(), PredictOptions(**options)  # type: ignore[arg-type]
    image = scene((40, 50), *objects)
    notes = DefaultModelNotes(predictor, settled)
    notes.see(Frame(image, source="a.png", found=predictor.predict(image, settled)))
    notes.end()
    assert ("found nothing that it knows in 1 of 1 images" in capsys.readouterr().err) == said


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
    assert first.startswith("note: no --model was named: everyday knows photographs of person, bicycle, ")
    assert "for COCO's 80 classes use --model yolact_resnet50" in first
    assert last.startswith("note: everyday found nothing that it knows in 1 of 1 images")
    assert outcome.json["failed"] == 0


def test_with_a_model_there_are_none(run: Run, gray: Path, tmp_path: Path) -> None:
    outcome = run("predict", gray, "--save-dir", tmp_path, "--model", "yolact_nano")
    assert (outcome.code, outcome.err) == (0, "")
