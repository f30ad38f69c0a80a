from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coco_folders import BLOB, read_coco, write_coco
from protomask.data.formats import voc
from protomask.data.formats.convert import convert_dataset
from protomask.errors import DataError, MissingExtraError

NUMBERS = np.array([[0, 1, 1, 255], [0, 1, 255, 2], [0, 0, 2, 2]], dtype=np.uint8)
CLASSES = np.array([[0, 8, 8, 255], [0, 8, 255, 15], [0, 0, 15, 15]], dtype=np.uint8)
OBJECTS = [("cat", NUMBERS == 1), ("person", NUMBERS == 2)]
XML = """<annotation>
  <object><name>person</name><bndbox><xmin>3</xmin><ymin>2</ymin><xmax>4</xmax><ymax>3</ymax></bndbox></object>
  <object><name>cat</name><bndbox><xmin>2</xmin><ymin>1</ymin><xmax>3</xmax><ymax>2</ymax></bndbox></object>
</annotation>"""


def save(numbers: np.ndarray, path: Path, mode: str = "P") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(numbers)
    if mode == "P":
        image.putpalette(voc.palette().tobytes())
    elif mode == "RGB":
        image = Image.fromarray(voc.palette()[numbers])
    image.save(path)


def write(folder: Path, *, classes: np.ndarray | None = CLASSES, xml: str | None = None, mode: str = "P") -> Path:
    save(NUMBERS, folder / "SegmentationObject" / "a.png", mode)
    (folder / "JPEGImages").mkdir()
    Image.new("RGB", (4, 3)).save(folder / "JPEGImages" / "a.jpg")
    if classes is not None:
        save(classes, folder / "SegmentationClass" / "a.png", mode)
    if xml is not None:
        (folder / "Annotations").mkdir()
        (folder / "Annotations" / "a.xml").write_text(xml)
    return folder


def convert(folder: Path, **options: Any) -> tuple[list[tuple[str, bytes]], tuple[str, ...]]:
    done = convert_dataset(folder, folder.parent / "out", output_format="coco", **options)
    return [(name, mask) for name, _, mask in read_coco(folder.parent / "out")["a.jpg"]], done.remarks


def test_the_palette_is_that_of_voc() -> None:
    assert voc.palette()[[0, 1, 2, 15, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [192, 128, 128],
        [224, 224, 192],
    ]


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_objects_have_the_class_on_their_pixels(tmp_path: Path, mode: str) -> None:
    found, remarks = convert(write(tmp_path / "voc", mode=mode))
    assert found == [(name, mask.tobytes()) for name, mask in OBJECTS]
    assert remarks == (
        f"1 images with void pixels, which belong to no object (first: {tmp_path}/voc/SegmentationObject/a.png)",
    )


@pytest.mark.parametrize("classes", [None, np.where(CLASSES == 15, 255, CLASSES).astype(np.uint8)])
def test_boxes_give_the_class_where_masks_do_not(tmp_path: Path, classes: np.ndarray | None) -> None:
    found, _ = convert(write(tmp_path / "voc", classes=classes, xml=XML))
    assert found == [(name, mask.tobytes()) for name, mask in OBJECTS]


def test_lists_are_splits(tmp_path: Path) -> None:
    folder = write(tmp_path / "voc")
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("a\n")
    (lists / "trainval.txt").write_text("a\n")
    Image.new("RGB", (4, 3)).save(folder / "JPEGImages" / "boxes_only.jpg")
    done = convert_dataset(folder, tmp_path / "out", output_format="coco")
    assert done.images == {"val": 1}
    assert done.remarks[0].startswith("1 images without masks, or in no list")
    (lists / "val.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match="SegmentationObject: b: the image of these masks does not exist"):
        convert_dataset(folder, tmp_path / "other", output_format="coco")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": None}, r"a\.png: object 1: no class: SegmentationClass has none"),
        ({"classes": None, "xml": "<annotation>"}, r"a\.xml: cannot be read as VOC annotation"),
        ({"classes": None, "xml": XML.replace(">3<", ">x<")}, r"a\.xml: cannot be read as VOC annotation"),
        ({"classes": None, "xml": XML.replace("cat", "gnu")}, "object 1: its box is of class 'gnu'"),
        ({"classes": CLASSES + np.uint8(20)}, r"a\.png: object 1 has class 28, there are 20 class names"),
        ({"classes": CLASSES[:2]}, r"SegmentationClass/a\.png: 4x2 px, its image .*SegmentationObject"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert(write(tmp_path / "voc", **options))


def test_wrong_images_and_folders(tmp_path: Path) -> None:
    folder = write(tmp_path / "voc")
    Image.new("RGB", (5, 3)).save(folder / "JPEGImages" / "a.jpg")
    with pytest.raises(DataError, match=r"SegmentationObject/a\.png: 4x3 px, its image .*a\.jpg is 5x3 px"):
        convert(folder)
    Image.new("RGB", (4, 3)).save(folder / "JPEGImages" / "a.jpg")
    Image.new("RGB", (4, 3), (1, 2, 3)).save(folder / "SegmentationObject" / "a.png")
    with pytest.raises(DataError, match=r"a\.png: the colour #010203 is not in the palette"):
        convert(folder)
    (folder / "SegmentationObject" / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image"):
        convert(folder)
    (folder / "SegmentationObject").rename(folder / "Masks")
    with pytest.raises(DataError, match="SegmentationObject: no such folder; classes and boxes alone"):
        convert(folder)


def write_sbd(folder: Path, **changes: Any) -> Path:
    io = pytest.importorskip("scipy.io")
    for name in ("img", "inst"):
        (folder / "dataset" / name).mkdir(parents=True)
    Image.new("RGB", (4, 3)).save(folder / "dataset" / "img" / "a.jpg")
    numbers = np.where(NUMBERS == 255, 0, NUMBERS).astype(np.uint8)
    truth = {"Segmentation": numbers, "Categories": np.array([[8], [15]], dtype=np.uint8)} | changes
    io.savemat(folder / "dataset" / "inst" / "a.mat", {"GTinst": truth})
    (folder / "dataset" / "val.txt").write_text("a\n")
    return folder


def test_sbd(tmp_path: Path) -> None:
    done = convert_dataset(write_sbd(tmp_path / "sbd"), tmp_path / "out", output_format="coco")
    assert (done.source_format, done.images, done.remarks) == ("voc", {"val": 1}, ())
    assert read_coco(tmp_path / "out", "val")["a.jpg"] == [(name, False, mask.tobytes()) for name, mask in OBJECTS]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Categories": np.array([[8]], dtype=np.uint8)}, r"a\.mat: object 2: expected a category from 1 to 20"),
        ({"Categories": np.array([[8], [21]])}, r"a\.mat: object 2: expected a category from 1 to 20"),
        ({"Segmentation": np.ones((2, 2), dtype=np.uint8)}, r"a\.mat: 2x2 px, its image"),
    ],
)
def test_wrong_sbd(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert_dataset(write_sbd(tmp_path / "sbd", **changes), tmp_path / "out", output_format="coco")


def test_sbd_without_scipy_and_with_a_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_sbd(tmp_path / "sbd")
    (folder / "dataset" / "inst" / "a.mat").write_bytes(b"no matrix")
    with pytest.raises(DataError, match=r"a\.mat: expected GTinst with Segmentation and Categories"):
        convert_dataset(folder, tmp_path / "out", output_format="coco")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(MissingExtraError, match=r"need SciPy: pip install 'protomask\[sbd\]'"):
        convert_dataset(folder, tmp_path / "out", output_format="coco")


def test_what_is_written_is_what_readers_of_voc_expect(tmp_path: Path) -> None:
    source = write_coco(tmp_path / "coco", {"a.png": [("dog", BLOB), ("cell*", ~BLOB)]}, split="val")
    done = convert_dataset(source, tmp_path / "voc", output_format="voc")
    assert any("images are not .jpg" in remark for remark in done.remarks)
    for name, number in (("SegmentationClass", 2), ("SegmentationObject", 1)):
        with Image.open(tmp_path / "voc" / name / "a.png") as image:
            assert image.mode == "P"
            assert np.array_equal(np.asarray(image), np.where(BLOB, number, 255))
            assert (image.getpalette() or [])[3:6] == [128, 0, 0]
    assert (tmp_path / "voc" / "ImageSets" / "Segmentation" / "val.txt").read_text() == "a\n"
    assert voc._read_boxes(tmp_path / "voc" / "Annotations" / "a.xml") == [("dog", [6.0, 1.0, 9.0, 3.0])]


def test_only_254_objects_fit(tmp_path: Path) -> None:
    masks = []
    for index in range(256):
        mask = np.zeros((16, 34), dtype=np.bool_)
        row, column = divmod(index, 16)
        mask[row, 2 * column : 2 * column + (1 if index in (3, 200) else 2)] = True
        masks.append(("cell", mask))
    source = write_coco(tmp_path / "coco", {"a.jpg": masks})
    done = convert_dataset(source, tmp_path / "voc", output_format="voc")
    assert done.remarks == ("2 objects left out, VOC has 254 per image: the smallest (first: a.jpg)",)
    convert_dataset(tmp_path / "voc", tmp_path / "out", output_format="coco")
    kept = [item for item in read_coco(source)["a.jpg"] if np.frombuffer(item[2], dtype=np.bool_).sum() == 2]
    assert read_coco(tmp_path / "out")["a.jpg"] == kept
