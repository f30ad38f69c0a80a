from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from protomask.charts.lines import line_chart

LABELS = {"title": "a < b", "x_label": "x & y", "y_label": "loss"}


def coordinates(figure: str) -> list[tuple[float, float]]:
    """Points of the lines drawn."""
    paths = re.findall(r'class="line \w+" d="M([^"]+)"', figure)
    return [(float(x), float(y)) for path in paths for x, y in (point.split() for point in path.split("L"))]


@pytest.mark.parametrize(
    "points",
    [
        [(1, 2.0)],
        [(0, 0.0), (10, 0.0)],
        [(1, 5.0), (2, 5.0), (3, 5.0)],
        [(1, 1e-7), (20_000, 3e4)],
        [(k, 1 + k % 7) for k in range(5000)],
    ],
)
@pytest.mark.parametrize("log", [False, True])
def test_lines_stay_inside_the_axes(points: list[tuple[float, float]], log: bool) -> None:
    figure = line_chart({"a": points, "nothing": []}, **LABELS, log=log)
    root = ElementTree.fromstring(figure)  # well-formed, names escaped
    assert "a < b" in "".join(root.itertext())
    drawn = coordinates(figure)
    assert len(drawn) <= 400
    assert all(64 <= x <= 426 and 12 <= y <= 238 for x, y in drawn)
    if drawn:
        assert "nothing" not in figure
        assert len(re.findall(r"<text", figure)) >= 4


def test_points_rise_where_values_do() -> None:
    drawn = coordinates(line_chart({"a": [(0, 0.1), (1, 0.2), (2, 0.4)]}, **LABELS, log=True))
    assert drawn[0][1] - drawn[1][1] == pytest.approx(drawn[1][1] - drawn[2][1], abs=0.2)  # equal factors


def test_nothing_to_draw_is_said() -> None:
    assert "no data" in line_chart({}, **LABELS)
    assert "no data" in line_chart({"a": [(1, 0.0)]}, **LABELS, log=True)
