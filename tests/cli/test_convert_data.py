from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import exports
from coco_folders import BLOB, RING, read_coco, write_coco
from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.layout import open_dataset

if TYPE_CHECKING:
    from cli.conftest import Run


NOTHING = "note: no image has an object, so nothing can be learned from this data set\n"


@pytest.mark.parametrize("kind", ["coco", "yolo", "labelme", "voc", "masks", "label-maps"])
def test_there_and_back(run: Run, tmp_path: Path, kind: str) -> None:
    source = write_coco(tmp_path / "source", {"a.jpg": [("cell", BLOB), ("dog", RING)], "b.jpg": []})
    write_coco(source, {"c.jpg": [("dog", BLOB)]}, split="val")
    there = run("data", "convert", source, tmp_path / "there", "--to", kind)
    assert there.code == 0, there.err
    assert there.out.splitlines() == [
        f"{source}: coco (annotations/train.json)",
        f"{tmp_path / 'there'}: {kind}, 2 classes, train 2 images with 2 objects, val 1 images with 1 objects",
    ]
    assert there.err == (
        "note: 1 objects with holes or several parts written as one outline with bridges (first: a.jpg)\n"
        if kind == "yolo"
        else ""
    )
    from_ = kind if kind != "label-maps" else "masks"
    back = run("data", "convert", tmp_path / "there", tmp_path / "back", "--from", from_)
    assert (back.code, back.err) == (0, "")
    for split in ("train", "val"):
        assert read_coco(tmp_path / "back", split) == read_coco(source, split)


def test_split_and_train_on_it(run: Run, tmp_path: Path) -> None:
    images = {f"{number // 2}_{number % 2}.jpg": [("cell", BLOB)] for number in range(10)}
    source = write_coco(tmp_path / "source", images)
    assert "--split 0.8,0.2 makes a validation split" in run("data", "convert", source, tmp_path / "same").out
    told = run(
        "data",
        "convert",
        source,
        tmp_path / "out",
        "--split",
        "80,20",
        "--group-by",
        "^[^_]+",
        "--json",
        "--seed",
        3,
    ).json
    assert told["images"] == {"train": 8, "val": 2}
    assert told["remarks"] == []
    paths = open_dataset(tmp_path / "out")
    val = CocoDataset.of_split(paths, "val")
    assert len({val.image_path(index).name.split("_")[0] for index in range(2)}) == 1


def test_a_data_set_without_objects_is_said_so(run: Run, tmp_path: Path) -> None:
    source = write_coco(tmp_path / "source", {"a.jpg": []})
    outcome = run("data", "convert", source, tmp_path / "out")
    assert (outcome.code, outcome.err) == (0, NOTHING)


def test_missing_images_and_the_option_that_skips_them(run: Run, tmp_path: Path) -> None:
    source = write_coco(tmp_path / "source", {"a.jpg": [("cell", BLOB)], "b.jpg": []})
    (source / "images" / "train" / "b.jpg").unlink()
    outcome = run("data", "convert", source, tmp_path / "out")
    assert outcome.code == 1
    assert "1 of 2 image files are missing" in outcome.err
    assert "skip_missing" in outcome.err
    outcome = run("data", "convert", source, tmp_path / "out", "--skip-missing")
    assert (outcome.code, outcome.out.splitlines()[1][-29:]) == (0, "train 1 images with 1 objects")
    assert outcome.err.startswith("note: 1 listed images that are not there left out")


@pytest.mark.parametrize("verb", [["train", "--data"], ["eval", "--model", "yolact_nano", "--data"], ["data", "check"]])
def test_other_formats_are_recognised(run: Run, tmp_path: Path, verb: list[str]) -> None:
    source = tmp_path / "export"
    exports.write_cvat(write_coco(tmp_path / "source", {"a.jpg": [("cell", BLOB)]}), source)
    outcome = run(*verb, source)
    assert outcome.code == 1
    expected = f"(annotations.xml): `protomask data convert {source} {source}-converted"
    assert f"{expected} --split 0.8,0.2` makes a data set of it" in outcome.out + outcome.err


def test_what_cannot_be_done(run: Run, tmp_path: Path) -> None:
    source = write_coco(tmp_path / "source", {"a.jpg": []})
    for arguments, code, message in (
        (["--split", "[0.8]"], 2, "split: expected two or three shares"),
        (["--to", "csv"], 2, "--to: expected {coco,yolo,labelme,voc,masks,label-maps}, got 'csv'"),
        (["--from", "voc"], 1, "SegmentationObject: no such folder"),
    ):
        outcome = run("data", "convert", source, tmp_path / "out", *arguments)
        assert outcome.code == code
        assert message in outcome.err
        assert "Traceback" not in outcome.err
        assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert run("data", "convert", source, source).code == 2
    assert run("data", "convert", tmp_path / "nowhere", tmp_path / "out").code == 1
