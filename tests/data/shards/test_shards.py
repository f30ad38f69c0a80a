"""COCO data sets in Parquet: the same images and truth, in an order that can be read in a stream."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("pyarrow")

from coco_folders import BLOB, RING, read_coco, write_coco
from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.layout import open_dataset
from protomask.data.coco.shard_layout import Shards, find_shards
from protomask.data.doctor.check import check_dataset
from protomask.data.shards import dataset as sharded
from protomask.data.shards.dataset import ShardedDataset
from protomask.data.shards.opening import dataset_of_split
from protomask.data.shards.order import streamed_order
from protomask.data.shards.write import write_shards
from protomask.errors import ConfigError, DataError
from protomask.storage import place_of

POLYGONS = [[1.0, 1.0, 6.0, 1.0, 6.0, 5.5]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set with codes, outlines, crowds, and images without objects."""
    images: dict[str, Any] = {f"{number:03}.png": [("dog", BLOB)] for number in range(67)}
    images |= {"001.png": [("cell", RING), ("dog*", BLOB), ("cell", POLYGONS)], "sub/deep.png": []}
    write_coco(tmp_path / "set", images)
    return write_coco(tmp_path / "set", {"a.png": [("dog", RING)], "b.png": []}, split="val")


def both(folder: Path, output: str | Path, **changes: Any) -> tuple[CocoDataset, CocoDataset]:
    write_shards(folder, str(output), **{"shard_size": 32, **changes})
    paths = open_dataset(str(output))
    first, second = (dataset_of_split(open_dataset(folder), "train"), dataset_of_split(paths, "train"))
    assert isinstance(second, ShardedDataset)
    return first, second


@pytest.mark.parametrize("store", ["folder", "memory"])
def test_images_and_truth_are_the_same(folder: Path, tmp_path: Path, store: str) -> None:
    if store == "memory":
        pytest.importorskip("fsspec")
    output = tmp_path / "shards" if store == "folder" else f"memory://{tmp_path.name}/shards"
    first, second = both(folder, output)
    assert second.is_remote == (store == "memory")
    assert list(second.image_ids) == list(first.image_ids)
    assert (second.class_names, second.category_ids) == (first.class_names, first.category_ids)
    assert second.num_annotations == first.num_annotations
    for index in (0, 1, 31, 32, 66, 67, 5):
        assert second.load_annotations(index) == first.load_annotations(index)
        assert second.labels_of(index) == first.labels_of(index)
        assert second.image_size(index) == first.image_size(index)
        assert second.image_path(index).name == first.image_path(index).name
        (image, target), (other_image, other) = first[index], second[index]
        assert torch.equal(image, other_image)
        for name in ("boxes", "labels", "masks", "is_crowd", "image_id"):
            assert str(getattr(other, name)) == str(getattr(target, name))


def test_other_classes_and_orders_of_classes(folder: Path, tmp_path: Path) -> None:
    first, _ = both(folder, tmp_path / "shards")
    only = dataset_of_split(open_dataset(tmp_path / "shards", classes=("dog",)), "train")
    expected = CocoDataset(first.annotation_file, first.image_dir, classes=("dog",))
    assert (only.class_names, only.category_ids) == (expected.class_names, expected.category_ids)
    assert only.load_annotations(1) == expected.load_annotations(1)
    assert only.labels_of(1) == expected.labels_of(1) == set()
    assert only.labels_of(0) == {0}
    turned = dataset_of_split(open_dataset(tmp_path / "shards"), "train", class_names=("dog", "cell"))
    assert [one.label for one in turned.load_annotations(1)] == [1, 0, 1]
    assert turned.labels_of(1) == {1}
    with pytest.raises(DataError, match="the categories do not match the class names"):
        dataset_of_split(open_dataset(tmp_path / "shards"), "train", class_names=("dog", "cat"))


def test_a_part_of_the_images(folder: Path, tmp_path: Path) -> None:
    _, second = both(folder, tmp_path / "shards")
    ids = list(second.image_ids)
    second.keep_first(3)
    assert (len(second), list(second.image_ids)) == (3, ids[:3])


def test_little_is_kept_in_memory(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, second = both(folder, tmp_path / "shards")
    assert isinstance(second, ShardedDataset)
    groups, reads = second._groups, list[int]()
    read = groups._read

    def noted(number: int) -> Any:
        reads.append(number)
        return read(number)

    monkeypatch.setattr(groups, "_read", noted)
    for index in range(len(second)):
        second.load_pixels(index)
    assert reads == [0, 1, 2]
    size = groups._bytes
    assert size == sum(sharded._bytes_of(group) for group in groups._kept.values())
    monkeypatch.undo()
    monkeypatch.setattr(sharded, "CACHE_BYTES", size // 2)
    other = pickle.loads(pickle.dumps(second))  # as for a process that loads images
    assert not other._groups._kept
    for index in (0, 40, 66, 0):
        other.load_pixels(index)
        assert other._groups._bytes <= max(size // 2, max(map(sharded._bytes_of, other._groups._kept.values())))


def test_what_is_written_and_what_is_refused(folder: Path, tmp_path: Path) -> None:
    shards = write_shards(folder, str(tmp_path / "out"), shard_size=33)
    assert (shards.shard_size, shards.group_size) == (64, 32)  # whole groups
    assert sorted(path.name for path in (tmp_path / "out" / "train").iterdir()) == [
        "000000.parquet", "000001.parquet", "index.parquet",
    ]  # fmt: skip
    assert find_shards(tmp_path / "out") == shards
    with pytest.raises(ConfigError, match=r"output: expected a new folder, got .*out, which has a dataset\.json"):
        write_shards(folder, str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="source: expected a COCO data set with image files"):
        write_shards(tmp_path / "out", str(tmp_path / "again"))
    with pytest.raises(DataError, match="expected the split 'test'; its splits are train, val"):
        open_dataset(tmp_path / "out", ("test",))
    [problem] = check_dataset(tmp_path / "out").problems
    assert "it is in Parquet, and was checked when it was written" in problem.message


def test_damaged_files_are_named(folder: Path, tmp_path: Path) -> None:
    shards = write_shards(folder, str(tmp_path / "out"), shard_size=32)

    def opened() -> CocoDataset:
        return dataset_of_split(open_dataset(tmp_path / "out"), "train")

    Path(shards.shard_of("train", 1).path).write_bytes(b"PAR1")
    dataset = opened()
    dataset.load_pixels(0)
    with pytest.raises(DataError, match=r"image 33 cannot be read: .*000001\.parquet: group 0 of its rows"):
        dataset.load_pixels(32)
    Path(shards.shard_of("train", 1).path).unlink()
    with pytest.raises(DataError, match=r"000001\.parquet: no such file"):
        opened().load_annotations(32)
    Path(shards.index_of("train").path).write_bytes(Path(shards.index_of("val").path).read_bytes())
    with pytest.raises(DataError, match=r"index\.parquet: expected 68 images, got 2"):
        opened()
    meta = tmp_path / "out" / "dataset.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "version": 2}))
    with pytest.raises(DataError, match=r"dataset\.json: expected version 1, got 2"):
        opened()


def test_a_dataset_json_of_somebody_else_is_left_alone(folder: Path) -> None:
    (folder / "dataset.json").write_text('{"name": "cells"}')
    assert find_shards(folder) is None
    assert len(read_coco(folder)) == 68


def test_a_pass_shows_every_image_once() -> None:
    groups = np.arange(10_000) // 32
    order = streamed_order(np.random.default_rng(3), groups, window=512)
    assert sorted(order.tolist()) == list(range(10_000))
    assert not np.array_equal(order, streamed_order(np.random.default_rng(4), groups, window=512))
    for start in range(0, 10_000, 512):  # so that a process holds few groups
        assert len(set(groups[order[start : start + 512]].tolist())) <= 512 // 32 + 1
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.2


def test_a_small_set_has_the_order_of_a_folder(folder: Path, tmp_path: Path) -> None:
    first, second = both(folder, tmp_path / "shards")
    shown = np.array([0, 1, 1, 5, 40, 66])
    orders = [one.order(np.random.default_rng(7), shown).tolist() for one in (first, second)]
    assert orders[0] == orders[1]
    many = np.repeat(np.arange(68), 40)
    order = second.order(np.random.default_rng(7), many)
    assert sorted(order.tolist()) == list(range(len(many)))


def test_shards_know_their_places(tmp_path: Path) -> None:
    shards = Shards(
        folder=place_of(str(tmp_path)), class_names=("a",), category_ids=(1,), orientation="auto", shard_size=64,
        group_size=32, splits={},
    )  # fmt: skip
    assert shards.shard_of("train", 7).name == "000007.parquet"
