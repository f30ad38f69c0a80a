from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from coco_folders import convert, written
from drawn_masks import Bitmap, bitmaps, drawn
from exports import brush_code, mask_of, png
from protomask.errors import DataError
from protomask.masks.brush import decode_brush

POINTS = [[12.5, 50], [50, 50], [50, 100]]
BLOB = drawn("........", "..###...", "..#.#...", "........", ".......#", "........")


def region(kind: str, value: dict[str, Any], name: str | None = "cat", **more: Any) -> dict[str, Any]:
    labels = {} if name is None else {kind: [name]}
    size = {"original_width": 8, "original_height": 6, "image_rotation": 0}
    return {**size, "value": {**value, **labels}, "type": kind, "from_name": "label", "to_name": "image", **more}


def polygon(name: str | None = "cat", **more: Any) -> dict[str, Any]:
    return region("polygonlabels", {"points": POINTS, "closed": True}, name, **more)


def task(*results: dict[str, Any], image: str = "/data/upload/1/0a1b2c3d-a.png", **more: Any) -> dict[str, Any]:
    annotation = {"id": 5, "was_cancelled": False, "ground_truth": False, "result": list(results)}
    return {"id": 9, "annotations": [annotation], "data": {"image": image}, **more}


def write(folder: Path, *tasks: Any, image: str = "a.png", size: tuple[int, int] = (8, 6)) -> Path:
    folder.mkdir()
    Image.new("RGB", size).save(folder / image)
    (folder / "export.json").write_text(json.dumps(list(tasks)))
    return folder


@given(bitmaps)
def test_brushes_come_back_pixel_by_pixel(mask: Bitmap) -> None:
    assert (decode_brush(brush_code(mask), mask.size).reshape(mask.shape) == mask).all()


def test_a_brush_of_the_tool_itself() -> None:
    """Two pixels of which the second is painted, as the package rle-pack writes them: words one by one."""
    bits = f"{8:032b}{7:05b}" + f"{2:04b}{3:04b}{7:04b}{15:04b}" + f"000{7:03b}" + f"{0:08b}" * 4 + f"{9:08b}" * 4
    bits += "0" * (-len(bits) % 8)
    code = list(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    assert decode_brush(code, 2).tolist() == [False, True]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ([], "expected a list of bytes with a run-length code"),
        ("abc", "expected a list of bytes with a run-length code"),
        ([256], "expected a list of bytes"),
        ([0.5], "expected a list of bytes"),
        ([0] * 20, r"expected 4 x 48 words of 8 bits, got 0 of 1"),
        ([255] * 20, r"got 4294967295 of 32"),
        (brush_code(BLOB)[:-2], "does not end with the last pixel"),
    ],
)
def test_a_damaged_brush_is_an_error(code: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_brush(code, BLOB.size)


def test_polygons_ellipses_brushes_and_bitmasks(tmp_path: Path) -> None:
    picture = base64.b64encode(png(np.dstack([BLOB * 255] * 4).astype(np.uint8))).decode()
    source = write(
        tmp_path / "in",
        task(
            polygon("dog"),
            region("ellipselabels", {"x": 50, "y": 50, "radiusX": 25, "radiusY": 50, "rotation": 0}),
            region("brushlabels", {"format": "rle", "rle": brush_code(BLOB)}),
            region("bitmasklabels", {"imageDataURL": f"data:image/png;base64,{picture}"}),
        ),
    )
    done = convert(source)
    assert (done.source_format, done.class_names, done.remarks) == ("label-studio", ("cat", "dog"), ())
    outline, ellipse, brush, bitmask = written(source)
    assert outline["segmentation"] == [[1, 3, 4, 3, 4, 6]]
    points = np.reshape(ellipse["segmentation"], (-1, 2))
    assert np.allclose(np.square((points - (4, 3)) / (2, 3)).sum(axis=1), 1)
    for found in (brush, bitmask):
        assert (mask_of(found["segmentation"], (6, 8)) == BLOB).all()


def test_a_region_and_its_label_may_be_two_results(tmp_path: Path) -> None:
    shape = region("polygon", {"points": POINTS}, None, id="x")
    label = {**region("labels", {"points": POINTS}, "dog", id="x")}
    source = write(tmp_path / "in", task(shape, label))
    assert convert(source).objects == {"train": 1}


def test_a_smaller_copy_was_labelled(tmp_path: Path) -> None:
    brush = region("brushlabels", {"format": "rle", "rle": brush_code(BLOB)})
    source = write(tmp_path / "in", task(polygon(), brush), size=(16, 12))
    convert(source)
    outline, found = written(source)
    assert outline["segmentation"] == [[2, 6, 8, 6, 8, 12]]
    assert (mask_of(found["segmentation"], (12, 16)) == BLOB.repeat(2, 0).repeat(2, 1)).all()


@pytest.mark.parametrize(
    ("listed", "stored"),
    [
        ("/data/upload/1/0a1b2c3d-a.png", "a.png"),
        ("/data/upload/1/0a1b2c3d-a.png", "0a1b2c3d-a.png"),
        ("/data/local-files/?d=some%20folder/a%20b.png", "a b.png"),
        ("https://example.org/x/a%20b.png?key=1", "a b.png"),
        ("s3://bucket/folder/a.png", "a.png"),
        ("C:\\photos\\a.png", "a.png"),
    ],
)
def test_where_images_are(tmp_path: Path, listed: str, stored: str) -> None:
    assert convert(write(tmp_path / "in", task(polygon(), image=listed), image=stored)).images == {"train": 1}


def test_json_min(tmp_path: Path) -> None:
    values = [{**polygon()["value"], "original_width": 8, "original_height": 6}]
    least = {"image": "/data/upload/1/0a1b2c3d-a.png", "id": 1, "label": values, "annotator": 1, "lead_time": 2.5}
    source = write(tmp_path / "in", least)
    assert convert(source).objects == {"train": 1}
    assert written(source)[0]["segmentation"] == [[1, 3, 4, 3, 4, 6]]


def test_which_annotation_of_a_task_counts(tmp_path: Path) -> None:
    several = task(polygon())
    first = several["annotations"][0]
    truth = {**first, "ground_truth": True, "result": []}
    several["annotations"] = [truth, first, {**first, "was_cancelled": True, "result": [polygon(), polygon()]}]
    done = convert(write(tmp_path / "in", several, task(annotations=[])))
    assert done.objects == {"train": 0}
    assert [remark.split(" (")[0] for remark in done.remarks] == [
        "1 tasks with several annotations, of which one was taken",
        "1 tasks without an annotation left out",
    ]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    box = region("rectanglelabels", {"x": 1, "y": 1, "width": 50, "height": 50, "rotation": 30})
    turned = task(polygon(), image="b.png")
    turned["annotations"][0]["result"][0]["image_rotation"] = 90
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    done = convert(write(tmp_path / "in", task(box, polygon(None), choice, polygon()), turned))
    assert done.objects == {"train": 1}
    assert [remark.split(" (")[0] for remark in done.remarks] == [
        "1 rectangles left out, they do not say which pixels an object has",
        "1 regions without a label or an area left out",
        "1 images that were turned while they were labelled left out",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([7], "task 0: expected an object, got 7"),
        ([task(polygon(), annotations=3)], "task 9: annotations: expected a list, got 3"),
        ([task(polygon(), data={"text": "hello"})], "task 9: expected the image of the task, got the keys 'text'"),
        ([task(region("polygonlabels", {"points": [[1, 1]]}))], "region 0: points: expected 3 points or more"),
        ([task(region("polygonlabels", {"points": "x"}))], "region 0: points: expected a list of points"),
        ([task(region("brushlabels", {"rle": [1, 2]}))], "region 0: rle: expected a list of bytes"),
        ([task(region("bitmasklabels", {"imageDataURL": "data:,AAAA"}))], "imageDataURL: expected a PNG"),
        ([task({**polygon(), "original_width": 20})], "original_width x original_height is 20x6, the image is 8x6"),
        ([task({**polygon(), "original_width": 8 * 10**6, "original_height": 6 * 10**6,
                "value": {"rle": [0], "brushlabels": ["a"]}})], "is far larger than the image"),
    ],
)  # fmt: skip
def test_wrong_tasks_are_named(tmp_path: Path, given: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert(write(tmp_path / "in", *given), source_format="label-studio")
