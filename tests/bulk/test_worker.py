"""The worker: images from anywhere, and what of them becomes a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow
from pyarrow import parquet

import protomask
from image_folders import SCENE, write_images
from protomask.bulk.options import BulkModel, BulkOptions
from protomask.bulk.plan import make_plan
from protomask.bulk.schema import Counts, ImageRow, counts_of, read_metadata, schema
from protomask.bulk.worker import BulkWorker, ShardWorker
from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError
from protomask.masks.rle import decode_rle


@pytest.fixture(scope="module")
def worker() -> BulkWorker:
    return BulkWorker(BulkModel(model="yolact_nano"), PredictOptions(score_threshold=0.5))


def test_a_row_holds_what_predict_finds(worker: BulkWorker) -> None:
    [row] = worker.rows([ImageRow("one", str(SCENE))])
    found = protomask.load("yolact_nano").predict(SCENE, score_threshold=0.5)
    assert len(found) > 2
    assert (row["id"], row["height"], row["width"], row["error"]) == ("one", *found.image_size, None)
    assert [one["class_name"] for one in row["instances"]] == found.names
    assert [one["score"] for one in row["instances"]] == pytest.approx(found.scores.tolist())
    for given, one in zip(row["instances"], found, strict=True):
        assert [given[name] for name in ("x1", "y1", "x2", "y2")] == pytest.approx(one.box.tolist())
        assert given["area"] == one.area
        assert np.array_equal(decode_rle({"size": list(found.image_size), "counts": given["rle"]}), one.mask)


def test_broken_and_missing_images_are_rows(worker: BulkWorker, tmp_path: Path) -> None:
    folder = write_images(tmp_path, ["a.jpg", "b.jpg"], broken=["broken.jpg"])
    names = ("a.jpg", "broken.jpg", "missing.jpg", "b.jpg")
    rows = list(worker.rows([ImageRow(name, str(folder / name)) for name in names]))
    assert [row["id"] for row in rows] == list(names)
    assert [row["error"] is None for row in rows] == [True, False, False, True]
    assert "missing.jpg: no such file" in rows[2]["error"]
    assert rows[1]["instances"] is rows[1]["width"] is None
    assert counts_of(rows) == Counts(4, 2, sum(len(row["instances"] or ()) for row in rows))


def test_bytes_in_parquet_are_named_by_their_row(worker: BulkWorker, tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"image": [SCENE.read_bytes(), b"no image", None]}), file)
    good, bad, none = worker.rows([ImageRow(f"{file}#{row}", str(file), row) for row in range(3)])
    assert good["instances"]
    assert bad["error"].startswith(f"{file}#1: not an image")
    assert "row 2 of column image has no image" in none["error"]


def test_tables_of_pandas_for_spark(worker: BulkWorker) -> None:
    pandas = pytest.importorskip("pandas")
    frames = [
        pandas.DataFrame({"id": [5, 6], "image": [SCENE.read_bytes(), b"x"]}),
        pandas.DataFrame({"image": [str(SCENE), None]}),
    ]
    first, second = worker.pandas_rows(iter(frames))
    assert first["id"].tolist() == ["5", "6"]
    assert first["image"].tolist() == ["", ""]
    assert second["id"].tolist()[0] == str(SCENE)
    assert first["instances"][0] == second["instances"][0]
    assert first["error"][1].startswith("6: not an image")
    assert "expected a path, an address or bytes, got" in second["error"][1]
    table = pyarrow.Table.from_pandas(first, schema=schema(), preserve_index=False)
    assert table.num_rows == 2


def test_a_shard_is_a_file_with_its_counts(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", [f"{number}.jpg" for number in range(4)], broken=["9.jpg"])
    options = PredictOptions(score_threshold=0.5)
    plan = make_plan(
        [str(folder)], BulkModel(model="yolact_nano"), options, BulkOptions(output=str(tmp_path / "out"), shard_size=3)
    )
    assert (plan.images, plan.shards, plan.size_of(0), plan.size_of(1)) == (5, 2, 3, 2)
    worker, seen = ShardWorker(str(tmp_path / "out")), list[int]()
    counts = worker.write_shard(1, on_image=seen.append)
    assert (counts.images, counts.failed, seen) == (2, 1, [0, 1])
    table = parquet.read_table(plan.place_of(1).path)
    assert table.schema.equals(schema())
    assert [Path(name).name for name in table["id"].to_pylist()] == ["3.jpg", "9.jpg"]
    known = read_metadata(table.schema.metadata)
    assert known is not None
    assert (known["shard"], known["counts"], known["class_names"][0]) == (1, counts._asdict(), "disk")
    assert [(one.shard, one.counts) for one in plan.finished()] == [(1, counts)]

    told = worker({"shard": np.array([1])})  # as Ray calls it
    assert told == {"shard": [1], "images": [2], "failed": [1], "instances": [counts.instances]}


def test_images_that_end_processes_are_left_out(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", ["a.jpg", "b.jpg"])
    plan = make_plan([str(folder)], BulkModel(), PredictOptions(), BulkOptions(output=str(tmp_path / "out")))
    seen: list[int] = []
    worker = ShardWorker(str(tmp_path / "out"))
    counts = worker.write_shard(0, on_image=seen.append, one_by_one=True, deadly={0: "it is deadly"})
    assert (counts.images, counts.failed, seen) == (2, 1, [0, 1])
    errors: list[Any] = parquet.read_table(plan.place_of(0).path)["error"].to_pylist()
    assert errors == ["it is deadly", None]


def test_options_are_checked_before_any_image() -> None:
    with pytest.raises(ConfigError, match="classes"):
        BulkWorker(options=PredictOptions(classes=("horse",)))
