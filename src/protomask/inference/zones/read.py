"""Zones and lines from files: GeoJSON, and LabelMe for those who draw them on a frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protomask.errors import DataError
from protomask.inference.zones.regions import Line, Region, Zone
from protomask.masks.polygons import Polygon
from protomask.structures.coco_json import read_json

_FARTHEST = 1e6  # px; no frame is as large
_MAX_POINTS = 10_000
_MAX_BYTES = 16 << 20
_LABELME_ZONES, _LABELME_LINES = ("polygon", "rectangle"), ("line", "linestrip")


def read_regions(path: str | Path) -> tuple[Region, ...]:
    """Zones and lines of a file, in pixels of the frame.

    GeoJSON (RFC 7946): polygons are zones and line strings are lines; the property ``name`` names them. LabelMe: shapes
    of the kinds polygon and rectangle are zones, line and linestrip are lines; labels name them.

    Raises:
        DataError: the file cannot be read, a shape is of another kind or has no size, two have one name, or there is
            none; the message names the file and the shape.

    """
    file = Path(path)
    if file.is_file() and file.stat().st_size > _MAX_BYTES:
        raise DataError(f"{file}: expected zones of at most {_MAX_BYTES >> 20} MB")
    content = read_json(file)
    if not isinstance(content, dict):
        raise DataError(f"{file}: expected GeoJSON or LabelMe, got a {type(content).__name__}")
    regions = tuple(_of_labelme(content, file) if "shapes" in content else _of_geojson(content, file))
    if not regions:
        raise DataError(f"{file}: expected at least one zone (a polygon) or line, found none")
    names = [region.name for region in regions]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{file}: expected names that differ, got {', '.join(twice)} more than once")
    return regions


def _of_geojson(content: Mapping[str, Any], file: Path) -> Iterator[Region]:
    kind = content.get("type")
    features: Any = content.get("features") if kind == "FeatureCollection" else [content]
    if not isinstance(features, list):
        raise DataError(f"{file}: features: expected a list")
    counts = {"zone": 0, "line": 0}
    for number, feature in enumerate(features):
        where = f"{file}: feature {number}"
        if not isinstance(feature, dict):
            raise DataError(f"{where}: expected a JSON object")
        geometry = feature.get("geometry") if feature.get("type") == "Feature" else feature
        geometry = geometry if isinstance(geometry, dict) else {}
        kind = geometry.get("type")
        if kind not in ("Polygon", "MultiPolygon", "LineString"):
            raise DataError(f"{where}: expected a Polygon, MultiPolygon or LineString, got {kind!r}")
        word = "line" if kind == "LineString" else "zone"
        counts[word] += 1
        properties = feature.get("properties")
        name = properties.get("name") if isinstance(properties, dict) else None
        name = str(name) if isinstance(name, str | int) and str(name) else f"{word} {counts[word]}"
        where = f"{where} ({name})"
        coordinates = geometry.get("coordinates")
        if kind == "LineString":
            yield Line(name, _line_points(coordinates, where))
        else:
            parts = [coordinates] if kind == "Polygon" else coordinates
            yield Zone(name, tuple(_polygon(part, where) for part in _listed(parts, where)))


def _of_labelme(content: Mapping[str, Any], file: Path) -> Iterator[Region]:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    for number, shape in enumerate(_listed(content["shapes"], f"{file}: shapes")):
        if not isinstance(shape, dict):
            raise DataError(f"{file}: shape {number}: expected a JSON object")
        name, kind = str(shape.get("label") or f"zone {number + 1}"), shape.get("shape_type") or "polygon"
        where = f"{file}: shape {number} ({name})"
        if kind in _LABELME_LINES:
            yield Line(name, _line_points(shape.get("points"), where), size)
        elif kind in _LABELME_ZONES:
            points = _points(shape.get("points"), where)
            if kind == "rectangle":
                (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
                points = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
            yield Zone(name, (Polygon(_ring(points, where)),), size)
        else:
            raise DataError(f"{where}: expected one of {', '.join(_LABELME_ZONES + _LABELME_LINES)}, got {kind!r}")


def _polygon(rings: Any, where: str) -> Polygon:
    exterior, *holes = (_ring(_points(ring, where), where) for ring in _listed(rings, where))
    return Polygon(exterior, tuple(holes))


def _ring(points: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    if len(points) > 1 and np.array_equal(points[0], points[-1]):
        points = points[:-1]
    following = np.roll(points, -1, axis=0)
    if len(points) < 3 or points[:, 0] @ following[:, 1] == points[:, 1] @ following[:, 0]:
        raise DataError(f"{where}: expected a ring of at least three points that encloses an area")
    return points


def _line_points(value: Any, where: str) -> NDArray[np.float64]:
    points = _points(value, where)
    moves = (np.diff(points, axis=0) != 0).any(axis=1)
    points = np.concatenate([points[:1], points[1:][moves]])
    if len(points) < 2:
        raise DataError(f"{where}: expected a line of at least two points that differ")
    return points


def _points(value: Any, where: str) -> NDArray[np.float64]:
    pairs = _listed(value, where)
    fits = all(
        isinstance(pair, list) and len(pair) >= 2 and all(type(number) in (int, float) for number in pair[:2])
        for pair in pairs
    )
    # Compared before they are converted: whole numbers of JSON have no largest one.
    if (
        not fits
        or len(pairs) > _MAX_POINTS
        or not all(abs(number) <= _FARTHEST for pair in pairs for number in pair[:2])
    ):
        raise DataError(
            f"{where}: expected up to {_MAX_POINTS} points [x, y] in pixels, between -{_FARTHEST:g} and {_FARTHEST:g}"
        )
    return np.array([pair[:2] for pair in pairs], dtype=np.float64)


def _listed(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: expected a list of coordinates that is not empty")
    return value
