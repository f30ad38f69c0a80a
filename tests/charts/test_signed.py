from __future__ import annotations

import re

from protomask.charts.signed import SignedBar, signed_bars

RECT = re.compile(r'<rect class="mark[^>]*? x="([\d.\-]+)"[^>]*width="([\d.]+)"')


def test_bars_go_to_both_sides_of_zero() -> None:
    bars = [SignedBar("a", 2.0), SignedBar("b", -1.0, 0.5), SignedBar("c", 0.0)]
    chart = signed_bars(bars, title="Signs", label="share")
    boxes = [
        (float(x), float(w))
        for x, w in re.findall(r'<rect class="mark[^>]*? x="([\d.]+)"[^>]*width="([\d.]+)"', chart.body)
    ]
    zero = float(re.findall(r'class="axis" d="M([\d.]+)', chart.body)[0])
    (up, wide), (down, half), _, (thin, _) = boxes
    assert up == thin == zero
    assert round(down + half, 1) == zero
    assert abs(wide - 2 * half) <= 0.2
    assert ">+2.00<" in chart.body
    assert ">−1.00<" in chart.body
    assert ">0.00<" in chart.body
    assert chart.description == "share. a: 2; b: -1; c: 0."


def test_everything_stays_on_the_paper() -> None:
    for values in ([1.0, 2.0], [-1.0, -2.0], [0.0], [1e-9, -5.0, 5.0]):
        chart = signed_bars([SignedBar(f"prototype {k}", v) for k, v in enumerate(values)], title="t", label="l")
        for x, wide in RECT.findall(chart.body):
            assert 0 <= float(x) <= float(x) + float(wide) <= chart.width
