from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.layout import open_dataset
from protomask.structures.youtube_vis import read_youtube_vis

if TYPE_CHECKING:
    from cli.conftest import Run

SMALL = ("--height", 48, "--width", 64, "--workers", 0)


def test_writes_a_data_set_and_says_what(run: Run, tmp_path: Path) -> None:
    outcome = run("data", "synth", tmp_path / "shapes", "--images", 4, "--seed", 3, *SMALL)
    assert outcome.code == 0
    assert outcome.err == ""
    assert "4 training images" in outcome.out
    assert "1 validation images" in outcome.out
    assert len(outcome.out.splitlines()) == 1
    paths = open_dataset(tmp_path / "shapes")
    dataset = CocoDataset.of_split(paths, "train")
    assert len(dataset) == 4
    assert dataset[0][0].shape == (3, 48, 64)
    assert "already there" in run("data", "synth", tmp_path / "shapes", "--images", 4, "--seed", 3, *SMALL).out


def test_json(run: Run, tmp_path: Path) -> None:
    told = run("data", "synth", tmp_path / "shapes", "--images", 2, "--val-images", 2, "--json", *SMALL).json
    assert (told["train_images"], told["val_images"], told["reused"]) == (2, 2, False)
    assert Path(told["directory"]) == tmp_path / "shapes"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [(["--images", -1], 2, "images"), (["--seed", -1], 2, "seed"), (["--height", 2], 2, "32"), ([], 1, "photo.txt")],
    ids=["images", "seed", "size", "other files"],
)
def test_what_cannot_be_done(run: Run, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    (tmp_path / "photo.txt").write_text("mine")
    outcome = run("data", "synth", tmp_path, *SMALL, *arguments)
    assert outcome.code == code
    assert message in outcome.err or str(tmp_path) in outcome.err
    assert (tmp_path / "photo.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["photo.txt"]


def test_videos(run: Run, tmp_path: Path) -> None:
    arguments = ("--video", "--frames", 3, "--seed", 3, "--height", 48, "--width", 64)
    outcome = run("data", "synth", tmp_path / "clips", *arguments)
    assert outcome.code == 0
    assert "1 videos, 3 frames" in outcome.out
    assert read_youtube_vis(tmp_path / "clips" / "annotations" / "val.json").videos[1].num_frames == 3
    assert run("data", "synth", tmp_path / "clips", *arguments).code == 1
    told = run("data", "synth", tmp_path / "clips", *arguments, "--overwrite", "--json").json
    assert (told["videos"], told["frames"]) == (1, 3)
    assert run("data", "synth", tmp_path / "more", "--video", "--overlap", "some").code == 2
