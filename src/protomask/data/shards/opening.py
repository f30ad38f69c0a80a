"""A split of a data set, whatever files it is in."""

from __future__ import annotations

from collections.abc import Sequence

from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.layout import DatasetPaths
from protomask.data.shards.dataset import ShardedDataset
from protomask.structures.coco_json import Fault


def dataset_of_split(
    paths: DatasetPaths, split: str, *, class_names: Sequence[str] | None = None, faults: list[Fault] | None = None
) -> CocoDataset:
    """One split of a data set, read as the data set says.

    Args:
        paths: of the data set.
        split: one of its splits.
        class_names: names in label order, see `CocoDataset`.
        faults: see `CocoDataset`.

    Raises:
        DataError: the split cannot be used.

    """
    if paths.shards is None:
        return CocoDataset.of_split(paths, split, class_names=class_names, faults=faults)
    return ShardedDataset(paths.shards, split, class_names=class_names, classes=paths.classes, faults=faults)
