"""Every format and back, whole data sets at a time."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from coco_folders import BLOB, RING, read_coco, write_coco
from drawn_masks import drawn
from protomask.data.coco.segmentation import encode_segmentation
from protomask.data.formats import yolo
from protomask.data.formats.convert import WRITERS, convert_dataset, detect_format
from protomask.data.formats.records import ImageRecord, ObjectRecord, Remarks
from protomask.errors import ConfigError, DataError
from protomask.masks.rle import encode_rle
from protomask.masks.segmentations import segmentation_of_mask

BRIDGES = "written as one outline with bridges"
FORMATS = sorted(set(WRITERS) - {"coco"})
bitmaps = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14))


@st.composite
def scenes(draw: st.DrawFn) -> list[tuple[str, np.ndarray]]:
    """Up to four objects of two classes, random pixels that do not overlap."""
    size = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    numbers = draw(hnp.arrays(np.int8, size, elements=st.integers(0, 4)))
    classes = draw(st.lists(st.sampled_from(["cell", "dog"]), min_size=4, max_size=4))
    return [(classes[index], numbers == index + 1) for index in range(4) if (numbers == index + 1).any()]


def there_and_back(source: Path, output_format: str, **options: Any) -> tuple[Path, list[str]]:
    folder = source.parent
    there = convert_dataset(source, folder / "there", output_format=output_format, **options)
    back = convert_dataset(folder / "there", folder / "back", output_format="coco")
    assert back.source_format == {"label-maps": "masks"}.get(output_format, output_format)
    assert not back.remarks
    return folder / "back", list(there.remarks)


@pytest.mark.parametrize("output_format", FORMATS)
@given(first=scenes(), second=scenes())
@settings(max_examples=15, deadline=None)
def test_random_masks_come_back_pixel_by_pixel(
    output_format: str, first: list[tuple[str, np.ndarray]], second: list[tuple[str, np.ndarray]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        source = write_coco(Path(name) / "coco", {"a.jpg": first, "b.jpg": second, "empty.jpg": []})
        back, remarks = there_and_back(source, output_format)
        assert all(BRIDGES in remark for remark in remarks)
        assert read_coco(back) == read_coco(source)


@given(bitmaps)
@settings(max_examples=150, deadline=None)
def test_outlines_and_bridged_outlines_rasterise_to_their_mask(mask: np.ndarray) -> None:
    size = (mask.shape[0], mask.shape[1])
    code = encode_rle(mask[None])[0]
    segmentation: Any = segmentation_of_mask(mask)
    if mask.any():
        assert encode_segmentation(segmentation, size) == code
        image = ImageRecord(source=b"", name="a", size=size, objects=[])
        line = yolo._outline(ObjectRecord(label=0, segmentation=code), code, image, Remarks())
        pixels = np.reshape([float(word) for word in line.split()], (-1, 2)) * (size[1], size[0])
        assert encode_segmentation([pixels.round(3).ravel().tolist()], size) == code
    else:
        assert segmentation == []


@pytest.mark.parametrize("output_format", FORMATS)
def test_holes_parts_splits_and_class_order_stay(tmp_path: Path, output_format: str) -> None:
    names = ("zebra", "ant", "never seen")
    source = write_coco(tmp_path / "coco", {"a.jpg": [("zebra", RING), ("ant", BLOB)]}, class_names=names)
    write_coco(source, {"b.jpg": [("ant", RING)], "c.jpg": []}, split="val", class_names=names)
    back, remarks = there_and_back(source, output_format)
    assert [BRIDGES in remark for remark in remarks] == ([True] if output_format == "yolo" else [])
    for split in ("train", "val"):
        assert read_coco(back, split) == read_coco(source, split)
    categories = json.loads((back / "annotations" / "val.json").read_text())["categories"]
    assert [category["name"] for category in categories] == list(names)


@pytest.mark.parametrize("output_format", FORMATS)
def test_real_polygons_come_back(tmp_path: Path, output_format: str) -> None:
    triangle, pair = [[1.17, 0.5, 9.83, 2.25, 3.1, 7.7]], [[1, 1, 4, 1, 4, 4], [6.5, 5.5, 11, 5.5, 11, 9.25, 6.5, 9]]
    outside = [[-3.5, 2.2, 5.1, -4.0, 16.3, 11.7, 2.2, 5.0]]
    objects = [("cell", polygon) for polygon in (triangle, pair, outside)]
    source = write_coco(tmp_path / "coco", {f"{index}.jpg": [thing] for index, thing in enumerate(objects)})
    back, _ = there_and_back(source, output_format)
    assert read_coco(back) == read_coco(source)
    if output_format in ("yolo", "labelme"):
        content = json.loads((back / "annotations" / "train.json").read_text())
        assert content["annotations"][0]["segmentation"] == triangle


LOST = {
    "masks": [("crowd regions left out", 1), ("cover no pixel", 1)],
    "label-maps": [("crowd regions left out", 1), ("cover no pixel", 1), ("lost pixels", 1), ("wholly covered", 1)],
    "voc": [("written as void", 1), ("cover no pixel", 1), ("lost pixels", 1), ("wholly covered", 1)],
    "yolo": [("crowd regions left out", 1), ("cover no pixel", 1)],
    "labelme": [],
    "coco": [],
}


@pytest.mark.parametrize("output_format", LOST)
def test_what_is_lost_is_counted(tmp_path: Path, output_format: str) -> None:
    big = drawn("######", "######", "######", "######")
    small, twin = drawn("......", ".##...", ".##...", "......"), drawn("......", "......", "......", "....##")
    nothing = [[1.0, 1.0, 1.05, 1.0, 1.05, 1.05]]
    objects: list[tuple[str, Any]] = [("cell", thing) for thing in (big, small, twin, twin, nothing)]
    source = write_coco(tmp_path / "coco", {"fine.jpg": [], "a.jpg": [*objects, ("cell*", big)]}, size=(4, 6))
    done = convert_dataset(source, tmp_path / "there", output_format=output_format)
    assert len(done.remarks) == len(LOST[output_format]), done.remarks
    for phrase, count in LOST[output_format]:
        (line,) = [remark for remark in done.remarks if phrase in remark]
        assert line.startswith(f"{count} ")
        assert line.endswith("(first: a.jpg)")


def test_coco_keeps_what_it_says_beyond_the_objects(tmp_path: Path) -> None:
    source = write_coco(tmp_path / "coco", {"deep/a.jpg": [("cell", BLOB)]})
    file = source / "annotations" / "train.json"
    content = json.loads(file.read_text())
    content["images"][0] |= {"id": 41, "license": 3}
    content["annotations"][0] |= {"id": 900, "image_id": 41, "bbox": [6, 1, 3, 2.5], "area": 4.5, "score": 0.5}
    content["categories"][0]["supercategory"] = "thing"
    file.write_text(json.dumps(content))
    done = convert_dataset(source, tmp_path / "out", output_format="coco", link_images=True)
    again = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    content["images"][0]["file_name"] = "a.jpg"
    assert again == content
    assert (tmp_path / "out" / "images" / "train" / "a.jpg").samefile(source / "images" / "train" / "deep" / "a.jpg")
    assert (done.images, done.objects, done.remarks) == ({"train": 1}, {"train": 1}, ())


@pytest.mark.parametrize("output_format", WRITERS)
def test_names_that_collide_get_their_folders(tmp_path: Path, output_format: str) -> None:
    images = {f"{name}": [("cell", BLOB)] for name in ("x/1.jpg", "y/1.png", "y/1.jpg", "2.jpg", "X_1.jpg")}
    source = write_coco(tmp_path / "coco", images)
    there = tmp_path / "there"
    convert_dataset(source, there, output_format=output_format)
    convert_dataset(there, tmp_path / "back", output_format="coco")
    reds = {}
    for path in (tmp_path / "back" / "images" / "train").iterdir():
        with Image.open(path) as image:
            reds[path.name] = np.asarray(image)[..., 0].max() // 8
    assert len(reds) == 5
    assert len({Path(name).stem.lower() for name in reds}) == 5
    assert reds["2.jpg"] == 20
    assert len(set(reds.values())) == 5


@pytest.mark.parametrize(("orientation", "upright"), [(3, (6, 4)), (6, (4, 6))])
def test_exif_orientation_is_applied_or_dropped(tmp_path: Path, orientation: int, upright: tuple[int, int]) -> None:
    """The frame of the objects stays that of the pixels, whatever a reader makes of the tag."""
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[:2, :2] = 255
    for folder in ("yolo/images", "yolo/labels", "coco"):
        (tmp_path / folder).mkdir(parents=True)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "yolo" / "images" / "a.png", exif=exif)
    (tmp_path / "yolo" / "classes.txt").write_text("corner\n")
    # Upright, the white corner is at the bottom right (turned by 180 degrees) or top right (turned by 90).
    box = {3: (4, 2, 6, 4), 6: (2, 0, 4, 2)}[orientation]
    x1, y1, x2, y2 = np.array(box) / np.tile(upright, 2)
    (tmp_path / "yolo" / "labels" / "a.txt").write_text(f"0 {x1} {y1} {x2} {y1} {x2} {y2} {x1} {y2}\n")
    done = convert_dataset(tmp_path / "yolo", tmp_path / "there", output_format="coco")
    assert "EXIF orientation" in done.remarks[0]
    with Image.open(tmp_path / "there" / "images" / "train" / "a.png") as turned:
        assert turned.size == upright
        assert not turned.getexif().get(0x0112)
        white = np.asarray(turned)[..., 0] == 255
    ((name, _, mask),) = read_coco(tmp_path / "there")["a.png"]
    assert (name, mask) == ("corner", white.tobytes())


def test_a_broken_image_that_must_be_turned_is_named(tmp_path: Path) -> None:
    source = write_coco(tmp_path / "coco", {"a.jpg": [("cell", BLOB)]})
    path = source / "images" / "train" / "a.jpg"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*BLOB.shape, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = 3
    image.save(path, exif=exif, quality=100)
    path.write_bytes(path.read_bytes()[:-30])  # part of the pixels, whatever Pillow makes of the rest
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read as an image: "):
        convert_dataset(source, tmp_path / "out", output_format="yolo")
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]


def test_nothing_is_left_of_a_conversion_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_coco(tmp_path / "coco", {"a.jpg": [("cell", BLOB)], "b.jpg": []})

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", fail)
    with pytest.raises(DataError, match=r"out: cannot be written.*No space"):
        convert_dataset(source, tmp_path / "out", output_format="yolo")
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]


def test_boxes_can_be_kept_to_learn_from(tmp_path: Path) -> None:
    source = write_coco(tmp_path / "coco", {"a.jpg": [("cell", BLOB), ("dog", []), ("dog", [])]})
    file = source / "annotations" / "train.json"
    content = json.loads(file.read_text())
    content["annotations"][1] |= {"bbox": [2, 1, 3.0, 4]}
    file.write_text(json.dumps(content))
    plain = convert_dataset(source, tmp_path / "plain", output_format="coco")
    assert sum(plain.objects.values()) == 1
    kept = convert_dataset(source, tmp_path / "kept", output_format="coco", keep_boxes=True)
    assert "1 objects without an outline kept" in kept.remarks[-1] + kept.remarks[0]
    entries = json.loads((tmp_path / "kept" / "annotations" / "train.json").read_text())["annotations"]
    assert [entry.get("mask_source") for entry in entries] == [None, "box"]  # the third has no box either
    box = np.zeros_like(BLOB)
    box[1:5, 2:5] = True
    assert ("dog", False, box.tobytes()) in read_coco(tmp_path / "kept")["a.jpg"]


def test_an_output_that_exists_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="does not exist yet"):
        convert_dataset(tmp_path, tmp_path / "out", output_format="yolo")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_format": "csv"}, "output_format: expected one of coco"),
        ({"source_format": "csv"}, "source_format: expected auto or one of"),
        ({"split": (0.5, 0.6)}, "split: expected two or three shares"),
        ({"split": (1.0,)}, "split: expected two or three shares"),
        ({"split": (0.5, 0.5), "group_by": "("}, "group_by: expected a regular expression"),
        ({"group_by": "a"}, "group_by: expected a split"),
        ({"keep_boxes": True}, "keep_boxes: expected a source of coco or yolo and the output coco, got coco and yolo"),
        ({"split": (0.4, 0.3, 0.3)}, "split: expected at least 3 images"),
        ({"split": (0.5, 0.5), "group_by": "jpg"}, "split: expected at least 2 images or groups to split, got 1"),
    ],
)
def test_impossible_settings(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    source = write_coco(tmp_path / "coco", {"a.jpg": [("cell", BLOB)], "b.jpg": []})
    with pytest.raises(ConfigError, match=message):
        convert_dataset(source, tmp_path / "out", **{"output_format": "yolo", **options})
    assert not (tmp_path / "out").exists()


def test_detection_says_what_it_looked_for_or_saw(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no format fits; expected COCO"):
        detect_format(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        detect_format(tmp_path / "nowhere")
    source = write_coco(tmp_path / "coco", {"a.jpg": []})
    assert detect_format(source) == ("coco", "annotations/train.json")
    assert detect_format(source / "annotations" / "train.json")[0] == "coco"
    (source / "labels" / "train").mkdir(parents=True)
    (source / "labels" / "train" / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"more than one format fits: coco .*, yolo"):
        detect_format(source)


@pytest.mark.parametrize("layout", ["official", "roboflow", "flat", "json", "yaml", "elsewhere"])
def test_where_coco_files_lie(tmp_path: Path, layout: str) -> None:
    source = write_coco(tmp_path / "coco", {"a.jpg": [("cell", BLOB)]})
    json_file, images = source / "annotations" / "train.json", source / "images" / "train"
    place = tmp_path / "place"
    options: dict[str, Any] = {}
    place.mkdir()
    if layout == "official":
        (place / "annotations").mkdir()
        json_file.rename(place / "annotations" / "instances_train2017.json")
        (place / "annotations" / "captions_train2017.json").write_text("{}")
        images.rename(place / "train2017")
    elif layout == "roboflow":
        images.rename(place / "train")
        json_file.rename(place / "train" / "_annotations.coco.json")
    elif layout == "flat":
        json_file.rename(place / "labels.json")
        images.rename(place / "images")
    elif layout == "yaml":
        place = place / "data.yaml"
        keys = {f"{split}_annotations": str(json_file) for split in ("train", "val")}
        keys |= {f"{split}_images": str(images) for split in ("train", "val")}
        place.write_text("".join(f"{key}: {value}\n" for key, value in keys.items()))
    else:
        place = json_file
        if layout == "elsewhere":
            images.rename(tmp_path / "far")
            options = {"image_dir": tmp_path / "far"}
    done = convert_dataset(place, tmp_path / "out", output_format="coco", **options)
    assert done.images["train"] == 1
    assert done.source_format == "coco"


def test_repairs_of_a_coco_file_are_told(tmp_path: Path) -> None:
    objects = [("cell", [[1, 1, 2]]), ("cell", [[1, 1, 1e9, 1, 3, 3]]), ("cell", BLOB)]
    source = write_coco(tmp_path / "coco", {"a.jpg": objects, "b.png": [("cell", BLOB)]}, size=(6, 12))
    Image.new("RGB", (24, 12)).save(source / "images" / "train" / "b.png")
    done = convert_dataset(source, tmp_path / "out", output_format="voc")
    phrases = ("expected at least 3 points", "not finite or absurdly large", "differ in size from the JSON")
    assert all(any(phrase in remark for remark in done.remarks) for phrase in phrases)
    with Image.open(tmp_path / "out" / "SegmentationObject" / "b.png") as numbers:
        assert numbers.size == (24, 12)
        assert (np.asarray(numbers) == 1).sum() == 4 * BLOB.sum()


def test_a_broken_code_names_its_annotation(tmp_path: Path) -> None:
    source = write_coco(tmp_path / "coco", {"a.jpg": [("cell", {"size": [10, 12], "counts": "01"})]})
    with pytest.raises(DataError, match=r"train.json: image 1 annotation 1: segmentation cannot be decoded"):
        convert_dataset(source, tmp_path / "out", output_format="voc")


def test_class_names_decide_the_order(tmp_path: Path) -> None:
    source = write_coco(tmp_path / "coco", {"a.jpg": [("cell", BLOB), ("dog", RING)]})
    convert_dataset(source, tmp_path / "out", output_format="yolo", class_names=["dog", "cat", "cell"])
    lines = (tmp_path / "out" / "labels" / "train" / "a.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["2", "0"]
    with pytest.raises(DataError, match="the class names do not match: given dog, found cell, dog"):
        convert_dataset(source, tmp_path / "other", output_format="yolo", class_names=["dog"])


def test_splits_with_other_names_stay_in_coco_only(tmp_path: Path) -> None:
    source = write_coco(tmp_path / "coco", {"a.jpg": []}, split="morning")
    write_coco(source, {"b.jpg": []}, split="evening")
    assert convert_dataset(source, tmp_path / "out", output_format="coco").images == {"evening": 1, "morning": 1}
    with pytest.raises(DataError, match="got evening, morning"):
        convert_dataset(source, tmp_path / "yolo", output_format="yolo")
    done = convert_dataset(source, tmp_path / "yolo", output_format="yolo", split=(0.5, 0.5))
    assert done.images == {"train": 1, "val": 1}


@pytest.mark.data
@pytest.mark.parametrize("output_format", ["yolo", "labelme", "masks"])
def test_real_annotations_come_back(data_dir: Path, tmp_path: Path, output_format: str) -> None:
    """Everyday polygons, holes and parts, written by people."""
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    (tmp_path / "coco" / "images").symlink_to(data_dir / "coco-mini" / "images")
    content = json.loads((data_dir / "coco-mini" / "annotations" / "val.json").read_text())
    content["images"] = content["images"][:12]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [
        entry for entry in content["annotations"] if entry["image_id"] in kept and not entry["iscrowd"]
    ]
    (tmp_path / "coco" / "annotations" / "val.json").write_text(json.dumps(content))
    back, remarks = there_and_back(tmp_path / "coco", output_format)
    assert all(BRIDGES in remark for remark in remarks)
    assert read_coco(back, "val") == read_coco(tmp_path / "coco", "val")


def test_some_of_the_classes_of_a_yaml(tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    for split in ("train", "val"):
        write_coco(folder, {"a.png": [("cell", RING), ("dog", BLOB)]}, split=split)
    lines = [
        f"{split}_{kind}: {folder}/{place}"
        for split in ("train", "val")
        for kind, place in (("annotations", f"annotations/{split}.json"), ("images", f"images/{split}"))
    ]
    (tmp_path / "set.yaml").write_text("\n".join([*lines, "classes: [dog]"]))
    done = convert_dataset(str(tmp_path / "set.yaml"), str(tmp_path / "out"), output_format="yolo")
    assert (done.class_names, done.objects) == (("dog",), {"train": 1, "val": 1})
