from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coco_folders import convert, read_coco, written
from drawn_masks import drawn
from exports import cvat_runs, mask_of
from protomask.errors import DataError

SQUARE = (
    '<polygon label="cat" source="manual" occluded="0" points="1.00,1.00;4.00,1.00;4.00,3.00" z_order="0"></polygon>'
)
META = (
    "<meta><task><labels><label><name>dog</name><type>any</type></label><label><name>cat</name><type>polygon</type>"
    "</label><label><name>rainy</name><type>tag</type></label></labels></task></meta>"
)


def write(
    folder: Path, *shapes: str, image: str = 'id="0" name="a.png" width="8" height="6"', meta: str = META
) -> Path:
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(folder / "images" / "a.png")
    body = f"<image {image}>{''.join(shapes)}</image>"
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}{body}</annotations>'
    (folder / "annotations.xml").write_text(text)
    return folder


def test_polygons_masks_and_attributes(tmp_path: Path) -> None:
    patch = drawn("#.#", "###")
    mask = f'<mask label="dog" occluded="1" rle="{cvat_runs(patch)}" left="4" top="3" width="3" height="2" z_order="1">'
    source = write(tmp_path / "in", SQUARE, f'{mask}<attribute name="breed">pug</attribute></mask>')
    done = convert(source)
    assert (done.source_format, done.class_names, done.remarks) == ("cvat", ("dog", "cat"), ())
    polygon, other = written(source)
    assert polygon["segmentation"] == [[1, 1, 4, 1, 4, 3]]
    assert "attributes" not in polygon
    assert other["attributes"] == {"occluded": True, "breed": "pug"}
    expected = np.zeros((6, 8), dtype=bool)
    expected[3:5, 4:7] = patch
    assert (mask_of(other["segmentation"], (6, 8)) == expected).all()


def test_a_mask_that_leaves_the_image_is_cut(tmp_path: Path) -> None:
    source = write(tmp_path / "in", '<mask label="cat" rle="0, 12" left="-2" top="4" width="4" height="3"></mask>')
    convert(source)
    [found] = written(source)
    assert found["area"] == 2 * 2


def test_an_ellipse_is_a_polygon_that_turns_clockwise(tmp_path: Path) -> None:
    shape = '<ellipse label="cat" cx="4" cy="3" rx="3" ry="1" rotation="90.0" occluded="0"></ellipse>'
    source = write(tmp_path / "in", shape)
    convert(source)
    [found] = written(source)
    rows, columns = np.nonzero(mask_of(found["segmentation"], (6, 8)))
    assert np.ptp(rows) > np.ptp(columns)
    points = np.reshape(found["segmentation"], (-1, 2)) - (4, 3)
    assert np.allclose(np.square(points / (1, 3)).sum(axis=1), 1)


def test_grouped_shapes_of_a_label_are_one_object(tmp_path: Path) -> None:
    grouped = [SQUARE.replace("<polygon", '<polygon group_id="1"')] * 2
    other = SQUARE.replace("<polygon", '<polygon group_id="1"').replace("cat", "dog")
    source = write(tmp_path / "in", *grouped, other, SQUARE.replace("<polygon", '<polygon group_id="0"'), SQUARE)
    convert(source)
    assert [len(found["segmentation"]) for found in written(source)] == [2, 1, 1, 1]


def test_what_has_no_mask_is_counted(tmp_path: Path) -> None:
    shapes = [f"<{kind} label='cat'></{kind}>" for kind in ("box", "box", "polyline", "points", "cuboid", "skeleton")]
    done = convert(write(tmp_path / "in", *shapes, '<tag label="rainy"></tag>', SQUARE))
    assert [remark.split(", they")[0] for remark in done.remarks] == [
        "3 boxes left out",
        "3 points, lines and skeletons left out",
    ]
    assert done.objects == {"train": 1}


def test_subsets_are_splits(tmp_path: Path) -> None:
    source = write(tmp_path / "in", SQUARE, image='id="0" name="a.png" subset="Validation" width="8" height="6"')
    assert convert(source).images == {"val": 1}


@pytest.mark.parametrize(("size", "is_upright"), [((8, 6), False), ((6, 8), True)])
def test_the_size_says_whether_an_image_is_turned(tmp_path: Path, size: tuple[int, int], is_upright: bool) -> None:
    source = write(tmp_path / "in", SQUARE, image=f'id="0" name="a.png" width="{size[0]}" height="{size[1]}"')
    image = Image.new("RGB", (8, 6))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(source / "images" / "a.png", exif=exif)
    convert(source)
    with Image.open(tmp_path / "out" / "images" / "train" / "a.png") as saved:
        assert saved.size == size
    assert len(read_coco(tmp_path / "out")["a.png"]) == 1


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (SQUARE.replace("4.00,3.00", "4.00"), r"image 'a.png': shape 0 \(polygon\): points: expected"),
        (SQUARE.replace(";4.00,3.00", ""), "points: expected 3 points or more, got 2"),
        (SQUARE.replace("4.00,3.00", "nan,3.00"), "points: expected a number of px"),
        ('<mask label="a" rle="9" left="0" top="0" width="2" height="2"/>', r"rle: expected runs that sum to 2 x 2"),
        ('<mask label="a" rle="-1, 3" left="0" top="0" width="2" height="2"/>', "rle: expected runs"),
        ('<mask label="a" rle="x" left="0" top="0" width="2" height="2"/>', "rle: expected lengths of runs"),
        ('<mask label="a" rle="9" left="0" top="0" width="90000" height="90000"/>', "expected a part of an image of"),
        ('<mask label="a" rle="9" left="0" top="0" height="2"/>', "width: expected a number of px, got None"),
        ('<ellipse label="a" cx="1" cy="inf" rx="1" ry="1"/>', "cy: expected a number of px"),
        ('<blob label="a"/>', "expected polygons, masks and ellipses, got 'blob'"),
    ],
)
def test_a_wrong_shape_is_named(tmp_path: Path, shape: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert(write(tmp_path / "in", shape))


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image 'a.png': 7x6 px, the file is 8x6 px"):
        convert(write(tmp_path / "size", SQUARE, image='id="0" name="a.png" width="7" height="6"'))
    with pytest.raises(DataError, match=r"image 'a.png': 1{10}x6 px, the file is 8x6 px"):
        convert(write(tmp_path / "long", SQUARE, image=f'id="0" name="a.png" width="{"1" * 5000}" height="6"'))
    with pytest.raises(DataError, match="got tracks; export the task as CVAT for images"):
        convert(write(tmp_path / "video", meta='<track id="0" label="cat"></track>'))
    source = write(tmp_path / "doctype")
    file = source / "annotations.xml"
    file.write_text(file.read_text().replace("<annotations>", "<!DOCTYPE a><annotations>"))
    with pytest.raises(DataError, match="DOCTYPE"):
        convert(source)
    file.write_text("<annotations><image>")
    with pytest.raises(DataError, match="cannot be read as XML"):
        convert(source)
