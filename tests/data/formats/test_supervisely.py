from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coco_folders import convert, written
from drawn_masks import drawn
from exports import mask_of, png
from protomask.errors import DataError

SQUARE = [[1, 1], [6, 1], [6, 5], [1, 5]]
HOLE = [[2, 2], [4, 2], [4, 4], [2, 4]]
PATCH = drawn("#.#", "###")


def figure(kind: str, label: str = "cat", **more: Any) -> dict[str, Any]:
    return {"id": 1, "classTitle": label, "geometryType": kind, "tags": [], **more}


def polygon(exterior: Any = SQUARE, interior: Any = (), **more: Any) -> dict[str, Any]:
    return figure("polygon", points={"exterior": exterior, "interior": list(interior)}, **more)


def bitmap(content: bytes, origin: Any = (4, 3), **more: Any) -> dict[str, Any]:
    data = base64.b64encode(content).decode()
    return figure("bitmap", bitmap={"data": data, "origin": list(origin)}, **more)


def write(folder: Path, *objects: Any, size: tuple[int, int] = (6, 8), split: str = "ds", name: str = "a.png") -> Path:
    (folder / split / "img").mkdir(parents=True)
    (folder / split / "ann").mkdir()
    Image.new("RGB", (8, 6)).save(folder / split / "img" / "a.png")
    content = {"description": "", "tags": [], "size": {"height": size[0], "width": size[1]}, "objects": list(objects)}
    (folder / split / "ann" / f"{name}.json").write_text(json.dumps(content))
    shapes = {"dog": "any", "cat": "polygon", "nose": "point"}
    classes = [{"title": title, "shape": shape, "color": "#50E3C2"} for title, shape in shapes.items()]
    (folder / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
    return folder


def masks(folder: Path) -> list[np.ndarray]:
    return [mask_of(entry["segmentation"], (6, 8)) for entry in written(folder)]


def expected(*, holes: bool = False) -> np.ndarray:
    mask = np.zeros((6, 8), dtype=bool)
    mask[1:5, 1:6] = True
    if holes:
        mask[2:4, 2:4] = False
    return mask


def test_polygons_with_holes(tmp_path: Path) -> None:
    source = write(tmp_path / "in", polygon(), polygon(interior=[HOLE]))
    done = convert(source)
    assert (done.source_format, done.class_names, done.remarks) == ("supervisely", ("dog", "cat"), ())
    plain, holed = masks(source)
    assert (plain == expected()).all()
    assert (holed == expected(holes=True)).all()


@pytest.mark.parametrize("mode", ["P", "RGBA", "L", "plain PNG"])
def test_bitmaps(tmp_path: Path, mode: str) -> None:
    """As the SDK writes them (P), as the web page does (RGBA), and not compressed once more."""
    patch = PATCH.astype(np.uint8)
    if mode == "RGBA":
        content = png(np.dstack([np.full_like(patch, 255)] * 3 + [patch * 255]))
    else:
        content = png(patch * 255)
    if mode == "P":
        picture = Image.fromarray(patch, mode="P")
        picture.putpalette([0, 0, 0, 255, 255, 255])
        picture.save(tmp_path / "p.png", transparency=0)
        content = (tmp_path / "p.png").read_bytes()
    source = write(tmp_path / "in", bitmap(content if mode == "plain PNG" else zlib.compress(content)))
    convert(source)
    [mask] = masks(source)
    assert (mask[3:5, 4:7] == PATCH).all()
    assert mask.sum() == PATCH.sum()


def test_bound_objects_are_one(tmp_path: Path) -> None:
    patch = bitmap(zlib.compress(png(PATCH.astype(np.uint8) * 255)), instance="x")
    source = write(tmp_path / "in", polygon(interior=[HOLE], instance="x"), polygon(), patch)
    assert convert(source).objects == {"train": 2}
    both = expected(holes=True)
    both[3:5, 4:7] |= PATCH
    assert [(mask == wanted).all() for mask, wanted in zip(masks(source), (both, expected()), strict=True)] == [
        True
    ] * 2


def test_splits_and_old_names(tmp_path: Path) -> None:
    source = write(tmp_path / "in", polygon(), split="train", name="a")
    write(source, split="val")
    assert convert(source).images == {"train": 1, "val": 1}


def test_what_has_no_mask_is_counted(tmp_path: Path) -> None:
    others = [figure("rectangle"), figure("rectangle"), figure("point", label="nose"), figure("line")]
    done = convert(write(tmp_path / "in", *others))
    assert [remark.split(" (")[0] for remark in done.remarks] == [
        "2 rectangles left out, they do not say which pixels an object has",
        "2 points, lines and other shapes without an area left out",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (polygon(exterior=[[1, 1]]), r"objects\[0\]: exterior: expected 3 points or more, got 1"),
        (polygon(interior=[3]), "interior: expected a list of points"),
        (figure("polygon", points=[1]), "points: expected exterior and interior"),
        (figure("bitmap", bitmap={"origin": [1]}), r"bitmap: expected data and origin \[x, y\]"),
        (bitmap(b"abc"), "bitmap: data: expected a compressed PNG"),
        (bitmap(zlib.compress(b"abc")), "bitmap: data: expected a PNG"),
        (bitmap(zlib.compress(bytes(1 << 25))), "bitmap: data: far larger than the image"),
        (bitmap(zlib.compress(png(np.zeros((1500, 1500), dtype=bool)))), "1500x1500 px are more than the image has"),
        (bitmap(b"", origin=("a", 1)), "origin: expected a number of px"),
        (figure("polygon", label=""), r"objects\[0\]: classTitle: expected the name of a class"),
        (3, "objects: expected a list of objects"),
    ],
)
def test_a_wrong_object_is_named(tmp_path: Path, given: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"a\.png\.json: .*{message}"):
        convert(write(tmp_path / "in", given))


def test_another_size_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"size: .* the image is 8x6 px"):
        convert(write(tmp_path / "in", polygon(), size=(6, 7)))
