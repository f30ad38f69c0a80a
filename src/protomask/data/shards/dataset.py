"""A split in Parquet as a data set: read group by group, with little in memory whatever its size."""

from __future__ import annotations

import io
import json
import os
from collections import Counter, OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.schema import Annotation, read_schema
from protomask.data.coco.shard_layout import Shards
from protomask.data.shards.order import streamed_order
from protomask.errors import DataError
from protomask.storage import require_pyarrow
from protomask.structures.coco_json import CocoFile, Fault

CACHE_BYTES = 256 << 20
"""Bytes of image files that each process keeps: about two windows of `streamed_order`."""


class ShardedDataset(CocoDataset):
    """The images of one split in Parquet, in order; as `CocoDataset` in all else.

    What is in memory is an index, some tens of bytes for each image, and the groups of rows that were read last.

    Args:
        shards: the data set.
        split: one of its splits.
        class_names: names in label order; by default those of the data set.
        classes: names of the only classes to look at. None for all.
        faults: receives a fault of the class names, which would be raised otherwise.

    Raises:
        DataError: a file is missing or damaged, or the classes do not match.

    """

    def __init__(
        self,
        shards: Shards,
        split: str,
        *,
        class_names: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        faults: list[Fault] | None = None,
    ) -> None:
        place = shards.index_of(split)
        self.annotation_file, self.image_dir = Path(str(place)), Path(str(shards.folder.child(split)))
        categories = zip(shards.category_ids, shards.class_names, strict=True)
        self._classes, self._categories = classes, [{"id": own, "name": name} for own, name in categories]
        schema, found = read_schema(self._file({"images": [], "annotations": []}), class_names)
        if found and faults is None:
            raise found[0]
        if faults is not None:
            faults += found
        self.class_names, self.category_ids = schema.class_names, schema.category_ids
        self.orientation = shards.orientation
        self.problems, self.notes, self.respelled, self.elsewhere = (), (), [], []
        self.mask_sources = Counter(shards.splits[split].mask_sources)
        self._mask_weights, self._warned = {}, False
        self._num_annotations = shards.splits[split].annotations
        self._table = _read_index(shards, split)
        ids, heights, widths = (self._table[name].to_numpy() for name in ("image_id", "height", "width"))
        self.image_ids = _Numbers(ids)  # type: ignore[assignment]  # as a tuple, which would take ten times as much
        self._image_sizes = _Sizes(np.stack([heights, widths], axis=1))  # type: ignore[assignment]  # likewise
        self._groups = _Groups(shards, split)
        # Labels in the index are the data set's, which may be named in another order here.
        self._label_of = {
            number: self.class_names.index(name) for number, name in enumerate(shards.class_names)
            if name in self.class_names
        }  # fmt: skip

    def keep_first(self, count: int) -> None:
        """See `CocoDataset.keep_first`."""
        self.image_ids, self._image_sizes = self.image_ids[:count], self._image_sizes[:count]

    def labels_of(self, index: int) -> set[int]:
        """See `CocoDataset.labels_of`; taken from the index."""
        labels = self._table["labels"][index].as_py()
        return {self._label_of[label] for label in labels if label in self._label_of}

    def image_path(self, index: int) -> Path:
        """What messages call item ``index``: a name in the folder of the split, where no such file is."""
        name: str = self._table["file_name"][index].as_py()
        return self.image_dir / name

    def load_annotations(self, index: int) -> list[Annotation]:
        """See `CocoDataset.load_annotations`.

        Raises:
            DataError: the file cannot be read, or an annotation in it is wrong.

        """
        entries = json.loads(self._groups.read(index).annotations)
        image_id, (height, width) = self.image_ids[index], self._image_sizes[index]
        image = {"id": image_id, "file_name": self.image_path(index).name, "height": height, "width": width}
        annotations = [{**entry, "image_id": image_id} for entry in entries]
        schema, found = read_schema(self._file({"images": [image], "annotations": annotations}), self.class_names)
        if found:
            raise found[0]
        return schema.annotations[0]

    def order(self, random: np.random.Generator, shown: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `CocoDataset.order`; images that follow each other lie in few groups of rows."""
        return streamed_order(random, shown // self._groups.size)

    @property
    def is_remote(self) -> bool:
        """See `CocoDataset.is_remote`."""
        return not self._groups.is_local

    def _image_file(self, index: int) -> tuple[io.BytesIO, int]:
        content = self._groups.read(index).image
        return io.BytesIO(content), len(content)

    def _file(self, content: dict[str, Any]) -> CocoFile:
        """A COCO file of some images, with the categories of the data set."""
        file = CocoFile(self.annotation_file, {**content, "categories": self._categories})
        return file if self._classes is None else file.with_classes(self._classes)


class _Row(NamedTuple):
    image: bytes
    annotations: str


class _Groups:
    """Groups of rows of the files of a split; those that were read last are kept, each process has its own."""

    def __init__(self, shards: Shards, split: str) -> None:
        self.size, self.is_local = shards.group_size, shards.folder.is_local
        self._shards, self._split = shards, split
        self._kept: OrderedDict[int, list[_Row]] = OrderedDict()
        self._bytes = 0
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": OrderedDict(), "_bytes": 0}

    def read(self, index: int) -> _Row:
        """Raises: DataError if the file cannot be read."""
        if self._process != os.getpid():  # of a forked process: what it inherited is the other one's
            self._kept, self._bytes, self._process = OrderedDict(), 0, os.getpid()
        number, row = divmod(index, self.size)
        if number not in self._kept:
            group = self._read(number)
            self._bytes += _bytes_of(group)
            self._kept[number] = group
            while self._bytes > CACHE_BYTES and len(self._kept) > 1:
                self._bytes -= _bytes_of(self._kept.popitem(last=False)[1])
        self._kept.move_to_end(number)
        return self._kept[number][row]

    def _read(self, number: int) -> list[_Row]:
        per_shard = self._shards.shard_size // self.size
        place = self._shards.shard_of(self._split, number // per_shard)
        parquet = require_pyarrow("parquet")
        try:
            with place.open() as file:
                opened = parquet.ParquetFile(file, pre_buffer=False)
                table = opened.read_row_group(number % per_shard, columns=list(_Row._fields), use_threads=False)
        except DataError:
            raise
        except Exception as error:  # of a damaged file
            raise DataError(f"{place}: group {number % per_shard} of its rows cannot be read: {error}") from error
        return [_Row(*row) for row in zip(*(table[name].to_pylist() for name in _Row._fields), strict=True)]


def _bytes_of(group: Sequence[_Row]) -> int:
    return sum(len(row.image) + len(row.annotations) for row in group)


def _read_index(shards: Shards, split: str) -> Any:
    """The index of a split, one column of numbers or texts after another.

    Raises:
        DataError: it is damaged, or has another number of images.

    """
    place, wanted = shards.index_of(split), shards.splits[split].images
    try:
        with place.open() as file:
            table = require_pyarrow("parquet").read_table(file, use_threads=False).combine_chunks()
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{place}: the index cannot be read: {error}") from error
    if table.num_rows != wanted:
        raise DataError(f"{place}: expected {wanted} images, got {table.num_rows}")
    return table


class _Numbers(Sequence[int]):
    """Numbers in an array."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> _Numbers: ...

    def __getitem__(self, index: int | slice) -> Any:
        return _Numbers(self._values[index]) if isinstance(index, slice) else int(self._values[index])


class _Sizes(Sequence[tuple[int, int]]):
    """Pairs of numbers in an array."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, index: int) -> tuple[int, int]: ...

    @overload
    def __getitem__(self, index: slice) -> _Sizes: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return _Sizes(self._values[index])
        height, width = self._values[index].tolist()
        return height, width
