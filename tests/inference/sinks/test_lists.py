from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from protomask.errors import ConfigError, DataError, MissingExtraError, ProtomaskError
from protomask.inference.sinks import lists
from protomask.inference.sinks.lists import TABLE_COLUMNS, CocoSink, JsonLinesSink, TableSink
from protomask.inference.sinks.sink import Sink
from protomask.masks.rle import decode_rle
from protomask.structures.coco_json import read_coco_ids
from protomask.structures.instances import Instances
from sample_frames import NAMES, files_in, found, frame, read_json


@pytest.fixture(params=["csv", "parquet"])
def table_format(request: pytest.FixtureRequest) -> Literal["csv", "parquet"]:
    if request.param == "csv":
        return "csv"
    pytest.importorskip("pyarrow")
    return "parquet"


def test_coco_results(tmp_path: Path) -> None:
    with CocoSink(tmp_path) as sink:
        assert sink.write(frame("a/x.jpg")) == []
        sink.write(frame("a/empty.jpg", found()[:0]))
        sink.write(frame("b/x.jpg"))
        assert "predictions.json" not in files_in(tmp_path)
    assert files_in(tmp_path) == ["images.json", "predictions.json"]
    rows = read_json(tmp_path / "predictions.json")
    assert [(row["image_id"], row["category_id"], row["score"]) for row in rows] == [
        (1, 1, 0.75), (1, 2, 0.5), (1, 1, 0.25), (3, 1, 0.75), (3, 2, 0.5), (3, 1, 0.25),
    ]  # fmt: skip
    assert rows[0]["bbox"] == [5, 5, 45, 30]
    for row, mask in zip(rows, [*found().masks, *found().masks], strict=True):
        np.testing.assert_array_equal(decode_rle(row["segmentation"]), mask)
    listing = read_json(tmp_path / "images.json")
    assert listing["images"][2] == {"id": 3, "file_name": "b/x.jpg", "height": 40, "width": 60}
    assert listing["categories"] == [{"id": 1, "name": "disc"}, {"id": 2, "name": "ring"}]
    assert listing["annotations"] == []


def test_class_scores_are_told_where_they_differ(tmp_path: Path) -> None:
    with CocoSink(tmp_path) as sink:
        sink.write(frame(instances=found([0.5, 0.5, 1.0])))
    rows = read_json(tmp_path / "predictions.json")
    assert [(row["score"], row["class_score"]) for row in rows] == [(0.375, 0.75), (0.25, 0.5), (0.25, 0.25)]


def test_official_reader_takes_both_files(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    with CocoSink(tmp_path) as sink:
        sink.write(frame())
    results = coco.COCO(str(tmp_path / "images.json")).loadRes(str(tmp_path / "predictions.json"))
    annotation = results.loadAnns([1])[0]
    np.testing.assert_array_equal(results.annToMask(annotation).astype(bool), found().masks[0])


def test_ids_of_an_annotation_file(tmp_path: Path) -> None:
    truth = {
        "images": [{"id": 17, "file_name": "val/x.jpg"}, {"id": 4, "file_name": "x.jpg"}],
        "categories": [{"id": 90, "name": "ring"}, {"id": 3, "name": "disc"}],
    }
    (tmp_path / "val.json").write_text(json.dumps(truth))
    image_ids, category_ids = read_coco_ids(tmp_path / "val.json", NAMES)
    assert category_ids == [3, 90]
    with CocoSink(tmp_path / "out", image_ids=image_ids, category_ids=category_ids) as sink:
        sink.write(frame("/data/val/x.jpg", found()[:2]))
        sink.write(frame("/data/train/x.jpg", found()[:1]))
        for refuse in (sink.check, sink.write):
            with pytest.raises(DataError, match=r"y\.jpg: no image of this name among the 2 of the annotation file"):
                refuse(frame("/data/val/y.jpg"))
    rows = read_json(tmp_path / "out" / "predictions.json")
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(17, 3), (17, 90), (4, 3)]
    listing = read_json(tmp_path / "out" / "images.json")
    assert listing["categories"][1] == {"id": 90, "name": "ring"}
    assert [image["id"] for image in listing["images"]] == [17, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "not valid JSON"),
        ("[]", "expected an object"),
        ("5", "expected an object"),
        ('{"images": []}', "categories"),
        ('{"images": [{}], "categories": []}', "key 'id' is missing"),
        ('{"images": [{"file_name": "x", "id": "y"}], "categories": []}', "expected an integer image id"),
        ('{"images": [], "categories": [{"id": 1, "name": "disc"}]}', "lacks ring"),
    ],
)
def test_bad_annotation_files(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "val.json").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_coco_ids(tmp_path / "val.json", NAMES)
    assert "val.json" in str(caught.value)


def test_json_lines_appear_as_frames_finish(tmp_path: Path) -> None:
    lines: list[str] = []
    with JsonLinesSink(tmp_path) as sink:
        for count, name in enumerate(("ä/x.jpg", "y.jpg"), start=1):
            assert sink.write(frame(name, found([0.5, 0.9, 0.1]).best_first())) == []
            lines = (tmp_path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
            assert len(lines) == count
    assert "ä/x.jpg" in lines[0]
    first = json.loads(lines[0])
    assert list(first) == ["file", "size", "instances"]
    assert (first["file"], first["size"]) == ("ä/x.jpg", [40, 60])
    # Ranked by class score x mask score, which turns the first two round.
    assert [row["class_name"] for row in first["instances"]] == ["ring", "disc", "disc"]
    top = first["instances"][0]
    assert (top["number"], top["label"], top["class_score"], top["box"]) == (1, 1, 0.5, [10, 10, 30, 30])
    assert top["score"] == pytest.approx(0.45)
    assert top["mask_score"] == pytest.approx(0.9)
    np.testing.assert_array_equal(decode_rle(top["segmentation"]), found().masks[1])


def test_json_lines_of_a_video_say_when_and_who(tmp_path: Path) -> None:
    tracked = found().replace(track_ids=np.array([7, 3, 9]))
    with JsonLinesSink(tmp_path) as sink:
        sink.write(frame("v.mp4", tracked, index=12, time=0.48))
    [line] = (tmp_path / "predictions.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert (row["frame"], row["time"], row["file"]) == (12, 0.48, "v.mp4")
    assert [one["track_id"] for one in row["instances"]] == [7, 3, 9]


@pytest.mark.parametrize(
    ("source", "name"),
    [("a/x.jpg", "a/x.jpg"), ("https://example.org//x.jpg?size=3", "https://example.org//x.jpg?size=3")],
)
def test_sources_are_recorded_as_they_are(tmp_path: Path, source: str, name: str) -> None:
    with JsonLinesSink(tmp_path) as sink:
        sink.write(frame(source))
    assert json.loads((tmp_path / "predictions.jsonl").read_text())["file"] == name


def table(path: Path) -> list[dict[str, Any]]:
    """The rows of either kind of table, as a reader gets them."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {name: None if value == "" else _number(value) for name, value in row.items()}
                for row in csv.DictReader(file)
            ]
    from pyarrow import parquet

    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def test_a_table_has_a_row_per_instance(tmp_path: Path, table_format: Literal["csv", "parquet"]) -> None:
    scored = found([0.5, 0.9, 0.1]).best_first().replace(track_ids=np.array([7, 3, 9]))
    with TableSink(tmp_path, table_format) as sink:
        assert sink.write(frame('a "quoted", name.jpg')) == []
        sink.write(frame("none.jpg", found()[:0]))
        sink.write(frame("ä/v.mp4", scored, index=12, time=0.48))
        assert f"predictions.{table_format}" not in files_in(tmp_path)
    assert files_in(tmp_path) == [f"predictions.{table_format}"]
    rows = table(tmp_path / f"predictions.{table_format}")
    assert [tuple(row) for row in rows] == [TABLE_COLUMNS] * 6
    assert [row["file"] for row in rows] == ['a "quoted", name.jpg'] * 3 + ["ä/v.mp4"] * 3
    assert [(row["frame"], row["time"]) for row in rows] == [(0, None)] * 3 + [(12, 0.48)] * 3
    assert [row["number"] for row in rows] == [1, 2, 3, 1, 2, 3]
    assert [row["class_name"] for row in rows] == ["disc", "ring", "disc", "ring", "disc", "disc"]
    assert [row["label"] for row in rows] == [0, 1, 0, 1, 0, 0]
    assert [row["score"] for row in rows] == pytest.approx([0.75, 0.5, 0.25, 0.45, 0.375, 0.025])
    assert [row["class_score"] for row in rows] == [0.75, 0.5, 0.25, 0.5, 0.75, 0.25]
    assert [row["mask_score"] for row in rows[:3]] == [None] * 3
    assert [row["mask_score"] for row in rows[3:]] == pytest.approx([0.9, 0.5, 0.1])
    assert [[row[side] for side in ("x1", "y1", "x2", "y2")] for row in rows[:2]] == [[5, 5, 50, 35], [10, 10, 30, 30]]
    assert [row["area"] for row in rows[:3]] == found().areas.tolist()
    assert [row["perimeter"] for row in rows[:3]] == [round(one.perimeter, 2) for one in found()]
    assert [row["track_id"] for row in rows] == [None] * 3 + [7, 3, 9]


@pytest.mark.parametrize("frames", [0, 2])
def test_a_table_of_nothing_has_its_columns(
    tmp_path: Path, table_format: Literal["csv", "parquet"], frames: int
) -> None:
    with TableSink(tmp_path, table_format) as sink:
        for _ in range(frames):
            sink.write(frame(instances=found()[:0]))
    path = tmp_path / f"predictions.{table_format}"
    assert table(path) == []
    if table_format == "csv":
        assert path.read_text() == ",".join(TABLE_COLUMNS) + "\n"
    else:
        from pyarrow import parquet

        assert parquet.read_schema(path).names == list(TABLE_COLUMNS)


def test_parquet_columns_have_their_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(lists, "_ROWS_PER_GROUP", 7)
    with TableSink(tmp_path, "parquet") as sink:
        for number in range(5):
            sink.write(frame(index=number))
    file = parquet.ParquetFile(tmp_path / "predictions.parquet")
    kinds = dict(zip(file.schema_arrow.names, map(str, file.schema_arrow.types), strict=True))
    assert {name for name, kind in kinds.items() if kind == "string"} == {"file", "class_name"}
    assert {name for name, kind in kinds.items() if kind == "int64"} == {
        "frame", "number", "label", "area", "track_id",
    }  # fmt: skip
    assert {kinds[name] for name in ("time", "score", "mask_score", "x1", "perimeter")} == {"double"}
    # Rows of several frames share a group.
    assert file.metadata.num_row_groups == 2
    assert file.read().column("frame").to_pylist() == [number for number in range(5) for _ in range(3)]


def test_parquet_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pyarrow: pip install 'protomask\[tables\]'"):
        TableSink(tmp_path, "parquet")
    assert files_in(tmp_path) == []


def test_unknown_table_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="table format: expected csv or parquet, got 'xlsx'"):
        TableSink(tmp_path / "out", "xlsx")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def every_list(folder: Path) -> Iterator[Sink]:
    yield CocoSink(folder)
    yield JsonLinesSink(folder)
    yield TableSink(folder)
    if find_spec("pyarrow"):
        yield TableSink(folder, "parquet")


@pytest.mark.parametrize("frames", [0, 1])
def test_empty_results_are_empty_lists(tmp_path: Path, frames: int) -> None:
    for sink in every_list(tmp_path):
        with sink:
            for _ in range(frames):
                sink.write(frame(instances=Instances.empty((40, 60), NAMES)))
    assert read_json(tmp_path / "predictions.json") == []
    assert len(read_json(tmp_path / "images.json")["images"]) == frames
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == frames
    assert (tmp_path / "predictions.csv").read_text().count("\n") == 1


@pytest.mark.parametrize("frames", [0, 1])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_no_list_that_looks_complete(
    tmp_path: Path, kind: type[BaseException], frames: int
) -> None:
    def interrupted(sink: Sink) -> None:
        with sink:
            for _ in range(frames):
                sink.write(frame())
            raise kind

    for sink in every_list(tmp_path):
        with pytest.raises(kind):
            interrupted(sink)
    assert files_in(tmp_path) == ["predictions.jsonl"] * frames
    if frames:
        assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 1


def test_a_sink_that_is_never_used_leaves_nothing(tmp_path: Path) -> None:
    """Another sink that should have stood beside it could not be made."""
    (tmp_path / "predictions.jsonl").write_text("earlier\n")
    assert len(list(every_list(tmp_path))) >= 3
    assert files_in(tmp_path) == ["predictions.jsonl"]
    assert (tmp_path / "predictions.jsonl").read_text() == "earlier\n"


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    contents = []
    for count in (2, 1, 2):
        for sink in every_list(tmp_path):
            with sink:
                for _ in range(count):
                    sink.write(frame())
        assert {"images.json", "predictions.csv", "predictions.json", "predictions.jsonl"} <= set(files_in(tmp_path))
        contents.append((tmp_path / "predictions.json").read_bytes() + (tmp_path / "predictions.csv").read_bytes())
        assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == count
    assert contents[0] == contents[2] != contents[1]


def test_disk_errors_name_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    makers: list[Any] = [CocoSink, JsonLinesSink, TableSink]
    for make in makers:
        with pytest.raises(ProtomaskError, match="file"):
            make(tmp_path / "file")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    for make, name in ((CocoSink, "images.json"), (TableSink, "predictions.csv")):
        sink = make(tmp_path / "out")
        sink.write(frame())
        with pytest.raises(ProtomaskError, match=rf"{name}: cannot be written: No space left on device"):
            sink.close(complete=True)
        assert files_in(tmp_path / "out") == []
    monkeypatch.setattr(Path, "open", full)
    monkeypatch.setattr(os, "open", full)
    for make in makers:
        sink = make(tmp_path / "out")
        with pytest.raises(ProtomaskError, match=r"predictions\.\w+: cannot be written: No space left on device"):
            sink.write(frame())
        sink.close(complete=False)
    assert files_in(tmp_path / "out") == []
