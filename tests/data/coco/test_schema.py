from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from coco_content import HEIGHT, IMAGE, SQUARE, WIDTH, annotation, content
from protomask.data.coco.schema import read_schema
from protomask.errors import DataError
from protomask.structures.coco_json import CocoFile, Fault


def schema_faults(data: dict[str, Any], class_names: list[str] | None = None) -> list[Fault]:
    return read_schema(CocoFile(Path("a.json"), data), class_names)[1]


def test_what_a_sound_file_says() -> None:
    schema, faults = read_schema(CocoFile(Path("a.json"), content(annotation())))
    assert faults == []
    assert (schema.class_names, schema.category_ids) == (("dog", "cat"), (3, 9))
    assert (schema.image_ids, schema.image_sizes, schema.file_names) == ((7,), [(HEIGHT, WIDTH)], ["a.png"])
    [[found]] = schema.annotations
    assert (found.annotation_id, found.label, found.segmentation) == (11, 0, [SQUARE])
    assert schema.problems == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [],\n "annotations": [}', r"a\.json: line 2 column 18: not valid JSON"),
        ("[]", r"a\.json: expected an object .* got a list"),
    ],
)
def test_a_file_that_cannot_be_parsed(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        CocoFile.read(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"images": [], "annotations": []}, r"^a\.json: key 'categories' is missing"),
        (content(images={}), r"^a\.json: expected 'images' to be a list, got dict"),
    ],
)
def test_a_file_without_its_lists(data: dict[str, Any], message: str) -> None:
    with pytest.raises(Fault, match=message):
        schema_faults(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (content(images=[3]), r"expected images\[0\] to be an object, got int"),
        (content(images=[{"id": 7, "file_name": "a.png", "width": 3}]), r"image 7\): key 'height' is missing"),
        (content(images=[IMAGE, IMAGE]), r"images\[1\] \(image 7\): the image id occurs twice"),
        (content(images=[IMAGE | {"id": "7"}]), r"expected an integer image id, got '7'"),
        (content(images=[IMAGE | {"width": 0}]), r"image 7\): expected a positive width and height, got 0 and 20"),
        (
            content(images=[IMAGE | {"width": float("inf")}]),
            r"image 7\): expected a positive width and height, got inf",
        ),
        (content(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]), r"category id 1 occurs twice"),
        (
            content(
                annotation(category_id=1),
                annotation(id=12, category_id=2),
                categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}],
            ),
            r"names occur more than once: a",
        ),
        (content(categories=[{"id": 1}]), r"categories\[0\]: expected an integer id and a name"),
        (content(annotation(category_id=None)), r"image 7 annotation 11\): key 'category_id' is missing"),
        (content(annotation(category_id=5)), r"a\.json: image 7 annotation 11: unknown category_id 5.* are 3, 9"),
        (content(annotation(), annotation()), r"image 7 annotation 11: the annotation id occurs twice"),
        (content(annotation(image_id=8)), r"image 8 annotation 11: no image has the id 8"),
        (content(annotation(id="x")), r"expected an integer annotation id, got 'x'"),
        (content(annotation(bbox=[1, 2, 3])), r"image 7 annotation 11: expected a bbox of four numbers"),
        (content(annotation(segmentation="x")), r"image 7 annotation 11: expected a segmentation"),
        (content(annotation(segmentation=SQUARE)), r"image 7 annotation 11: expected polygons as lists"),
        (content(annotation(segmentation={"size": [20, 30], "counts": [1, 2]})), r"counts that sum to 20 x 30 = 600"),
        (content(annotation(segmentation={"size": [20], "counts": "x"})), r"expected an RLE size"),
        (
            content(annotation(segmentation={"size": [20, 30], "counts": 5})),
            r"expected RLE counts as a list or a string",
        ),
    ],
)
def test_faults_name_the_item(data: dict[str, Any], message: str) -> None:
    [fault] = schema_faults(data)
    assert str(fault).startswith("a.json: ")
    assert re.search(message, str(fault))


def test_all_faults_are_found_and_what_hangs_on_them_is_not_told() -> None:
    data = content(
        annotation(id=1, image_id=8),
        annotation(id=2, category_id=4),
        annotation(id=3, iscrowd=7),
        images=[IMAGE, IMAGE | {"id": "8"}],
        categories=[{"id": 3, "name": "dog"}, {"id": 4}],
    )
    assert [fault.kind for fault in schema_faults(data)] == ["category", "image id", "iscrowd"]
    assert [fault.kind for fault in schema_faults(content(), ["cat"])] == ["class names"]


def _roboflow(*others: str, parent: str = "things", own: str = "none") -> dict[str, Any]:
    """Two classes and the category that Roboflow writes before them."""
    entries = [{"id": 0, "name": parent, "supercategory": own}]
    entries += [{"id": 3 * index, "name": name, "supercategory": "things"} for index, name in enumerate(others, 1)]
    return content(annotation(category_id=3), categories=entries)


@pytest.mark.parametrize("class_names", [None, ["cat", "dog"]])
def test_an_unused_parent_of_all_is_no_class(class_names: list[str] | None) -> None:
    schema, faults = read_schema(CocoFile(Path("a.json"), _roboflow("dog", "cat")), class_names)
    assert faults == []
    assert set(zip(schema.class_names, schema.category_ids, strict=True)) == {("dog", 3), ("cat", 6)}
    assert schema.notes == ["category 0 (things) is the parent of all others and has no object, left out"]


def test_an_unused_parent_of_the_name_of_its_only_class() -> None:
    for class_names in (None, ["things"]):
        schema, faults = read_schema(CocoFile(Path("a.json"), _roboflow("things")), class_names)
        assert (faults, schema.class_names, schema.category_ids) == ([], ("things",), (3,))


def test_parents_that_are_classes() -> None:
    used = _roboflow("dog", "cat")
    used["annotations"][0]["category_id"] = 0
    for data, names in (
        (used, ["things", "dog", "cat"]),  # it has objects
        (_roboflow("dog", "cat", own="thing"), ["things", "dog", "cat"]),  # it has a parent
        (_roboflow("dog", "cat", parent="rest"), ["rest", "dog", "cat"]),  # it is not a parent
        (_roboflow(), ["things"]),  # there is nothing else
    ):
        schema, _ = read_schema(CocoFile(Path("a.json"), data))
        assert list(schema.class_names) == names
    schema, faults = read_schema(CocoFile(Path("a.json"), _roboflow("dog", "cat")), ["things", "dog", "cat"])
    assert (faults, schema.category_ids) == ([], (0, 3, 6))  # it is asked for
