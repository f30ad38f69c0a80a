from __future__ import annotations

import math
import re

import pytest

from protomask.charts.plots import Series, line_chart, scatter_chart
from protomask.charts.scales import Axis
from svg_elements import check_readable, count, lines_of, root_of, words_of

X, Y = Axis(label="x & y"), Axis(label="loss")
LOG = Axis(label="loss", log=True)


@pytest.mark.parametrize(
    "points",
    [
        [(1, 2.0)],
        [(0, 0.0), (10, 0.0)],
        [(1, 5.0), (2, 5.0), (3, 5.0)],
        [(1, 1e-7), (20_000, 3e4)],
        [(0, -3.0), (1, 2.0)],
        [(k, 1 + k % 7) for k in range(5000)],
        [(0, math.nan), (1, math.inf), (2, 1.0)],
    ],
    ids=["one", "zero", "constant", "wide", "negative", "many", "not finite"],
)
@pytest.mark.parametrize("y", [Y, LOG], ids=["linear", "log"])
def test_lines_stay_inside_the_axes(points: list[tuple[float, float]], y: Axis) -> None:
    chart = line_chart([Series(name="a", points=points), Series(name="nothing", points=[])], title="a < b", x=X, y=y)
    assert "a < b" in "".join(root_of(chart).itertext())  # well-formed, names escaped
    check_readable(chart)
    for line in lines_of(chart):
        assert 1 < len(line) <= 400
        assert all(0 <= x <= chart.width and 0 <= y <= chart.height for x, y in line)
    assert "nothing" not in chart.body
    assert len(words_of(chart)) >= 4


def test_points_rise_where_values_do() -> None:
    [line] = lines_of(line_chart([Series(name="a", points=[(0, 0.1), (1, 0.2), (2, 0.4)])], title="", x=X, y=LOG))
    assert line[0][1] - line[1][1] == pytest.approx(line[1][1] - line[2][1], abs=0.2)  # equal factors
    assert line[1][0] - line[0][0] == pytest.approx(line[2][0] - line[1][0], abs=0.2)


@pytest.mark.parametrize("series", [[], [Series(name="a", points=[(1, 0.0)])]], ids=["no series", "no positive value"])
def test_a_chart_without_data_says_so(series: list[Series]) -> None:
    chart = line_chart(series, title="empty", x=X, y=LOG)
    assert "no data" in [word.text for word in words_of(chart)]
    assert "no data" in chart.description
    check_readable(chart)


def test_a_line_of_one_point_is_a_mark() -> None:
    chart = line_chart([Series(name="a", points=[(3, 2.0)])], title="", x=X, y=Y)
    assert (count(chart, "mark"), count(chart, "line")) == (1, 0)


def test_the_key_names_series_where_there_are_several() -> None:
    alone = line_chart([Series(name="total", points=[(0, 1), (1, 2)])], title="", x=X, y=Y)
    assert "total" not in [word.text for word in words_of(alone)]
    several = [Series(name=f"a long name, number {k}", points=[(0, k), (1, 2)], marks=True) for k in range(12)]
    chart = line_chart(several, title="", x=X, y=Y)
    check_readable(chart)
    shown = [word.text for word in words_of(chart)]
    assert all(one.name in shown for one in several)
    assert chart.height > alone.height
    assert line_chart(several, title="", x=X, y=Y, key=False).height == alone.height


def test_series_differ_by_more_than_colour() -> None:
    series = [Series(name=str(k), points=[(0, k), (1, k)], marks=True) for k in range(16)]
    chart = line_chart(series, title="", x=X, y=Y, key=False)
    looks = re.findall(r'<(\w+) class="mark (s\d)"(?: d="[^l]*(l[^"]*)")?', chart.body)
    assert len(set(looks)) == 16
    assert count(chart, "line") == 16
    assert chart.body.count("dashed") == 8


def test_hollow_marks_are_those_asked_for() -> None:
    points = [(0.0, 1.0), (1.0, math.nan), (2.0, 1.0), (3.0, 1.0)]
    chart = line_chart([Series(name="a", points=points, marks=True, hollow=[2])], title="", x=X, y=Y)
    assert re.findall(r'class="(mark|hollow) ', chart.body) == ["mark", "hollow", "mark"]


def test_given_ticks_and_notes() -> None:
    x = Axis(label="batch size", span=(-0.5, 20.5), ticks={float(k): str(1 << k) for k in range(21)})
    notes = ["first", "a second line that is much too long for the chart and so goes on below itself, word by word"]
    chart = line_chart([Series(name="a", points=[(k, k) for k in range(21)])], title="t", x=x, y=Y, notes=notes)
    check_readable(chart)
    words = [word.text for word in words_of(chart)]
    assert {"1", "first", "batch size"} <= set(words)
    assert "2" not in words  # not enough room for all


def test_marks_show_their_values_to_the_pointer() -> None:
    chart = scatter_chart({"a": (42.5, 0.445), "b": (34.3, 0.444)}, title="AP", x=Axis(label="ms"), y=Axis(label="AP"))
    assert (count(chart, "mark"), count(chart, "line")) == (4, 0)  # two of them in the key
    assert "a: ms 42.5, AP 0.445" in chart.body
    check_readable(chart)


def test_the_description_says_what_can_be_seen() -> None:
    chart = line_chart([Series(name="total", points=[(0, 8.25), (1, 2.0)])], title="Loss", x=X, y=Y)
    assert chart.description == "loss over x & y. total: from 8.25 to 2."
    described = root_of(chart).find("{http://www.w3.org/2000/svg}desc")
    assert described is not None
    assert described.text == chart.description


@pytest.mark.parametrize("height", [110.0, 150.0, 280.0])
@pytest.mark.parametrize("top", [3.0, 13.0, 19.0, 95.0, 1e4])
def test_numbers_of_a_logarithmic_axis_do_not_cover_each_other(top: float, height: float) -> None:
    y = Axis(label="loss", log=True)
    chart = line_chart(
        [Series(name="a", points=[(0, 2.9), (1, top)])], title="", x=Axis(span=(0.0, 1.0)), y=y, height=height
    )
    check_readable(chart)
    assert len(words_of(chart)) > 3
