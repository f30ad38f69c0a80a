from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from damaged_data import DAMAGES, Damage, edited, rectangle, write_sound_dataset
from protomask.data.doctor import split
from protomask.data.doctor.check import check_dataset
from protomask.data.doctor.report import CheckReport
from protomask.errors import DataError
from protomask.ops.anchors import NetworkInput


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return write_sound_dataset(tmp_path / "data")


def network(scale: float = 1.0, **changes: object) -> NetworkInput:
    """Shows images at a scale; its anchors are squares in the middle of cells of 8 px."""
    centres = torch.cartesian_prod(torch.arange(4.0, 512, 8), torch.arange(4.0, 512, 8))

    def anchors(sizes: tuple[tuple[float, ...], ...]) -> list[torch.Tensor]:
        return [torch.cat((centres - size / 2, centres + size / 2), dim=1) for (size,) in sizes]

    made = NetworkInput(
        name="toy",
        resized_size=lambda size: (round(size[0] * scale), round(size[1] * scale)),
        anchor_sizes=((16.0,), (200.0,)),
        anchors=anchors,
        anchors_per_cell=1,
        positive_iou=0.5,
        size_option="anchor_scales",
        flat_sizes=False,
        max_detections=100,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("quick", [False, True])
def test_sound_data_has_no_problem(sound: Path, quick: bool) -> None:
    report = check_dataset(sound, quick=quick)
    assert report.problems == ()
    report.raise_errors()
    train = report.splits["train"]
    assert (train.images, train.objects, train.crowds, train.most_objects) == (6, 18, 0, 3)
    assert train.objects_of_class == {"bolt": 6, "nut": 6, "pin": 6}


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_every_damage_gives_one_clear_message(sound: Path, damage: Damage, quick: bool) -> None:
    damage.do(sound)
    report = check_dataset(sound, quick=quick)
    found = [(problem.severity, problem.kind) for problem in report.problems]
    assert found == [(damage.severity, damage.kind)]
    [problem] = report.problems
    assert damage.says in problem.message
    assert "\n" not in problem.message
    assert "object at 0x" not in problem.message
    assert str(sound) in problem.message
    if damage.severity == "error":
        with pytest.raises(DataError, match="protomask data check"):
            report.raise_errors()


def test_there_are_enough_kinds_of_damage() -> None:
    assert len(DAMAGES) >= 25


def test_all_problems_at_once_worst_first(sound: Path) -> None:
    with edited(sound) as content:
        content["annotations"][4]["iscrowd"] = 1
    for name in ("RLE of another size", "image file empty", "bbox of three"):
        DAMAGES[name].do(sound)
    report = check_dataset(sound)
    assert {problem.severity for problem in report.of("error")} == {"error"}
    assert [problem.severity for problem in report.problems] == ["error", "error", "warning", "note"]
    with pytest.raises(DataError, match=r"2 errors\n.*\n.*\n`protomask data check"):
        report.raise_errors()


def test_places_are_counted_and_the_first_named(sound: Path) -> None:
    with edited(sound) as content:
        for entry in content["annotations"][:7]:
            entry["category_id"] = 77
    [problem] = check_dataset(sound).of("error")
    assert len(problem.places) == 7
    also = "image 1 annotation 2, image 1 annotation 3, image 2 annotation 4, ..."
    assert "image 1 annotation 1: unknown category_id 77" in problem.message
    assert problem.message.endswith(f"(7 in all, also {also})")


def test_what_belongs_to_a_damaged_entry_is_not_told(sound: Path) -> None:
    with edited(sound) as content:
        content["images"][0]["id"] = "1"
        del content["categories"][0]["name"]
    assert sorted(problem.kind for problem in check_dataset(sound).problems) == ["category", "image id"]


def test_pictures_of_both_splits_in_one_folder(sound: Path) -> None:
    folder = sound / "images" / "train"
    for number in range(1, 5):
        (sound / "images" / "val" / f"{number}.png").rename(folder / f"v{number}.png")
    with edited(sound, "val") as content:
        for image in content["images"]:
            image["file_name"] = f"v{image['file_name']}"
    file = sound / "data.yaml"
    file.write_text(
        "train_annotations: annotations/train.json\ntrain_images: images/train\n"
        "val_annotations: annotations/val.json\nval_images: images/train\n"
    )
    assert check_dataset(file).problems == ()


def test_one_split_alone(sound: Path) -> None:
    DAMAGES["class names differ"].do(sound)
    report = check_dataset(sound, splits=("train",))
    assert (list(report.splits), report.problems) == (["train"], ())


def test_a_quick_look_takes_a_few_of_each_split(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "_QUICK_IMAGES", 2)
    monkeypatch.setattr(split, "_QUICK_ANNOTATIONS", 6)
    told: list[tuple[int, int, str]] = []
    report = check_dataset(sound, quick=True, progress=lambda done, total, what: told.append((done, total, what)))
    kinds = [(6, "annotations", "train"), (2, "images", "train"), (4, "annotations", "val"), (2, "images", "val")]
    steps = [f"check {what} of {name}" for count, what, name in kinds for _ in range(count)]
    assert told == [(done, len(steps), text) for done, text in enumerate(steps, start=1)]
    assert report.splits["train"].objects == 18


def test_tiny_objects_depend_on_the_network(sound: Path) -> None:
    report = check_dataset(sound)
    assert report.with_network(network(8.0, anchor_sizes=((150.0,), (130.0,)))).of("warning") == []
    small = report.with_network(network(0.2))
    [tiny] = [problem for problem in small.problems if problem.kind == "tiny object"]
    assert (tiny.severity, len(tiny.places)) == ("warning", 18)
    assert small.network is not None
    assert small.network.side_quantiles["50%"] == pytest.approx(0.2 * 320**0.5, rel=0.05)


def test_more_objects_than_detections(sound: Path) -> None:
    report = check_dataset(sound).with_network(network(max_detections=2))
    [problem] = [problem for problem in report.problems if problem.kind == "more objects than detections"]
    assert "3 objects, but toy finds at most 2" in problem.message
    assert len(problem.places) == 6


def test_anchors_that_do_not_fit(sound: Path) -> None:
    report = check_dataset(sound)
    assert not [problem for problem in report.with_network(network()).problems if problem.kind == "anchors"]
    large = report.with_network(network(4.0))
    [problem] = [problem for problem in large.problems if problem.kind == "anchors"]
    assert problem.severity == "warning"
    assert "0.0% of the objects have an anchor of IoU 0.5 or more" in problem.message
    assert "; 100.0% with model_options '" in problem.message


def test_report_as_plain_types(sound: Path) -> None:
    DAMAGES["object twice"].do(sound)
    told = json.loads(json.dumps(check_dataset(sound).with_network(network()).to_dict()))
    assert told["splits"]["val"]["images"] == 4
    assert told["problems"][0]["places"] == ["image 1 annotations 1 and 70"]
    assert told["network"]["anchors"]["recall"] == 1.0


def test_nothing_to_compare_with_anchors(sound: Path) -> None:
    DAMAGES["no annotations"].do(sound)
    report: CheckReport = check_dataset(sound)
    assert report.with_network(network()) is report
    with edited(sound) as content:
        content["annotations"] = [
            {"id": 1, "image_id": 1, "category_id": 3, "segmentation": rectangle(0, 0, 9, 9), "iscrowd": 1}
        ]
    assert check_dataset(sound).with_network(network()).network is None


def test_hundreds_of_objects_in_an_image(sound: Path) -> None:
    with edited(sound) as content:
        for number in range(300):
            box = (number % 30 * 2, 26 + number // 30 * 2, 2, 2)
            entry = {"id": 100 + number, "image_id": 6, "category_id": 3, "segmentation": rectangle(*box)}
            content["annotations"].append(entry)
    report = check_dataset(sound)
    assert report.splits["train"].most_objects == 303
    assert report.problems == ()


WRONG: list[Any] = [
    None,
    True,
    -1,
    1.5,
    10**12,
    1e308,
    "x",
    "",
    "..",
    "a\0b",
    [],
    {},
    [None],
    [[]],
    [[1e308] * 6],
    {"size": [10**9] * 2},
]


@pytest.mark.parametrize(
    ("where", "key"),
    [
        *(("images", key) for key in ("id", "file_name", "width", "height")),
        *(("annotations", key) for key in ("id", "image_id", "category_id", "bbox", "segmentation", "iscrowd")),
        *(("categories", key) for key in ("id", "name")),
        *((where, None) for where in ("images", "annotations", "categories")),
    ],
)
def test_no_value_brings_a_traceback(sound: Path, where: str, key: str | None) -> None:
    file = sound / "annotations" / "train.json"
    original = file.read_text()
    for value in [*WRONG, {"size": [48, 64], "counts": [10**12]}, {"size": [10**9] * 2, "counts": "0"}]:
        content = json.loads(original)
        if key is None:
            content[where] = value
        else:
            content[where][2][key] = value
        file.write_text(json.dumps(content))
        for problem in check_dataset(sound).with_network(network()).problems:
            assert "\n" not in problem.message


def add_test_split(folder: Path) -> Path:
    """A third split, of images that neither of the others has."""
    write_sound_dataset(folder / "more", seed=1)
    (folder / "more" / "annotations" / "val.json").rename(folder / "annotations" / "test.json")
    (folder / "more" / "images" / "val").rename(folder / "images" / "test")
    return folder


def test_every_split_is_looked_at(sound: Path) -> None:
    report = check_dataset(add_test_split(sound))
    assert (list(report.splits), report.problems) == (["train", "val", "test"], ())
    assert list(check_dataset(sound, splits=("test",)).splits) == ["test"]
    [problem] = check_dataset(sound, splits=("tset",)).problems
    assert "did you mean 'test'?" in problem.message


def test_a_test_image_that_is_a_training_image(sound: Path) -> None:
    add_test_split(sound)
    (sound / "images" / "test" / "1.png").write_bytes((sound / "images" / "train" / "1.png").read_bytes())
    problems = check_dataset(sound).problems
    assert [problem.kind for problem in problems] == ["image in both splits"]
    assert problems[0].places == ("train image 1 (1.png) and test image 1 (1.png)",)


def test_classes_of_a_test_split(sound: Path) -> None:
    with edited(add_test_split(sound), "test") as content:
        content["categories"][0]["name"] = "screw"
    [problem] = check_dataset(sound).of("error")
    assert problem.kind == "class names"
    assert "only in test: 'screw'" in problem.message
