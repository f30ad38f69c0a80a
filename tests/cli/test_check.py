from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from damaged_data import DAMAGES, Damage, write_sound_dataset

if TYPE_CHECKING:
    from cli.conftest import Run

ERRORS = {name: damage for name, damage in DAMAGES.items() if damage.severity == "error"}


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return write_sound_dataset(tmp_path / "data")


@pytest.fixture
def model(tiny_options: str) -> list[str | int]:
    options = json.loads(tiny_options) | {"anchor_scales": [[21.0]] * 5}  # the size of the objects
    return ["--model", "yolact_nano", "--image-size", 64, "--model-options", json.dumps(options)]


def test_report_and_sheet(run: Run, scenes: Path, model: list[str | int], tmp_path: Path) -> None:
    outcome = run("data", "check", scenes, *model, "--save-dir", tmp_path / "out")
    assert outcome.code == 0
    assert "train: 6 images" in outcome.out
    assert "train objects" in outcome.out
    assert "of the training objects have an anchor of IoU 0.4 or more" in outcome.out
    assert "errors: none" in outcome.out
    with Image.open(tmp_path / "out" / "annotations.png") as sheet:
        assert sheet.size == (4 * 368 + 8, 3 * (382 + 8) + 8)  # 6 images of train, 3 of val: 9 tiles
    assert str(tmp_path / "out" / "annotations.png") in outcome.out


def test_json(run: Run, sound: Path, model: list[str | int]) -> None:
    assert run("data", "check", sound, *model, "--json").json["problems"] == []
    DAMAGES["image file empty"].do(sound)
    outcome = run("data", "check", sound, *model, "--json")
    assert outcome.code == 1
    [problem] = outcome.json["problems"]
    assert (problem["severity"], problem["split"], problem["places"]) == ("error", "train", ["image 2 (2.png)"])
    assert outcome.json["splits"]["val"]["objects_of_class"] == {"bolt": 4, "nut": 4, "pin": 4}


def test_sheet_of_damaged_data(run: Run, sound: Path, model: list[str | int], tmp_path: Path) -> None:
    for name in ("image file empty", "bbox of three", "image file missing", "RLE cut off"):
        DAMAGES[name].do(sound)
    outcome = run("data", "check", sound, *model, "--save-dir", tmp_path / "out")
    assert outcome.code == 1
    assert (tmp_path / "out" / "annotations.png").is_file()


def test_no_sheet_without_data(run: Run, model: list[str | int], tmp_path: Path) -> None:
    outcome = run("data", "check", tmp_path / "nosuch", *model, "--save-dir", tmp_path / "out", "--json")
    assert (outcome.code, outcome.json["sheet"]) == (1, None)


@pytest.mark.parametrize("damage", ERRORS.values(), ids=ERRORS.keys())
def test_errors_fail_the_check_and_stop_a_training(
    run: Run, sound: Path, model: list[str | int], tmp_path: Path, damage: Damage
) -> None:
    damage.do(sound)
    checked = run("data", "check", sound, *model)
    options = ["--no-pretrained-backbone", "--num-workers", 0, "--device", "cpu", "--output", tmp_path / "run"]
    trained = run("train", "--data", sound, *model, *options)
    assert (checked.code, trained.code) == (1, 1)
    lines = [line for line in checked.out.splitlines() if line.startswith("  error: ")]
    assert len(lines) == 1
    assert damage.says in lines[0]
    assert damage.says in trained.err
    assert "protomask data check" in trained.err or "is missing, expected the f" in trained.err
    for outcome in (checked, trained):
        assert "Traceback" not in outcome.out + outcome.err
    assert not (tmp_path / "run").exists()


def test_training_tells_warnings_and_goes_on(run: Run, sound: Path, model: list[str | int], tmp_path: Path) -> None:
    for name in ("object twice", "bbox elsewhere"):
        DAMAGES[name].do(sound)
    options = [
        "--data", sound, *model, "--no-pretrained-backbone", "--num-workers", 0, "--device", "cpu", "--iterations", 1,
        "--batch-size", 2, "--freeze-bn", "false",
    ]  # fmt: skip
    told = run("train", *options, "--output", tmp_path / "told")
    assert told.code == 0
    assert "warning: " in told.out
    assert "image 1 annotations 1 and 70: the same object twice" in told.out
    assert "disagrees with the mask" in told.out


def test_training_without_the_check(run: Run, sound: Path, model: list[str | int], tmp_path: Path) -> None:
    DAMAGES["class names differ"].do(sound)
    options = ("--no-check-data", "--no-pretrained-backbone", "--output", tmp_path / "run")
    outcome = run("train", "--data", sound, *model, *options)
    assert outcome.code == 1
    assert "the categories do not match the class names" in outcome.err
    assert "data check" not in outcome.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--model", "nosuch"], 2), (["--image-size", "7"], 2), (["--model-options", '{"x": 1}'], 2)],
)
def test_wrong_options(run: Run, sound: Path, arguments: list[str], code: int) -> None:
    outcome = run("data", "check", sound, *arguments)
    assert outcome.code == code
    assert "Traceback" not in outcome.err


def test_one_split(run: Run, sound: Path, model: list[str | int], tmp_path: Path) -> None:
    DAMAGES["image file empty"].do(sound)  # of train
    outcome = run("data", "check", sound, *model, "--split", "val", "--save-dir", tmp_path / "out")
    assert outcome.code == 0
    assert outcome.out.startswith("val: 4 images")
    assert "train" not in outcome.out
    (sound / "annotations" / "train.json").unlink()
    assert run("data", "check", sound, *model, "--split", "val").code == 0
    assert run("data", "check", sound, *model).code == 1
