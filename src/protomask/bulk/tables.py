"""Parquet files as sources of images: paths, addresses, or the bytes of image files."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from protomask.bulk.schema import ImageRow
from protomask.errors import ConfigError, DataError
from protomask.storage import Place, require_pyarrow

_ROWS_AT_ONCE = 1024
_IMAGES_AT_ONCE = 16


def table_rows(place: Place, *, image_column: str, id_column: str | None) -> Iterator[ImageRow]:
    """The images of a Parquet file, in order; bytes are not read yet.

    Args:
        place: of the file.
        image_column: has the images: texts are paths or addresses, all else is bytes.
        id_column: has their ids.

    Raises:
        ConfigError: the file has no such column, or one of another type.
        DataError: it is not a Parquet file, or cannot be read.

    """
    file = _opened(place)
    holds_paths = _holds_paths(file, place, image_column)
    if id_column is not None and id_column not in file.schema_arrow.names:
        raise ConfigError(_lacks(file, place, "id_column", id_column))
    columns = [name for name in (image_column if holds_paths else None, id_column) if name is not None]
    number = 0
    batches = file.iter_batches(_ROWS_AT_ONCE, columns=columns) if columns else ()
    for batch in batches:
        values = batch.to_pydict()
        images = values[image_column] if holds_paths else [None] * len(batch)
        ids = values[id_column] if id_column is not None else [None] * len(batch)
        for image, own in zip(images, ids, strict=True):
            yield _row(place, number, image, own)
            number += 1
    for row in range(number, file.metadata.num_rows):
        yield _row(place, row, None, None)


def _row(place: Place, number: int, image: str | None, own: Any) -> ImageRow:
    if image is None:
        return ImageRow(f"{place}#{number}" if own is None else str(own), str(place), number)
    return ImageRow(image if own is None else str(own), image)


class TableImages:
    """Reads images out of Parquet files, a few rows at a time; fast where rows come in order.

    Args:
        image_column: column that has the bytes, or structs with ``bytes`` or a ``path``.

    """

    def __init__(self, image_column: str) -> None:
        self._column = image_column
        self._place: Place | None = None
        self._file: Any = None
        self._starts: list[int] = []
        self._batches: Iterator[Any] = iter(())
        self._batch: list[Any] = []
        self._first = 0
        self._group = -1

    def read(self, place: Place, row: int) -> bytes | str:
        """The bytes of the image in a row, or its path.

        Raises:
            DataError: the file cannot be read, or has no image there.

        """
        try:
            value = self._value(place, row)
        except (OSError, ValueError, KeyError, IndexError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{place}: row {row} cannot be read: {error}") from error
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if not isinstance(value, bytes | str) or not value:
            raise DataError(f"{place}: row {row} of column {self._column} has no image")
        return value

    def _value(self, place: Place, row: int) -> Any:
        if place != self._place:
            self._file, self._batch, self._group, self._place = _opened(place), [], -1, place
            groups = range(self._file.num_row_groups)
            sizes = (self._file.metadata.row_group(group).num_rows for group in groups)
            self._starts = list(accumulate(sizes, initial=0))
        if not row < self._starts[-1]:
            raise IndexError(f"there are {self._starts[-1]} rows")
        if not self._first <= row < self._first + len(self._batch):
            self._seek(row)
        return self._batch[row - self._first]

    def _seek(self, row: int) -> None:
        """Go on to the batch that has a row; from the beginning of its group where it does not follow."""
        here = self._first + len(self._batch)
        group = bisect_right(self._starts, row) - 1
        if row < here or group != self._group:
            self._batches = self._file.iter_batches(_IMAGES_AT_ONCE, row_groups=[group], columns=[self._column])
            here, self._group = self._starts[group], group
        for batch in self._batches:
            if row < here + len(batch):
                self._first, self._batch = here, batch.column(0).to_pylist()
                return
            here += len(batch)
        raise IndexError(f"group {group} of rows ends before it")


def _opened(place: Place) -> Any:
    parquet = require_pyarrow("parquet")
    file = place.open()
    try:
        return parquet.ParquetFile(file)
    except Exception as error:  # of a damaged file
        raise DataError(f"{place}: expected a Parquet file: {error}") from error


def _holds_paths(file: Any, place: Place, column: str) -> bool:
    """Whether a column has texts.

    Raises:
        ConfigError: there is none, or it has neither texts nor bytes.

    """
    types = require_pyarrow("types")
    schema = file.schema_arrow
    if column not in schema.names:
        raise ConfigError(_lacks(file, place, "image_column", column))
    kind = schema.field(column).type
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_string(kind) or types.is_large_string(kind):
        return True
    if types.is_binary(kind) or types.is_large_binary(kind):
        return False
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return False
    raise ConfigError(f"image_column: expected texts, bytes, or structs with bytes in {column} of {place}, got {kind}")


def _lacks(file: Any, place: Place, setting: str, column: str) -> str:
    return f"{setting}: expected one of {', '.join(file.schema_arrow.names)} in {place}, got {column!r}"
