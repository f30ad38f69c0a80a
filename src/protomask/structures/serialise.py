"""Instances as plain JSON, COCO results, GeoJSON and other packages' objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protomask.errors import DataError, MissingExtraError
from protomask.masks.polygons import Polygon
from protomask.settings import shown

if TYPE_CHECKING:
    import pandas
    import supervision

    from protomask.structures.instances import Instances


TABLE_COLUMNS = (
    "number", "label", "class_name", "score", "class_score", "mask_score", "x1", "y1", "x2", "y2", "area", "perimeter",
)  # fmt: skip
"""Columns of a table, before those that instances may have themselves; in pixels of the original image."""


def to_dict(found: Instances, *, masks: bool = True) -> dict[str, Any]:
    """Convert to plain JSON types: the image size, and one object per instance.

    Args:
        found: the instances of one image.
        masks: add each mask as its COCO run-length code, ``segmentation``.

    """
    rows = describe(found)
    if masks:
        rows = [{**row, "segmentation": dict(code)} for row, code in zip(rows, found.rle(), strict=True)]
    return {"size": list(found.image_size), "instances": rows}


def describe(found: Instances) -> list[dict[str, Any]]:
    """Make one JSON object per instance, without its mask: number, label, class_name, scores, box, columns.

    The column ``track_ids`` becomes ``track_id``.
    """
    columns = {_singular(name): values.tolist() for name, values in found.columns.items()}
    return [
        {
            "number": number,
            "label": one.label,
            "class_name": one.name,
            "score": one.score,
            "class_score": one.class_score,
            "mask_score": one.mask_score,
            "box": one.box.tolist(),
            **{name: values[number - 1] for name, values in columns.items()},
        }
        for number, one in enumerate(found, start=1)
    ]


def _singular(column: str) -> str:
    """What a column is called in the row of one instance."""
    return "track_id" if column == "track_ids" else column


def table_rows(found: Instances) -> list[dict[str, Any]]:
    """Make one row per instance, without mask: number, class, scores, box, area and perimeter in pixels, columns."""
    rows = []
    for one, known in zip(found, describe(found), strict=True):
        x1, y1, x2, y2 = known.pop("box")
        own = {name: known.pop(name) for name in map(_singular, found.columns)}
        measures = {"area": one.area, "perimeter": round(one.perimeter, 2)}
        rows.append({**known, "x1": x1, "y1": y1, "x2": x2, "y2": y2, **measures, **own})
    return rows


def to_pandas(found: Instances) -> pandas.DataFrame:
    """Make a table with one row per instance: number, class, scores, box, area and perimeter in pixels, columns.

    Raises:
        MissingExtraError: pandas is not installed.

    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError("to_pandas needs pandas: pip install 'protomask[pandas]'") from error
    return pd.DataFrame(table_rows(found), columns=[*TABLE_COLUMNS, *map(_singular, found.columns)])


def to_coco(found: Instances, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Convert to COCO result rows (https://cocodataset.org/#format-results).

    ``score`` is the final score; ``class_score`` is added where the two differ, because COCO ranks boxes by the
    class score. ``track_id`` is added where there are tracks.

    Args:
        found: the instances of one image.
        image_id: id of the image in the data set: an integer, also one of NumPy's or PyTorch's, or a string.
        category_ids: category id of each label; label + 1 if not given.

    Raises:
        DataError: an id of another kind, or fewer category ids than classes.

    """
    ids = _plain_ids(range(1, len(found.class_names) + 1) if category_ids is None else category_ids)
    if len(ids) < len(found.class_names):
        raise DataError(f"category_ids: expected one for each of {len(found.class_names)} classes, got {len(ids)}")
    image_id = _plain_id("image_id", image_id)
    rows = []
    for one, code in zip(found, found.rle(), strict=True):
        x1, y1, x2, y2 = one.box.tolist()
        row: dict[str, Any] = {
            "image_id": image_id,
            "category_id": ids[one.label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": one.score,
            "segmentation": dict(code),
        }
        if one.mask_score is not None:
            row["class_score"] = one.class_score
        if one.track_id is not None:
            row["track_id"] = one.track_id
        rows.append(row)
    return rows


def _plain_ids(values: Any) -> list[Any]:
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise DataError(f"category_ids: expected one id for each class, got {shown(values)}")
    return [_plain_id("category_ids", value) for value in values]


def _plain_id(name: str, value: Any) -> Any:
    """An id as JSON has it; data sets may use strings as ids."""
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        value = value.item()  # of an array or tensor
    if isinstance(value, str):
        return str(value)
    if (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    raise DataError(f"{name}: expected a whole number or a text, got {shown(value)}")


def to_geojson(found: Instances) -> dict[str, Any]:
    """Convert to GeoJSON (RFC 7946) in image pixels, y downwards.

    A pixel (row, column) covers column..column+1, row..row+1.
    """
    features = [
        {"type": "Feature", "geometry": _geometry(parts), "properties": properties}
        for parts, properties in zip(found.polygons(), describe(found), strict=True)
    ]
    return {"type": "FeatureCollection", "size": list(found.image_size), "features": features}


def to_supervision(found: Instances) -> supervision.Detections:
    """Convert to `supervision.Detections`, with ``class_name`` in its data.

    Raises:
        MissingExtraError: supervision is not installed.

    """
    try:
        import supervision as sv
    except ImportError as error:
        raise MissingExtraError("to_supervision needs supervision: pip install 'protomask[supervision]'") from error
    return sv.Detections(
        xyxy=np.array(found.boxes),
        mask=np.array(found.masks),
        confidence=np.array(found.scores),
        class_id=found.labels.astype(int),
        tracker_id=None if found.track_ids is None else found.track_ids.astype(int),
        data={"class_name": np.array(found.names, dtype=str)},
    )


def _geometry(parts: Sequence[Polygon]) -> dict[str, Any] | None:
    polygons = [[_closed(ring) for ring in (part.exterior, *part.holes)] for part in parts]
    if not polygons:
        return None
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _closed(ring: NDArray[Any]) -> list[list[float]]:
    points: list[list[float]] = ring.tolist()
    return [*points, points[0]]
