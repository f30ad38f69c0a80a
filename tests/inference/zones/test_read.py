"""Files of zones and lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from protomask.errors import DataError
from protomask.inference.zones.read import read_regions
from protomask.inference.zones.regions import Line, Zone

SQUARE = [[[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]]


def feature(kind: str, coordinates: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": {"type": kind, "coordinates": coordinates}}


def collection(*features: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)}


def labelme(*shapes: dict[str, Any]) -> dict[str, Any]:
    return {"version": "5.5.0", "imagePath": "a.png", "imageHeight": 40, "imageWidth": 60, "shapes": list(shapes)}


def written(folder: Path, content: Any) -> Path:
    path = folder / "zones.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_geojson_has_zones_and_lines(tmp_path: Path) -> None:
    content = collection(
        feature("Polygon", SQUARE, name="door"),
        feature("LineString", [[0, 1], [5, 1], [5, 1]]),
        feature("MultiPolygon", [SQUARE, [[[8, 8], [9, 8], [9, 9]]]]),
    )
    door, line, parts = read_regions(written(tmp_path, content))
    assert isinstance(door, Zone)
    assert (door.name, len(door.polygons[0].exterior)) == ("door", 4)
    assert isinstance(line, Line)
    assert (line.name, line.points.tolist()) == ("line 1", [[0, 1], [5, 1]])
    assert isinstance(parts, Zone)
    assert (parts.name, len(parts.polygons)) == ("zone 2", 2)


def test_one_geometry_is_enough(tmp_path: Path) -> None:
    (zone,) = read_regions(written(tmp_path, {"type": "Polygon", "coordinates": SQUARE}))
    assert isinstance(zone, Zone)


def test_labelme_shapes_are_zones_and_lines_of_a_frame(tmp_path: Path) -> None:
    content = labelme(
        {"label": "desk", "points": [[9, 9], [1, 2]], "shape_type": "rectangle"},
        {"label": "gate", "points": [[0, 0], [3, 3], [6, 0]], "shape_type": "linestrip"},
    )
    desk, gate = read_regions(written(tmp_path, content))
    assert isinstance(desk, Zone)
    assert desk.polygons[0].exterior.tolist() == [[1, 2], [9, 2], [9, 9], [1, 9]]
    assert desk.frame_size == (40, 60)
    assert isinstance(gate, Line)
    assert len(gate.points) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "zones.json: expected GeoJSON or LabelMe, got a list"),
        ("{", "zones.json"),
        ("[" * 100_000, "zones.json"),
        (collection(), "expected at least one zone"),
        ({"type": "FeatureCollection", "features": 3}, "features: expected a list"),
        (collection(3), "feature 0: expected a JSON object"),
        (collection(feature("Point", [1, 2])), "expected a Polygon, MultiPolygon or LineString, got 'Point'"),
        (collection({"type": "Feature", "geometry": None}), "feature 0: expected a Polygon"),
        (collection(feature("Polygon", [], name="a")), r"feature 0 \(a\): expected a list of coordinates"),
        (collection(feature("Polygon", [[[0, 0], [1, 1]]])), "a ring of at least three points that encloses an area"),
        (collection(feature("Polygon", [[[0, 0], [1, 1], [2, 2]]])), "a ring of at least three points"),
        (collection(feature("Polygon", [[[0, 0], [1, True], [2, 2]]])), r"points \[x, y\] in pixels"),
        (collection(feature("Polygon", [[[0, 0], [1e9, 1], [2, 2]]])), r"points \[x, y\] in pixels"),
        (collection(feature("LineString", [[0, 0], [0, 0]])), "a line of at least two points that differ"),
        (collection(feature("LineString", [[0, 0], "ab"])), r"points \[x, y\] in pixels"),
        (collection(*[feature("Polygon", SQUARE, name="x")] * 2), "expected names that differ, got x more than once"),
        (labelme({"label": "c", "points": [[0, 0]], "shape_type": "circle"}), r"shape 0 \(c\): expected one of pol"),
        (labelme(), "shapes: expected a list"),
    ],
)  # fmt: skip
def test_what_is_no_region_is_one_error(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_regions(written(tmp_path, content))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1" + "0" * 400])
def test_numbers_that_are_no_place_are_refused(tmp_path: Path, number: str) -> None:
    path = written(tmp_path, f'{{"type": "Polygon", "coordinates": [[[0, 0], [{number}, 1], [2, 5]]]}}')
    with pytest.raises(DataError, match=r"zones\.json"):
        read_regions(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json"):
        read_regions(tmp_path / "nowhere.json")
