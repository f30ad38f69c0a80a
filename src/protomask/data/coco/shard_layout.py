"""Where the files of a data set in Parquet are, and what they hold; needs no PyTorch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protomask.errors import DataError
from protomask.storage import Place, place_of

META_NAME, INDEX_NAME = "dataset.json", "index.parquet"
FORMAT, VERSION = "protomask shards", 1
"""The version changes with the names, types or meaning of the columns."""


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """What a split holds.

    Attributes:
        images: their number.
        annotations: their number.
        mask_sources: number of annotations by their ``mask_source``, of those that have one.

    """

    images: int
    annotations: int
    mask_sources: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Shards:
    """A data set in Parquet.

    Attributes:
        folder: of the data set.
        class_names: name of each label.
        category_ids: COCO category id of each label.
        orientation: frame of the annotations of turned images, see `protomask.data.coco.dataset.CocoDataset`.
        shard_size: images of each file but the last.
        group_size: images of each group of rows, which are read together.
        splits: by name.

    """

    folder: Place
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    orientation: Any
    shard_size: int
    group_size: int
    splits: Mapping[str, SplitFacts]

    def index_of(self, split: str) -> Place:
        """The file that lists the images of a split."""
        return self.folder.child(split).child(INDEX_NAME)

    def shard_of(self, split: str, number: int) -> Place:
        """A file with images and annotations."""
        return self.folder.child(split).child(f"{number:06d}.parquet")

    def save(self) -> None:
        """Write ``dataset.json``, which makes the folder a data set.

        Raises:
            ProtomaskError: it cannot be written.

        """
        content = {
            "format": FORMAT, "version": VERSION, "class_names": self.class_names, "category_ids": self.category_ids,
            "orientation": self.orientation, "shard_size": self.shard_size, "group_size": self.group_size,
            "splits": {name: dict(vars(facts)) for name, facts in self.splits.items()},
        }  # fmt: skip
        self.folder.child(META_NAME).write((json.dumps(content, indent=2) + "\n").encode())


def find_shards(path: str | Path) -> Shards | None:
    """The data set in Parquet at a path or address; None where there is none.

    Raises:
        DataError: there is one of another version, or it cannot be read.

    """
    folder = place_of(str(path))
    file = folder.child(META_NAME)
    if folder.is_local:
        if not Path(file.path).is_file():
            return None
    elif file.kind() != "file":
        raise DataError(f"dataset {folder}: expected the address of a folder with a {META_NAME}")
    try:
        content = json.loads(file.read())
        if content["format"] != FORMAT:
            return None
        if content["version"] != VERSION:
            raise DataError(f"dataset {file}: expected version {VERSION}, got {content['version']}")
        return Shards(
            folder=folder, class_names=tuple(content["class_names"]), category_ids=tuple(content["category_ids"]),
            orientation=content["orientation"], shard_size=content["shard_size"], group_size=content["group_size"],
            splits={name: SplitFacts(**facts) for name, facts in content["splits"].items()},
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        if folder.is_local and not (Path(folder.path) / "train" / INDEX_NAME).is_file():
            return None  # a dataset.json of somebody else
        raise DataError(f"dataset {file}: expected what the verb data shard writes: {error!r}") from error
