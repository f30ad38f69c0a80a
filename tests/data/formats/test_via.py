from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from protomask.data.formats.convert import convert_dataset
from protomask.errors import DataError

HEADER = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
POLYGON = '"{""name"":""polygon"",""all_points_x"":[1,4,4],""all_points_y"":[1,1,3]}"'
ROWS = (
    f'a.png,123,"{{}}",2,0,{POLYGON},"{{""label"":""cat""}}"',
    'a.png,123,"{}",2,1,"{""name"":""rect"",""x"":1,""y"":2,""width"":3,""height"":2}","{""label"":""dog""}"',
    'b.png,124,"{}",0,0,"{}","{}"',
)


def write(folder: Path, *rows: str, header: str = HEADER) -> Path:
    (folder / "images").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 6)).save(folder / "images" / name)
    (folder / "via_export_csv.csv").write_text("\n".join((header, *rows)) + "\n")
    return folder


def written(folder: Path) -> list[dict[str, Any]]:
    convert_dataset(folder, folder.parent / "out", output_format="coco")
    content = json.loads((folder.parent / "out" / "annotations" / "train.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.png", "b.png"]
    found: list[dict[str, Any]] = content["annotations"]
    return found


@pytest.mark.parametrize("header", [HEADER, f"#{HEADER}"])  # of versions 2 and 1
def test_csv(tmp_path: Path, header: str) -> None:
    polygon, rect = written(write(tmp_path / "in", *ROWS, header=header))
    assert polygon["segmentation"] == [[1, 1, 4, 1, 4, 3]]
    assert rect["segmentation"] == [[1, 2, 4, 2, 4, 4, 1, 4]]


def test_a_long_outline_is_one_field(tmp_path: Path) -> None:
    points = ",".join(map(str, [1, 4, 4] * 40_000))
    long = f'"{{""name"":""polygon"",""all_points_x"":[{points}],""all_points_y"":[{points}]}}"'
    [found] = written(write(tmp_path / "in", f'a.png,1,"{{}}",1,0,{long},"{{}}"', ROWS[2]))
    assert len(found["segmentation"][0]) == 240_000


def test_a_project_beside_its_export_is_read_once(tmp_path: Path) -> None:
    source = write(tmp_path / "in", *ROWS)
    image = {"filename": "a.png", "size": 1, "regions": [], "file_attributes": {}}
    (source / "project.json").write_text(json.dumps({"_via_settings": {}, "_via_img_metadata": {"a.png1": image}}))
    assert convert_dataset(source, tmp_path / "out", output_format="coco").objects == {"train": 0}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png,1", r"row 2: expected 7 fields with a filename, got 2"),
        ("a.png,1,{},1,0,{,{}", r"row 2: region_shape_attributes: not valid JSON"),
        ("a.png,1,{},1,0,7,{}", r"row 2: region_shape_attributes: expected an object, got 7"),
        ('a.png,1,{},1,0,"{""name"":""blob""}",{}', r"a\.png: regions\[0\]: expected one of polygon.*got 'blob'"),
        (ROWS[0].replace("[1,4,4]", "[1,4]"), "expected 3 points or more with x and y each, got 2 and 3"),
        (
            ROWS[0].replace("a.png", "c.png"),
            r"filename: no image 'c\.png' in .*did you mean [ab]\.png\?; skip_missing leaves",
        ),
        (ROWS[0].replace("a.png", "../"), "filename: expected the name of an image"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert_dataset(write(tmp_path / "in", row), tmp_path / "out", output_format="coco")
