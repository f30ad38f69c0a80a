from __future__ import annotations

import re
from itertools import pairwise

import pytest

from protomask.charts.bars import Bar, histogram, stacked_bars
from protomask.charts.scales import Axis
from svg_elements import check_readable, count, words_of

STAGES = ["decode", "network", "masks"]


def boxes(body: str) -> list[tuple[float, float, float, float]]:
    """x, y, width and height of the bars, without those of the key."""
    found = re.findall(r'<rect class="mark s\d" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"><', body)
    return [(float(x), float(y), float(width), float(height)) for x, y, width, height in found]


def test_parts_lie_end_to_end() -> None:
    bars = [
        Bar(name="nano", parts=[1.0, 4.0, 2.0], reach=9.0, words="7.0 ms (p95 9.0)"),
        Bar(name="runs/" + "very_" * 20 + "long.onnx", parts=[2.0, 0.0, 1.0], words="3.0 ms"),
    ]
    chart = stacked_bars(bars, STAGES, title="Time", x=Axis(label="milliseconds"))
    check_readable(chart)
    first = boxes(chart.body)[:3]
    assert len(boxes(chart.body)) == 5  # nothing is drawn for 0
    assert first[1][0] - first[0][0] == pytest.approx(0.25 * (first[2][0] - first[1][0]), abs=0.2)
    assert count(chart, "reach") == 1
    words = [word.text for word in words_of(chart)]
    assert {"nano", *STAGES, "7.0 ms (p95 9.0)", "milliseconds"} <= set(words)
    assert [word for word in words if "…" in word and word.endswith("long.onnx")]
    assert bars[1].name in chart.body  # whole for the pointer
    assert "nano: decode 1, network 4, masks 2, 7.0 ms (p95 9.0)" in chart.description


def test_bars_without_length() -> None:
    chart = stacked_bars([Bar(name="a", parts=[0.0, 0.0, 0.0])], STAGES, title="t", x=Axis(label="ms"))
    check_readable(chart)
    assert boxes(chart.body) == []


@pytest.mark.parametrize("most", [0, 1, 7, 10, 999, 1000, 123_456])
def test_histogram_on_a_logarithmic_axis(most: int) -> None:
    counts = {"a": [most, 0, 1 if most else 0], "b": [0, most, most]}
    y = Axis(label="detections", log=True)
    chart = histogram(counts, title="", x=Axis(label="score", span=(0.0, 1.0)), y=y)
    check_readable(chart)
    drawn = boxes(chart.body)
    assert len(drawn) == sum(value > 0 for bins in counts.values() for value in bins)
    assert all(height >= 2 for *_, height in drawn)
    assert ("no data" in chart.body) == (most == 0)
    assert f"a: {most}, 0, " in chart.description


def test_histograms_of_several_names_stand_side_by_side() -> None:
    x = Axis(span=(0.0, 1.0))
    chart = histogram({"a": [3, 3], "b": [3, 3]}, title="t", x=x, y=Axis(label="n"), numbers=[4, 0])
    drawn = sorted(boxes(chart.body))
    assert all(one[0] + one[2] <= other[0] for one, other in pairwise(drawn))
    assert re.findall(r'class="mark (s\d)"', chart.body) == ["s4", "s4", "s0", "s0"]
