from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from coco_folders import BLOB, read_coco, write_coco
from protomask.data.formats.convert import convert_dataset
from protomask.errors import DataError

SQUARE = "0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75"


def write(folder: Path, *lines: str, yaml: str | None = "train: images\nnames: [cat, dog]\n") -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    Image.new("RGB", (8, 4)).save(folder / "images" / "a.png")
    (folder / "labels" / "a.txt").write_text("".join(f"{line}\n" for line in lines))
    if yaml is not None:
        (folder / "data.yaml").write_text(yaml)
    return folder


def convert(folder: Path, **options: object) -> Path:
    out = folder.parent / f"{folder.name}_out"
    convert_dataset(folder, out, output_format="coco", **options)  # type: ignore[arg-type]
    return out


def test_a_polygon_is_rasterised_as_coco_does(tmp_path: Path) -> None:
    out = convert(write(tmp_path / "yolo", f"1 {SQUARE}", "", "0.0 0 0 1 0 1 1"))
    (_, (name, _, mask)) = read_coco(out)["a.png"]
    assert name == "dog"
    assert mask == bytes([0] * 8 + [0, 0, 1, 1, 1, 1, 0, 0] * 2 + [0] * 8)


def test_a_box_can_be_kept_as_the_mask_that_it_is_not(tmp_path: Path) -> None:
    folder = write(tmp_path / "yolo", f"0 {SQUARE}", "1 0.375 0.5 0.25 0.5")
    out = tmp_path / "out"
    done = convert_dataset(folder, out, output_format="coco", keep_boxes=True)
    assert [(name, mask) for name, _, mask in read_coco(out)["a.png"]] == [
        ("cat", bytes([0] * 8 + [0, 0, 1, 1, 1, 1, 0, 0] * 2 + [0] * 8)),
        ("dog", bytes([0] * 8 + [0, 0, 1, 1, 0, 0, 0, 0] * 2 + [0] * 8)),
    ]
    entries = json.loads((out / "annotations" / "train.json").read_text())["annotations"]
    assert [entry.get("mask_source") for entry in entries] == [None, "box"]
    assert any(line.startswith("1 objects without an outline kept") for line in done.remarks)


def test_an_image_without_labels_has_no_objects(tmp_path: Path) -> None:
    folder = write(tmp_path / "yolo", f"0 {SQUARE}")
    Image.new("RGB", (8, 4)).save(folder / "images" / "b.png")
    assert read_coco(convert(folder))["b.png"] == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", "line 2: this is a box"),
        ("0 0.5 0.5 0.2", "line 2: expected a class and 3 points or more, got 4 numbers"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "line 2: expected a class and 3 points or more, got 8 numbers"),
        ("0 a 0.1 0.2 0.2 0.3 0.3", "line 2: expected numbers, got 'a'"),
        ("2 0.1 0.1 0.2 0.2 0.3 0.4", "line 2: expected a class index from 0 to 1, got 2"),
        ("0.5 0.1 0.1 0.2 0.2 0.3 0.4", "line 2: expected a class index from 0 to 1, got 0.5"),
        ("-1 0.1 0.1 0.2 0.2 0.3 0.4", "line 2: expected a class index from 0 to 1, got -1"),
        ("0 10 10 200 20 30 40", "line 2: expected coordinates as shares of the image from 0 to 1, got 10"),
        ("0 nan 0.1 0.2 0.2 0.3 0.4", "line 2: expected coordinates as shares of the image from 0 to 1, got nan"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    folder = write(tmp_path / "yolo", f"0 {SQUARE}", line)
    with pytest.raises(DataError, match=re.escape(f"{folder / 'labels' / 'a.txt'}: {message}")):
        convert(folder)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("train: [\nnames: x", "data.yaml: cannot be read as YAML"),
        ("train: images\nnames: 3", "data.yaml: names: expected a list of names, or names by index from 0; got 3"),
        ("train: images\nnames: {0: a, 2: b}", "data.yaml: names: expected a list"),
        ("train: images\nnames: [a, a]", "data.yaml: names: a class name occurs twice"),
        ("train: pictures\nnames: [a]", "data.yaml: train: 'pictures': expected it in the data set at one of"),
        (None, "no data.yaml or classes.txt names the classes"),
    ],
)
def test_a_wrong_data_yaml(tmp_path: Path, yaml: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert(write(tmp_path / "yolo", f"0 {SQUARE}", yaml=yaml))


def test_a_label_without_image_and_a_broken_image(tmp_path: Path) -> None:
    folder = write(tmp_path / "yolo", f"0 {SQUARE}")
    (folder / "labels" / "b.txt").write_text("")
    with pytest.raises(DataError, match=r"b\.txt: no image of this name in .*images \(1 label files have none\)"):
        convert(folder)
    (folder / "images" / "b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"b\.png: cannot be read as an image"):
        convert(folder)


@pytest.mark.parametrize("layout", ["other root", "roboflow", "list", "no yaml", "names by index"])
def test_where_yolo_files_lie(tmp_path: Path, layout: str) -> None:
    yaml: str | None = "path: ../datasets/mine\ntrain: images\nval:\nnames: [cat, dog]\n"
    if layout == "roboflow":
        yaml = "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n"
    elif layout == "list":
        yaml = "train: train.txt\nnames: [cat, dog]\n"
    elif layout == "names by index":
        yaml = "train: [images]\nnames:\n  1: dog\n  0: cat\n"
    elif layout == "no yaml":
        yaml = None
    folder = write(tmp_path / "yolo", f"1 {SQUARE}", yaml=yaml)
    if layout == "roboflow":
        (folder / "valid" / "images").mkdir(parents=True)
        (folder / "train").mkdir()
        for part in ("images", "labels"):
            (folder / part).rename(folder / "train" / part)
    elif layout == "list":
        (folder / "train.txt").write_text("images/a.png\n")
    out = convert(folder, class_names=["cat", "dog"] if layout == "no yaml" else None)
    assert [name for name, _, _ in read_coco(out)["a.png"]] == ["dog"]


def test_what_is_written_is_what_trainers_read(tmp_path: Path) -> None:
    source = write_coco(tmp_path / "coco", {"a.jpg": [("dog", BLOB)]})
    convert_dataset(source, tmp_path / "yolo", output_format="yolo")
    assert (tmp_path / "yolo" / "data.yaml").read_text() == "train: images/train\nnames:\n  0: cell\n  1: dog\n"
    (line,) = (tmp_path / "yolo" / "labels" / "train" / "a.txt").read_text().splitlines()
    label, *shares = line.split()
    assert label == "1"
    assert all(0 <= float(share) <= 1 for share in shares)
