from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coco_folders import BLOB, RING, read_coco, write_coco
from drawn_masks import drawn
from protomask.data.formats.convert import convert_dataset
from protomask.errors import DataError


def png(pixels: np.ndarray, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return base64.b64encode(buffer.getvalue()).decode()


def shape(points: Any, kind: str | None = "polygon", label: str = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "flags": {}, "group_id": None} | more


def write(folder: Path, *shapes: Any, image: bool = True, **more: Any) -> Path:
    folder.mkdir()
    if image:
        Image.new("RGB", (8, 6)).save(folder / "a.png")
    content: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": "a.png",
        "imageData": None,
    }
    (folder / "a.json").write_text(json.dumps(content | {"imageHeight": 6, "imageWidth": 8} | more))
    return folder


def convert(folder: Path) -> tuple[list[tuple[str, np.ndarray]], tuple[str, ...]]:
    out = folder.parent / "out"
    done = convert_dataset(folder, out, output_format="coco")
    ((_, objects),) = read_coco(out).items()
    return [(name, np.frombuffer(mask, dtype=np.bool_).reshape(6, 8)) for name, _, mask in objects], done.remarks


def box(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((6, 8), dtype=np.bool_)
    mask[y1:y2, x1:x2] = True
    return mask


@pytest.mark.parametrize(
    "given",
    [
        shape([[1, 1], [5, 1], [5, 4], [1, 4]]),
        shape([[1, 1], [5, 1], [5, 4], [1, 4]], None),
        shape([[5, 4], [1, 1]], "rectangle"),
        shape([[1, 1], [5, 1], [5, 4], [1, 4]], "rectangle"),
        shape([[1, 1], [5, 1], [5, 4], [1, 4]], "oriented_rectangle"),
        shape([[1, 1], [4, 3]], "mask", mask=png(np.ones((3, 4), dtype=np.uint8))),
    ],
    ids=["polygon", "no type", "rectangle", "four corners", "oriented", "mask"],
)
def test_shapes(tmp_path: Path, given: dict[str, Any]) -> None:
    ((name, mask),), remarks = convert(write(tmp_path / "labelme", given))
    assert name == "cat"
    assert np.array_equal(mask, box(1, 1, 5, 4))
    assert remarks == ()


def test_a_circle_is_round(tmp_path: Path) -> None:
    folder = write(tmp_path / "labelme", shape([[100, 100], [100, 40]], "circle"), imageHeight=200, imageWidth=200)
    Image.new("RGB", (200, 200)).save(folder / "a.png")
    convert_dataset(folder, tmp_path / "out", output_format="coco")
    content = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    assert content["annotations"][0]["area"] == pytest.approx(math.pi * 60**2, rel=0.005)


def test_a_mask_is_cut_at_the_image(tmp_path: Path) -> None:
    given = shape([[-1, 4], [1, 7]], "mask", mask=png(np.ones((4, 3), dtype=np.uint8) * 255))
    ((_, mask),), _ = convert(write(tmp_path / "labelme", given))
    assert np.array_equal(mask, box(0, 4, 2, 6))


def test_a_group_is_one_object(tmp_path: Path) -> None:
    shapes = [
        shape([[0, 0], [2, 2]], "rectangle", group_id=1),
        shape([[4, 4], [7, 5]], "mask", mask=png(np.ones((2, 4), dtype=np.uint8)), group_id=1),
        shape([[0, 0], [2, 2]], "rectangle", "dog", group_id=1),
        shape([[0, 3], [2, 5]], "rectangle"),
    ]
    found, _ = convert(write(tmp_path / "labelme", *shapes))
    assert sorted((name, int(mask.sum())) for name, mask in found) == [("cat", 4), ("cat", 12), ("dog", 4)]


def test_what_has_no_area_or_no_json_is_left_out_and_counted(tmp_path: Path) -> None:
    shapes = [shape([[1, 1]], "point"), shape([[1, 1], [2, 2]], "line"), shape([[0, 0], [2, 2]], "rectangle")]
    folder = write(tmp_path / "labelme", *shapes)
    Image.new("RGB", (8, 6)).save(folder / "b.png")
    found, remarks = convert(folder)
    assert len(found) == 1
    assert remarks[0].startswith("2 points and lines left out")
    assert remarks[1].startswith("1 images without a JSON left out")
    assert remarks[1].endswith("b.png)")


def test_images_in_a_folder_of_their_own(tmp_path: Path) -> None:
    folder = write(tmp_path / "labelme", shape([[0, 0], [2, 2]], "rectangle"), imagePath="../pictures/other.png")
    (folder / "pictures").mkdir()
    (folder / "json").mkdir()
    (folder / "a.png").rename(folder / "pictures" / "other.png")
    (folder / "a.json").rename(folder / "json" / "a.json")
    found, remarks = convert(folder)
    assert len(found) == 1
    assert remarks == ()


def test_the_image_in_the_json_is_used_where_there_is_no_file(tmp_path: Path) -> None:
    data = png(np.full((6, 8, 3), 200, dtype=np.uint8), "JPEG")
    folder = write(tmp_path / "labelme", image=False, imageData=data, imagePath="..\\pictures\\a.tif")
    convert_dataset(folder, tmp_path / "out", output_format="coco")
    with Image.open(tmp_path / "out" / "images" / "train" / "a.jpg") as image:
        assert image.getpixel((0, 0)) == (200, 200, 200)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (shape([[1, 1], [2, 2]]), r"shapes\[0\] \(cat\): points: expected 3 or more of a polygon, got 2"),
        (shape([[1, 1, 1]] * 3), r"shapes\[0\] \(cat\): points: expected a list of \[x, y\] in px"),
        (shape([[1, 1], [2], [3, 3]]), r"shapes\[0\] \(cat\): points: expected a list of \[x, y\]"),
        (shape("abc"), r"shapes\[0\] \(cat\): points: expected a list of \[x, y\]"),
        (shape([[0, 0], [1e9, 0], [0, 1]]), r"shapes\[0\] \(cat\): points: expected a list of \[x, y\]"),
        (shape([[1, 1]], "circle"), "points: expected 2 of a circle, got 1"),
        (shape([[1, 1]] * 3, "rectangle"), "points: expected 2 of a rectangle, got 3"),
        (shape([[1, 1], [2, 2]], "mask"), "mask: expected a file in base64"),
        (shape([[1, 1], [2, 2]], "mask", mask="AAAA"), "mask: expected a PNG in base64"),
        (shape([[1, 1]] * 3, "blob"), "shape_type: expected one of polygon.*got 'blob'"),
        ({"points": []}, r"shapes\[0\]: expected an object with a label"),
        (7, r"shapes\[0\]: expected an object with a label"),
    ],
)
def test_a_wrong_shape_is_named(tmp_path: Path, given: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"a\.json: {message}|a\.json: shapes\[0\] \(cat\): {message}"):
        convert(write(tmp_path / "labelme", given))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapes": None}, "expected a LabelMe file with a list of shapes, got the keys"),
        ({"imagePath": None}, "imagePath: expected the path of the image, got None"),
        ({"imagePath": "b.png"}, "imagePath: the image .*b.png does not exist"),
        ({"imageWidth": 9}, "imageWidth x imageHeight is 9x6, the image is 8x6"),
        ({"imagePath": "b.png", "imageData": "AAA"}, "imageData: expected a file in base64"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"a\.json: {message}"):
        convert(write(tmp_path / "labelme", **changes))


def test_json_that_is_none_or_another(tmp_path: Path) -> None:
    folder = write(tmp_path / "labelme")
    (folder / "b.json").write_text("{")
    with pytest.raises(DataError, match=r"b\.json: line 1 column 2: not valid JSON"):
        convert(folder)
    (folder / "b.json").write_text("[]")
    with pytest.raises(DataError, match=r"b\.json: expected an object with shapes and imagePath, got a list"):
        convert(folder)
    (folder / "b.json").write_text('{"images": []}')
    with pytest.raises(DataError, match=r"b\.json: expected a LabelMe file with a list of shapes"):
        convert(folder)


def test_what_is_written_is_what_labelme_writes(tmp_path: Path) -> None:
    parts = drawn(*("##........##" if row in (2, 3) else "............" for row in range(6)))
    objects = [("cell", BLOB), ("dog", parts), ("dog", RING), ("dog*", BLOB)]
    source = write_coco(tmp_path / "coco", {"a.jpg": objects})
    convert_dataset(source, tmp_path / "out", output_format="labelme")
    content = json.loads((tmp_path / "out" / "train" / "a.json").read_text())
    assert set(content) == {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"}
    told = [(entry["label"], entry["shape_type"], entry["group_id"], entry["flags"]) for entry in content["shapes"]]
    assert told == [
        ("cell", "polygon", None, {}),
        ("dog", "polygon", 2, {}),
        ("dog", "polygon", 2, {}),
        ("dog", "mask", None, {}),
        ("dog", "polygon", None, {"iscrowd": True}),
    ]
    # Both corners of a mask are pixels of it.
    assert content["shapes"][3]["points"] == [[1, 1], [10, 5]]
