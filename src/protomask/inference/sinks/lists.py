"""Sinks that write one file about all frames: COCO results, JSON lines, tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from protomask.errors import ConfigError, MissingExtraError
from protomask.files import NewFile, naming
from protomask.inference.sinks.growing import GrowingFile
from protomask.inference.sinks.json_list import JsonList
from protomask.inference.sinks.pictures import file_of, found_in, json_line, write_json
from protomask.inference.sinks.sink import Sink, make_folder
from protomask.structures.coco_json import ImageIds
from protomask.structures.frame import Frame
from protomask.structures.serialise import table_rows


class CocoSink(Sink):
    """``predictions.json``: COCO results of all images (https://cocodataset.org/#format-results), a plain list; and
    ``images.json``: a COCO file with the ``images`` and ``categories`` that it refers to, and no annotations.

    Both appear when all frames have come, so a list that exists is complete.

    Args:
        folder: where they go; made if needed.
        image_ids: COCO image id of each file name, see
            `protomask.structures.coco_json.read_coco_ids`; 1, 2, ... in order when not given.
        category_ids: COCO category id of each label; label + 1 when not given.

    """

    def __init__(
        self,
        folder: str | Path,
        *,
        image_ids: Mapping[str, int] | None = None,
        category_ids: Sequence[int] | None = None,
    ) -> None:
        self.folder = make_folder(Path(folder))
        self._image_ids = None if image_ids is None else ImageIds(image_ids)
        self._category_ids = category_ids
        self._class_names: tuple[str, ...] = ()
        self._images: list[dict[str, Any]] = []
        self._rows = JsonList(self.folder / "predictions.json")

    def check(self, frame: Frame) -> None:
        """See `Sink.check`."""
        self._id_of(frame)

    def write(self, frame: Frame) -> list[Path]:
        """See `Sink.write`."""
        found, image_id = found_in(frame), self._id_of(frame)
        height, width = found.image_size
        self._class_names = found.class_names
        of_video = {} if frame.time is None else {"frame": frame.index, "time": frame.time}
        self._images.append({"id": image_id, "file_name": file_of(frame), "height": height, "width": width, **of_video})
        self._rows.extend(found.to_coco(image_id, self._category_ids))
        return []

    def replay(self, frame: Frame) -> None:
        """See `Sink.replay`."""
        self.write(frame)

    def close(self, *, complete: bool) -> None:
        """See `Sink.close`."""
        try:
            if complete:
                ids = self._category_ids or range(1, len(self._class_names) + 1)
                categories = [{"id": ids[label], "name": name} for label, name in enumerate(self._class_names)]
                content = {"images": self._images, "categories": categories, "annotations": []}
                write_json(self.folder / "images.json", content)
                self._rows.complete()
        finally:
            self._rows.discard()

    def _id_of(self, frame: Frame) -> int:
        return len(self._images) + 1 if self._image_ids is None else self._image_ids.of(frame.source)


JSON_LINES_NAME = "predictions.jsonl"


class JsonLinesSink(Sink):
    """``predictions.jsonl``: one JSON object per frame, one per line, as each frame finishes.

    Args:
        folder: where it goes; made if needed.
        keep: bytes of the file of an earlier run that stay; the new lines follow them.

    """

    def __init__(self, folder: str | Path, *, keep: int = 0) -> None:
        self.path = make_folder(Path(folder)) / JSON_LINES_NAME
        self._file = GrowingFile(self.path, keep=keep)

    def write(self, frame: Frame) -> list[Path]:
        """See `Sink.write`."""
        row: dict[str, Any] = {"file": file_of(frame), **found_in(frame).to_dict()}
        if frame.time is not None:
            row = {"frame": frame.index, "time": frame.time, **row}
        self._file.extend(json_line(row))
        return []

    def close(self, *, complete: bool) -> None:
        """See `Sink.close`."""
        if complete:
            self._file.extend(b"")  # also where no frame came
        self._file.close()


TABLE_COLUMNS = (
    "file", "frame", "time", "number", "class_name", "label", "score", "class_score", "mask_score",
    "x1", "y1", "x2", "y2", "area", "perimeter", "track_id",
)  # fmt: skip
"""Columns of a table; boxes, areas and perimeters are in pixels of the original image."""
_ROWS_PER_GROUP = 1 << 14
"""Rows of a group in a Parquet file: each has its own index, so a group per frame would cost more than its rows."""


class TableSink(Sink):
    """``predictions.csv`` or ``predictions.parquet``: one row per instance, see `TABLE_COLUMNS`.

    The file appears when all frames have come.

    Args:
        folder: where it goes; made if needed.
        format: csv or parquet.

    Raises:
        ConfigError: ``format`` is unknown.
        MissingExtraError: pyarrow, which writes parquet, is not installed.

    """

    def __init__(self, folder: str | Path, format: Literal["csv", "parquet"] = "csv") -> None:
        if format not in ("csv", "parquet"):
            raise ConfigError(f"table format: expected csv or parquet, got {format!r}")
        self.path = make_folder(Path(folder)) / f"predictions.{format}"
        self._table: _CsvTable | _ParquetTable = (_CsvTable if format == "csv" else _ParquetTable)(self.path)

    def write(self, frame: Frame) -> list[Path]:
        """See `Sink.write`."""
        found = found_in(frame)
        rows = []
        for known in table_rows(found):
            known |= {"file": file_of(frame), "frame": frame.index, "time": frame.time}
            known.setdefault("track_id", None)
            rows.append([known[name] for name in TABLE_COLUMNS])
        with naming(self.path):
            self._table.extend(rows)
        return []

    def replay(self, frame: Frame) -> None:
        """See `Sink.replay`."""
        self.write(frame)

    def close(self, *, complete: bool) -> None:
        """See `Sink.close`."""
        with naming(self.path):
            self._table.close(complete=complete)


class _CsvTable:
    """A CSV file that grows under a temporary name and gets its own when complete."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new: NewFile | None = None

    def extend(self, rows: Sequence[Sequence[Any]]) -> None:
        if self._new is None:
            self._new = NewFile(self._path)
            rows = [TABLE_COLUMNS, *rows]
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        self._new.file.write(text.getvalue().encode("utf-8", "backslashreplace"))

    def close(self, *, complete: bool) -> None:
        try:
            if complete:
                self.extend([])
                assert self._new is not None
                self._new.complete()
        finally:
            if self._new is not None:
                self._new.discard()


class _ParquetTable:
    """A Parquet file that grows under a temporary name and gets its own when complete."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise MissingExtraError("parquet tables need pyarrow: pip install 'protomask[tables]'") from error
        self._path = path
        self._new: NewFile | None = None
        self._arrow, self._parquet = pyarrow, parquet
        whole, real, text = pyarrow.int64(), pyarrow.float64(), pyarrow.string()
        kinds = {"file": text, "class_name": text} | dict.fromkeys(
            ("frame", "number", "label", "area", "track_id"), whole
        )
        self._schema = pyarrow.schema([(name, kinds.get(name, real)) for name in TABLE_COLUMNS])
        self._writer: Any = None
        self._rows: list[Sequence[Any]] = []

    def extend(self, rows: Sequence[Sequence[Any]]) -> None:
        self._rows += rows
        if len(self._rows) >= _ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._new is None:
            self._new = NewFile(self._path)
            self._writer = self._parquet.ParquetWriter(self._new.file, self._schema)
        if self._rows:
            columns = [[_storable(value) for value in column] for column in zip(*self._rows, strict=True)]
            self._writer.write_table(self._arrow.table(columns, schema=self._schema))
            self._rows = []

    def close(self, *, complete: bool) -> None:
        try:
            if complete:
                self._flush()
            if self._writer is not None:
                self._writer.close()
            if complete and self._new is not None:
                self._new.complete()
        finally:
            if self._new is not None:
                self._new.discard()


def _storable(value: Any) -> Any:
    """Names of files that are not UTF-8 have characters that a table cannot hold."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
