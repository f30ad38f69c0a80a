"""The images that inputs of bulk prediction stand for, one by one: folders, globs, listings, Parquet files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from protomask.bulk.options import BulkOptions
from protomask.bulk.schema import ImageRow
from protomask.bulk.tables import table_rows
from protomask.errors import DataError
from protomask.images.fetch import is_url
from protomask.images.pixels import IMAGE_SUFFIXES
from protomask.storage import Place, below, is_glob, matching, place_of

TABLE_SUFFIX, LISTING_SUFFIX = ".parquet", ".txt"


def image_rows(inputs: Sequence[str], options: BulkOptions) -> Iterator[ImageRow]:
    """All images, in the order of the inputs; little is in memory whatever their number.

    Args:
        inputs: images, folders, globs, listings (.txt, a path or address per line), Parquet files, addresses of any of
            these. A folder gives its images, or if it has none its Parquet files.
        options: say where to look, and in which columns.

    Raises:
        DataError: an input does not exist, cannot be read, or stands for no image; the message names it.
        ConfigError: a Parquet file has no such column.

    """
    for given in inputs:
        count = 0
        for count, row in enumerate(_rows_of(given, options), start=1):  # noqa: B007
            yield row
        if not count:
            endings = " ".join([*sorted(IMAGE_SUFFIXES), TABLE_SUFFIX])
            raise DataError(f"{given}: stands for no image (endings looked for: {endings})")


def _rows_of(given: str, options: BulkOptions) -> Iterator[ImageRow]:
    if is_url(given):
        yield ImageRow(given, given)
        return
    place = place_of(given)
    kind = place.kind()
    if kind == "file":
        yield from _rows_of_file(place, options)
    elif kind == "folder":
        yield from _rows_of_folder(place, options)
    elif is_glob(given):
        yield from _rows_of_files(matching(place), options)
    else:
        raise DataError(f"{place}: no such file or folder")


def _rows_of_folder(folder: Place, options: BulkOptions) -> Iterator[ImageRow]:
    has_images = False
    for file in below(folder, recursive=options.recursive):
        if _suffix(file) in IMAGE_SUFFIXES:
            has_images = True
            yield _of_file(file)
    if not has_images:
        tables = (file for file in below(folder, recursive=options.recursive) if _suffix(file) == TABLE_SUFFIX)
        yield from _rows_of_files(tables, options)


def _rows_of_files(files: Iterable[Place], options: BulkOptions) -> Iterator[ImageRow]:
    for file in files:
        if _suffix(file) in (TABLE_SUFFIX, LISTING_SUFFIX, *IMAGE_SUFFIXES):
            yield from _rows_of_file(file, options)


def _rows_of_file(file: Place, options: BulkOptions) -> Iterator[ImageRow]:
    if _suffix(file) == TABLE_SUFFIX:
        rows = table_rows(file, image_column=options.image_column, id_column=options.id_column)
        yield from (row if row.row is not None else _located(row, options) for row in rows)
    elif _suffix(file) == LISTING_SUFFIX:
        yield from (_located(ImageRow(line, line), options) for line in _lines(file))
    else:
        yield _of_file(file)


def _lines(file: Place) -> Iterator[str]:
    with io.TextIOWrapper(io.BufferedReader(file.open()), encoding="utf-8", errors="surrogateescape") as text:
        yield from (stripped for line in text if (stripped := line.strip()))


def _of_file(file: Place) -> ImageRow:
    return ImageRow(str(file), str(file))


def _located(row: ImageRow, options: BulkOptions) -> ImageRow:
    """A row whose image can be found from any folder."""
    return row if is_url(row.image) else row._replace(image=str(place_of(row.image, start=options.image_root)))


def _suffix(file: Place) -> str:
    return PurePosixPath(file.name).suffix.lower()
