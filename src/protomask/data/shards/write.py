"""Writes a COCO data set as Parquet files."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.layout import DatasetPaths, open_dataset
from protomask.data.coco.schema import Annotation
from protomask.data.coco.shard_layout import META_NAME, Shards, SplitFacts
from protomask.errors import ConfigError, DataError
from protomask.files import locked_folder
from protomask.storage import place_of, require_pyarrow

GROUP_SIZE = 32
"""Images that are read together: few enough for a process to hold many such groups."""

Progress = Callable[[int, int, str], None]
"""Called with how much is done, of how much, and what."""


def write_shards(
    source: str | Path, output: str, *, shard_size: int = 1024, progress: Progress = lambda done, total, what: None
) -> Shards:
    """Write all splits of a data set; little is in memory beside the annotations of one of them.

    Annotations are those that `CocoDataset` gives: checked, and without what cannot be used.

    Args:
        source: COCO data set, as for `protomask.data.coco.layout.open_dataset`.
        output: new folder, or address of one.
        shard_size: images of each file, rounded up to whole groups of `GROUP_SIZE`.
        progress: called after each group of images.

    Raises:
        ConfigError: the output is a data set already, or the source is one in Parquet.
        DataError: the source cannot be used.
        MissingExtraError: pyarrow is not installed.
        ProtomaskError: a file cannot be written.

    """
    require_pyarrow()
    paths = open_dataset(source)
    if paths.shards is not None:
        raise ConfigError(f"source: expected a COCO data set with image files, got {source}, which is in Parquet")
    folder = place_of(output)
    if folder.child(META_NAME).kind() != "nothing":
        raise ConfigError(f"output: expected a new folder, got {folder}, which has a {META_NAME}")
    with _alone(output):
        splits: dict[str, SplitFacts] = {}
        shards: Shards | None = None
        for split in paths.splits:
            names = None if shards is None else shards.class_names
            dataset = CocoDataset.of_split(paths, split, class_names=names)
            if shards is None:
                shards = _begun(output, dataset, paths, -(-shard_size // GROUP_SIZE) * GROUP_SIZE)
            elif shards.category_ids != dataset.category_ids:
                raise DataError(f"{dataset.annotation_file}: expected the category ids of the first split")
            splits[split] = _write_split(dataset, split, shards, progress)
            del dataset  # before the next one is read
        assert shards is not None  # there is at least a training split
        done = Shards(**{**vars(shards), "splits": splits})
        done.save()
    return done


def _begun(output: str, dataset: CocoDataset, paths: DatasetPaths, shard_size: int) -> Shards:
    folder = place_of(output)
    for split in paths.splits:
        folder.child(split).make_folder()
    return Shards(
        folder=folder, class_names=dataset.class_names, category_ids=dataset.category_ids,
        orientation=paths.orientation, shard_size=shard_size, group_size=GROUP_SIZE, splits={},
    )  # fmt: skip


def _alone(output: str) -> AbstractContextManager[None]:
    place = place_of(output)
    return locked_folder(Path(place.path), "output") if place.is_local else nullcontext()


def _write_split(dataset: CocoDataset, split: str, shards: Shards, progress: Progress) -> SplitFacts:
    parquet = require_pyarrow("parquet")
    total, done, annotations = len(dataset), 0, 0
    files = {**dict.fromkeys(row_schema().names, "zstd"), "image": "none"}
    with (
        shards.index_of(split).writing() as index_file,
        parquet.ParquetWriter(index_file, index_schema(), compression="zstd") as index,
    ):
        for number in range(-(-total // shards.shard_size)):
            known: list[dict[str, Any]] = []
            with (
                shards.shard_of(split, number).writing() as file,
                parquet.ParquetWriter(file, row_schema(), compression=files, use_dictionary=False) as writer,
            ):
                end = min(done + shards.shard_size, total)
                for start in range(done, end, shards.group_size):
                    group = [_row(dataset, image) for image in range(start, min(start + shards.group_size, end))]
                    writer.write_table(_table([row for row, _ in group], row_schema()))
                    known += [own for _, own in group]
                    done = start + len(group)
                    progress(done, total, f"write {split}")
            index.write_table(_table(known, index_schema()))
            annotations += sum(own["annotations"] for own in known)
    return SplitFacts(images=total, annotations=annotations, mask_sources=dict(dataset.mask_sources))


def _table(rows: list[dict[str, Any]], schema: Any) -> Any:
    return require_pyarrow().Table.from_pylist(rows, schema=schema)


def _row(dataset: CocoDataset, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row of an image, and what the index says of it.

    Raises:
        DataError: the image file cannot be read.

    """
    path, annotations = dataset.image_path(number), dataset.load_annotations(number)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    height, width = dataset.image_size(number)
    name = path.relative_to(dataset.image_dir).as_posix()
    known = {"image_id": dataset.image_ids[number], "file_name": name, "height": height, "width": width}
    entries = [_entry(one, dataset.category_ids) for one in annotations]
    labels = sorted({one.label for one in annotations if not one.is_crowd})
    row = {**known, "image": content, "annotations": json.dumps(entries)}
    return row, {**known, "annotations": len(annotations), "labels": labels}


def _entry(one: Annotation, category_ids: tuple[int, ...]) -> dict[str, Any]:
    """An annotation in COCO's words, without the id of its image."""
    entry: dict[str, Any] = {
        "id": one.annotation_id, "category_id": category_ids[one.label], "iscrowd": int(one.is_crowd),
        "segmentation": one.segmentation,
    }  # fmt: skip
    optional = {"bbox": one.bbox, "area": one.area, "mask_source": one.mask_source or None}
    return {**entry, **{name: value for name, value in optional.items() if value is not None}}


def row_schema() -> Any:
    """Columns of a shard: an image file and its annotations, a JSON list in COCO's words."""
    arrow = require_pyarrow()
    return arrow.schema(
        [
            ("image_id", arrow.int64()), ("file_name", arrow.string()), ("height", arrow.int32()),
            ("width", arrow.int32()), ("image", arrow.binary()), ("annotations", arrow.string()),
        ]
    )  # fmt: skip


def index_schema() -> Any:
    """Columns of the index: what is known of an image without reading it; ``labels`` are those of its objects."""
    arrow = require_pyarrow()
    return arrow.schema(
        [
            ("image_id", arrow.int64()), ("file_name", arrow.string()), ("height", arrow.int32()),
            ("width", arrow.int32()), ("annotations", arrow.int32()), ("labels", arrow.list_(arrow.int32())),
        ]
    )  # fmt: skip
