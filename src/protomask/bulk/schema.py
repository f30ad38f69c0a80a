"""What the Parquet files of bulk prediction hold: one row for each image, in a versioned schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from protomask.storage import require_pyarrow
from protomask.structures.frame import Frame

if TYPE_CHECKING:
    import pyarrow

SCHEMA_VERSION = 1
"""Changes with the names, types or meaning of the columns."""
METADATA_KEY = b"protomask.bulk"
"""Key of a file's metadata: JSON with version, run, shard, model, class names, options and counts."""


class Counts(NamedTuple):
    """What one file, or a whole run, holds.

    Attributes:
        images: rows.
        failed: rows with an error.
        instances: in all of the others.

    """

    images: int = 0
    failed: int = 0
    instances: int = 0

    def plus(self, other: Counts) -> Counts:
        """The counts of both."""
        return Counts(*(mine + more for mine, more in zip(self, other, strict=True)))


class ImageRow(NamedTuple):
    """One image of a listing.

    Attributes:
        id: that its row in the output gets.
        image: path or address, of the image or of the Parquet file that has its bytes.
        row: of that Parquet file; None for an image that is a file itself.

    """

    id: str
    image: str
    row: int | None = None


def instance_type() -> pyarrow.DataType:
    """Type of one instance: class, scores, box (xyxy, px of the image), area (pixels) and COCO run-length code."""
    arrow = require_pyarrow()
    real = arrow.float32()
    return arrow.struct(
        [
            ("label", arrow.int32()), ("class_name", arrow.string()),
            ("score", real), ("class_score", real), ("mask_score", real),
            ("x1", real), ("y1", real), ("x2", real), ("y2", real),
            ("area", arrow.int64()), ("rle", arrow.string()),
        ]
    )  # fmt: skip


def schema() -> pyarrow.Schema:
    """Columns of the files and their types."""
    arrow = require_pyarrow()
    text, whole = arrow.string(), arrow.int32()
    return arrow.schema(
        [
            arrow.field("id", text, nullable=False),
            arrow.field("image", text, nullable=False),
            arrow.field("row", arrow.int64()),
            arrow.field("width", whole),
            arrow.field("height", whole),
            arrow.field("error", text),
            arrow.field("instances", arrow.list_(instance_type())),
        ]
    )


SPARK_SCHEMA = (
    "id string, image string, row bigint, width int, height int, error string, instances array<struct<label: int, "
    "class_name: string, score: float, class_score: float, mask_score: float, x1: float, y1: float, x2: float, "
    "y2: float, area: bigint, rle: string>>"
)
"""The same schema in the words of Spark."""


def row_of(image: ImageRow, frame: Frame) -> dict[str, Any]:
    """The row of a predicted image; ``instances`` is null where there is an ``error``."""
    row: dict[str, Any] = {**_storable(image._asdict()), "width": None, "height": None}
    if frame.error is not None or frame.found is None:
        return {**row, "error": _text(str(frame.error)), "instances": None}
    found = frame.found.best_first()
    height, width = found.image_size
    instances = [
        {
            "label": one.label, "class_name": one.name,
            "score": one.score, "class_score": one.class_score, "mask_score": one.mask_score,
            **dict(zip(("x1", "y1", "x2", "y2"), one.box.tolist(), strict=True)),
            "area": one.area, "rle": code["counts"],
        }
        for one, code in zip(found, found.rle(), strict=True)
    ]  # fmt: skip
    return {**row, "width": width, "height": height, "error": None, "instances": instances}


def counts_of(rows: Sequence[Mapping[str, Any]]) -> Counts:
    """Counts of the rows of `row_of`."""
    failed = sum(row["error"] is not None for row in rows)
    return Counts(len(rows), failed, sum(len(row["instances"] or ()) for row in rows))


def with_metadata(table: pyarrow.Table, known: Mapping[str, Any]) -> pyarrow.Table:
    """The table as it is written."""
    content = {"version": SCHEMA_VERSION, **known}
    return table.replace_schema_metadata({METADATA_KEY: json.dumps(content).encode()})


def read_metadata(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any] | None:
    """What `with_metadata` has noted; None where it has not, or in another version."""
    try:
        known = json.loads((metadata or {})[METADATA_KEY])
    except (KeyError, ValueError):
        return None
    return known if isinstance(known, dict) and known.get("version") == SCHEMA_VERSION else None


def _storable(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _text(value) if isinstance(value, str) else value for name, value in row.items()}


def _text(value: str) -> str:
    """Names of files that are not UTF-8 have characters that a table cannot hold."""
    return value.encode("utf-8", "backslashreplace").decode()
