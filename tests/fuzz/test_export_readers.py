"""Readers of what labelling tools export, given inputs that were damaged at random; see `fuzz.test_data_readers`."""

from __future__ import annotations

import base64
import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from exports import brush_code, cvat_runs, png
from fuzz.test_data_readers import (
    HEIGHT,
    WIDTH,
    _convert,
    damaged,
    damaged_bytes,
    label_maps,
    many,
    numbers,
    odd,
    sane,
    write_json,
)
from protomask.masks.brush import decode_brush

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
MASK = np.zeros((HEIGHT, WIDTH), dtype=bool)
MASK[2:6, 3:9] = True


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an image."""
    made = tmp_path_factory.mktemp("export") / "set"
    made.mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(made / "a.png")
    return made


CVAT = f"""<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>
<meta><task><labels><label><name>a</name><type>any</type></label></labels></task></meta>
<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">
<polygon label="a" points="1.0,1.0;9.0,1.0;9.0,7.0" occluded="1" group_id="1">
<attribute name="x">y</attribute></polygon>
<mask label="a" rle="{cvat_runs(MASK[2:6, 2:9])}" left="2" top="2" width="7" height="4" group_id="1"></mask>
<ellipse label="b" cx="4" cy="4" rx="2" ry="3" rotation="30"></ellipse><box label="a"></box></image></annotations>
""".encode()
values = st.one_of(numbers.map(repr), st.text(max_size=6), st.sampled_from(["1e999", "9" * 5000, "-5", "", "nan"]))


@st.composite
def damaged_xml(draw: st.DrawFn) -> bytes:
    """The file with a value of an attribute replaced, or with other bytes."""
    if draw(st.booleans()):
        return draw(damaged_bytes(CVAT))
    parts = CVAT.split(b'"')
    index = 2 * draw(st.integers(0, len(parts) // 2 - 1)) + 1
    text = draw(values).encode("utf-8", "replace")
    parts[index] = text.replace(b"&", b"").replace(b'"', b"").replace(b"<", b"")
    return b'"'.join(parts)


@many
@given(content=damaged_xml())
def test_cvat(folder: Path, content: bytes) -> None:
    (folder / "annotations.xml").write_bytes(content)
    with sane():
        _convert(folder)


def _region(kind: str, value: dict[str, Any]) -> dict[str, Any]:
    sizes = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {**sizes, "id": kind, "type": kind, "value": {**value, kind: ["a"]}}


URL = "data:image/png;base64," + base64.b64encode(png(MASK)).decode()
REGIONS = [
    _region("polygonlabels", {"points": [[10, 10], [60, 10], [60, 70]], "closed": True}),
    _region("ellipselabels", {"x": 50, "y": 50, "radiusX": 20, "radiusY": 10, "rotation": 30}),
    _region("brushlabels", {"format": "rle", "rle": brush_code(MASK)}),
    _region("bitmasklabels", {"imageDataURL": URL}),
    _region("rectanglelabels", {"x": 1, "y": 1, "width": 10, "height": 10, "rotation": 5}),
]
TASKS: list[dict[str, Any]] = [
    {"id": 1, "annotations": [{"id": 1, "result": REGIONS, "was_cancelled": False}], "data": {"image": "/data/a.png"}},
    {"id": 2, "image": "a.png", "label": [{**REGIONS[0]["value"], "original_width": WIDTH, "original_height": HEIGHT}]},
]


@many
@given(content=damaged(TASKS))
def test_label_studio(folder: Path, content: Any) -> None:
    write_json(folder / "tasks.json", content)
    with sane():
        _convert(folder)


@many
@given(code=st.one_of(damaged_bytes(bytes(brush_code(MASK))).map(list), st.lists(st.integers(-1, 256)), odd))
def test_brushes(code: Any) -> None:
    with sane():
        assert decode_brush(code, MASK.size).shape == (MASK.size,)


@many
@given(start=damaged_bytes(bytes(brush_code(MASK)[:12])), rest=st.binary(max_size=2000), side=st.integers(1, 3000))
def test_brushes_of_any_size(start: bytes, rest: bytes, side: int) -> None:
    with sane():
        decode_brush(list((4 * side * side).to_bytes(4, "big") + start[4:] + rest), side * side)


PATCH = base64.b64encode(zlib.compress(png(MASK[2:6, 3:9]))).decode()
SUPERVISELY: dict[str, Any] = {
    "size": {"height": HEIGHT, "width": WIDTH},
    "objects": [
        {"classTitle": "a", "geometryType": "polygon",
         "points": {"exterior": [[1, 1], [9, 1], [9, 7]], "interior": [[[4, 2], [8, 2], [8, 4]]]}, "instance": "x"},
        {"classTitle": "a", "geometryType": "bitmap", "bitmap": {"data": PATCH, "origin": [3, 2]}, "instance": "x"},
        {"classTitle": "b", "geometryType": "rectangle", "points": {"exterior": [[1, 1], [4, 4]], "interior": []}},
    ],
}  # fmt: skip


def _convert_supervisely(folder: Path, content: Any, meta: Any) -> None:
    for name in ("img", "ann"):
        (folder / "ds" / name).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "ds" / "img" / "a.png")
    write_json(folder / "ds" / "ann" / "a.png.json", content)
    write_json(folder / "meta.json", meta)
    _convert(folder)


@many
@given(content=damaged(SUPERVISELY), meta=damaged({"classes": [{"title": "a", "shape": "any"}]}))
def test_supervisely(folder: Path, content: Any, meta: Any) -> None:
    with sane():
        _convert_supervisely(folder, content, meta)


@cache
def _bomb(size: int) -> bytes:
    return zlib.compress(bytes(size << 19))


@many
@given(data=damaged_bytes(zlib.compress(png(MASK))), more=st.integers(0, 40))
def test_bitmaps_of_supervisely(folder: Path, data: bytes, more: int) -> None:
    if more > 35:
        data = _bomb(more)
    text = base64.b64encode(data).decode()
    found = {"classTitle": "a", "geometryType": "bitmap", "bitmap": {"data": text, "origin": [3, 2]}}
    with sane():
        _convert_supervisely(folder, {**SUPERVISELY, "objects": [found]}, {"classes": []})


PANOPTIC: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}],
    "annotations": [
        {"image_id": 1, "file_name": "a.png", "segments_info": [
            {"id": 1, "category_id": 1, "iscrowd": 0}, {"id": 2, "category_id": 2, "iscrowd": 0}]},
    ],
    "categories": [{"id": 1, "name": "a", "isthing": 1}, {"id": 2, "name": "b", "isthing": 0}],
}  # fmt: skip
COLOURS = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
COLOURS[2:6, 3:9, 0] = 1


@many
@given(content=damaged(PANOPTIC), colours=st.one_of(damaged_bytes(png(COLOURS)), label_maps()))
def test_panoptic(folder: Path, content: Any, colours: bytes) -> None:
    (folder / "panoptic").mkdir(exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "a.jpg")
    (folder / "panoptic" / "a.png").write_bytes(colours)
    write_json(folder / "panoptic.json", content)
    with sane():
        _convert(folder)


VIA_CSV = (
    b"filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
    b'a.png,1,"{}",2,0,"{""name"":""polygon"",""all_points_x"":[1,9,9],""all_points_y"":[1,1,7]}","{""label"":""a""}"\n'
    b'a.png,1,"{}",2,1,"{""name"":""ellipse"",""cx"":5,""cy"":5,""rx"":3,""ry"":2,""theta"":1}","{""label"":""b""}"\n'
)


@many
@given(content=damaged_bytes(VIA_CSV))
def test_via_csv(folder: Path, content: bytes) -> None:
    (folder / "via.csv").write_bytes(content)
    with sane():
        _convert(folder)


def test_the_sound_inputs_are_read(folder: Path) -> None:
    """Otherwise what is damaged would never be reached."""
    image = folder / "a.png"
    for name, content in (("annotations.xml", CVAT), ("tasks.json", json.dumps(TASKS).encode()), ("v.csv", VIA_CSV)):
        own = folder / name.partition(".")[0]
        own.mkdir()
        (own / "a.png").write_bytes(image.read_bytes())
        (own / name).write_bytes(content)
        _convert(own)
    assert decode_brush(brush_code(MASK), MASK.size).sum() == MASK.sum()
    own = folder / "p"
    (own / "panoptic").mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(own / "a.jpg")
    (own / "panoptic" / "a.png").write_bytes(png(COLOURS))
    write_json(own / "panoptic.json", PANOPTIC)
    _convert(own)
    _convert_supervisely(folder / "s", SUPERVISELY, {"classes": []})
