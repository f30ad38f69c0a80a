from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from protomask.errors import ConfigError, DataError
from protomask.inference.sinks.datasets import CocoDatasetSink, DatasetSink, LabelMeSink, YoloSink
from protomask.masks.outlines import outline_runs
from protomask.masks.rle import decode_rle
from protomask.masks.runs import runs_area
from protomask.structures.frame import Frame
from sample_frames import NAMES, SIZE, files_in, found, frame, pixels, read_json

KINDS: list[type[DatasetSink]] = [CocoDatasetSink, LabelMeSink, YoloSink]
AREAS = found().areas.tolist()


def image_file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels()).save(path)
    return path


def write_two(sink: DatasetSink, folder: Path) -> None:
    """A file, and an array of the same name."""
    file = image_file(folder / "photos" / "x.png")
    with sink:
        sink.write(frame(file, image_source=str(file)))
        sink.write(frame("x"))


def test_coco(tmp_path: Path) -> None:
    write_two(CocoDatasetSink(tmp_path / "coco", NAMES), tmp_path)
    assert files_in(tmp_path / "coco") == ["annotations/train.json", "images/train/x.png", "images/train/x_2.png"]
    content = read_json(tmp_path / "coco" / "annotations" / "train.json")
    assert content["images"] == [
        {"id": 1, "file_name": "x.png", "width": SIZE[1], "height": SIZE[0]},
        {"id": 2, "file_name": "x_2.png", "width": SIZE[1], "height": SIZE[0]},
    ]
    assert content["categories"] == [{"id": 1, "name": "disc"}, {"id": 2, "name": "ring"}]
    rows = content["annotations"]
    assert [row["id"] for row in rows] == [1, 2, 3, 4]  # the third instance of each image has no pixel
    assert [row["image_id"] for row in rows] == [1, 1, 2, 2]
    assert [row["category_id"] for row in rows] == [1, 2, 1, 2]
    assert [row["score"] for row in rows[:2]] == [0.75, 0.5]
    assert [row["area"] for row in rows[:2]] == AREAS[:2]
    disc, ring = rows[:2]
    assert runs_area(outline_runs(disc["segmentation"], SIZE)) == AREAS[0]
    np.testing.assert_array_equal(decode_rle(ring["segmentation"]), found().masks[1])
    copied, original = tmp_path / "coco" / "images" / "train" / "x.png", tmp_path / "photos" / "x.png"
    assert copied.read_bytes() == original.read_bytes()


def test_labelme(tmp_path: Path) -> None:
    write_two(LabelMeSink(tmp_path / "labelme", NAMES), tmp_path)
    assert files_in(tmp_path / "labelme") == ["classes.txt", "x.json", "x.png", "x_2.json", "x_2.png"]
    assert (tmp_path / "labelme" / "classes.txt").read_text() == "disc\nring\n"
    content = read_json(tmp_path / "labelme" / "x_2.json")
    assert content["imagePath"] == "x_2.png"
    keys = ("label", "shape_type", "group_id", "description")
    assert [tuple(shape[key] for key in keys) for shape in content["shapes"]] == [
        ("disc", "polygon", 1, "score 0.75"),
        ("disc", "polygon", 1, "score 0.75"),
        ("ring", "mask", None, "score 0.50"),
    ]


def test_yolo(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    write_two(YoloSink(tmp_path / "yolo", NAMES), tmp_path)
    assert files_in(tmp_path / "yolo") == [
        "data.yaml", "images/train/x.png", "images/train/x_2.png", "labels/train/x.txt", "labels/train/x_2.txt",
    ]  # fmt: skip
    content = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text())
    assert content == {"train": "images/train", "names": {0: "disc", 1: "ring"}}
    lines = (tmp_path / "yolo" / "labels" / "train" / "x.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1"]
    for line, area in zip(lines, AREAS, strict=False):
        shares = np.array(line.split()[1:], dtype=float).reshape(-1, 2)
        assert runs_area(outline_runs([(shares * SIZE[::-1]).ravel().tolist()], SIZE)) == area


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_chosen_classes(tmp_path: Path, kind: type[DatasetSink]) -> None:
    with kind(tmp_path, ["ring"]) as sink:
        sink.write(frame())
    text = "".join(path.read_text() for path in tmp_path.rglob("*") if path.suffix in (".json", ".txt", ".yaml"))
    assert "ring" in text
    assert "disc" not in text
    assert len(list(tmp_path.rglob("x.png"))) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_found_is_an_image_without_objects(tmp_path: Path, kind: type[DatasetSink]) -> None:
    with kind(tmp_path, NAMES) as sink:
        sink.write(frame("x.jpg", found()[:0]))
    [annotations] = [path for path in tmp_path.rglob("*") if path.name in ("train.json", "x.json", "x.txt")]
    content = annotations.read_text()
    if kind is YoloSink:
        assert content == ""
    else:
        assert json.loads(content)["annotations" if kind is CocoDatasetSink else "shapes"] == []
    assert len(list(tmp_path.rglob("x.png"))) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_no_frame_is_an_empty_data_set(tmp_path: Path, kind: type[DatasetSink]) -> None:
    with kind(tmp_path, NAMES):
        pass
    [file] = files_in(tmp_path)
    if kind is CocoDatasetSink:
        categories = [{"id": 1, "name": "disc"}, {"id": 2, "name": "ring"}]
        assert read_json(tmp_path / file) == {"annotations": [], "images": [], "categories": categories}


@pytest.mark.parametrize("kind", KINDS)
def test_corrections_are_not_written_over(tmp_path: Path, kind: type[DatasetSink]) -> None:
    (tmp_path / "x.json").write_text("corrected")
    with pytest.raises(ConfigError, match="to be new or empty, as it may hold corrections"):
        kind(tmp_path, NAMES)
    assert files_in(tmp_path) == ["x.json"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_completed_is_removed(tmp_path: Path, kind: type[DatasetSink]) -> None:
    sink = kind(tmp_path / "out", NAMES)
    sink.write(frame())
    sink.close(complete=False)
    assert files_in(tmp_path) == []
    with kind(tmp_path / "out", NAMES) as sink:
        sink.write(frame())
    assert files_in(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sink_that_was_not_used_leaves_room_for_another(tmp_path: Path, kind: type[DatasetSink]) -> None:
    kind(tmp_path / "out", NAMES)
    kind(tmp_path / "out", NAMES)


def unreadable() -> Any:
    raise DataError("gone.png: no such file")


@pytest.mark.parametrize("kind", KINDS)
def test_bad_frames(tmp_path: Path, kind: type[DatasetSink]) -> None:
    with kind(tmp_path / "out", NAMES) as sink:
        with pytest.raises(ConfigError, match=r"x\.jpg: expected a frame that was predicted"):
            sink.write(Frame(pixels(), source="x.jpg"))
        with pytest.raises(DataError, match=r"gone\.png: no such file"):
            sink.write(Frame(unreadable, source="gone.png", found=found()))
        with pytest.raises(ConfigError, match="expected a folder other than that of the images"):
            sink.check(frame(image_file(sink.image_folder / "y.png")))


def points_in(path: Path) -> int:
    """Numbers in an annotation file."""
    return len(re.findall(r"\d+(?:\.\d+)?", path.read_text()))


@pytest.mark.parametrize(
    ("kind", "name"),
    [(CocoDatasetSink, "annotations/train.json"), (LabelMeSink, "x.json"), (YoloSink, "labels/train/x.txt")],
)
def test_simpler_outlines(tmp_path: Path, kind: type[DatasetSink], name: str) -> None:
    y, x = np.ogrid[: SIZE[0], : SIZE[1]]
    disc = ((y - 20) ** 2 + (x - 30) ** 2 < 300)[None]
    round_one = found()[:1].replace(masks=disc)
    for tolerance in (0.0, 1.0):
        with kind(tmp_path / str(tolerance), NAMES, tolerance=tolerance) as sink:
            sink.write(frame("x.jpg", round_one))
    exact, simple = (points_in(tmp_path / folder / name) for folder in ("0.0", "1.0"))
    assert simple < exact / 2
