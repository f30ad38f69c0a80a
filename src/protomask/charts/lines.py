"""Line charts as inline SVG, in the colours of the page that they stand in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10

Points = Sequence[tuple[float, float]]

NUM_COLORS = 8
"""Classes s0, s1 .. that the style sheet of the page gives a colour."""

_WIDTH, _HEIGHT = 440, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 12, 42
_MOST_POINTS = 400


def line_chart(
    series: Mapping[str, Points],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    log: bool = False,
    marks: bool = False,
) -> str:
    """A figure: title, lines, axes, and a key with the last value of each line.

    Args:
        series: points (x, y) by name, x rising; names without points are left out.
        title: above the chart, and what it is called where it cannot be seen.
        x_label: below the chart.
        y_label: beside the chart.
        x_range: ends of the axis; those of the points by default.
        y_range: ends of the axis; by default those of the points, and 0 unless ``log``.
        log: logarithmic y axis; points at 0 and below are left out.
        marks: a dot at each point.

    """
    drawable = {name: [point for point in points if not log or point[1] > 0] for name, points in series.items()}
    shown = {name: _thin(points) for name, points in drawable.items() if points}
    if not shown:
        return f'<figure class="chart"><figcaption>{escape(title)}</figcaption><p class="none">no data</p></figure>'
    xs = [x for points in shown.values() for x, _ in points]
    ys = [y for points in shown.values() for _, y in points]
    x_low, x_high = x_range or _widened(min(xs), max(xs))
    y_low, y_high = y_range or (_decades(min(ys), max(ys)) if log else _widened(min(0.0, *ys), max(ys)))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low)
        up = (log10(y / y_low) / log10(y_high / y_low)) if log else (y - y_low) / (y_high - y_low)
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * across, _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * up

    left, bottom = place(x_low, y_low)
    right, top = place(x_high, y_high)
    parts = []
    for value in _log_ticks(y_low, y_high) if log else _ticks(y_low, y_high):
        y = place(x_low, value)[1]
        parts.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{right:.1f}"/>')
        parts.append(f'<text x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    for value in _ticks(x_low, x_high):
        x = place(value, y_low)[0]
        parts.append(f'<path class="grid" d="M{x:.1f} {bottom:.1f}V{top:.1f}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 17:.1f}" text-anchor="middle">{_number(value)}</text>')
    parts.append(f'<path class="axis" d="M{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}"/>')
    middle = (left + right) / 2
    parts.append(f'<text x="{middle:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    turned = f'transform="translate(12 {(top + bottom) / 2:.1f}) rotate(-90)"'
    parts.append(f'<text {turned} text-anchor="middle">{escape(y_label)}</text>')
    key = []
    for number, (name, points) in enumerate(shown.items()):
        color = f"s{number % NUM_COLORS}"
        placed = [place(*point) for point in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        parts.append(f'<path class="line {color}" d="M{path}"/>')
        if marks or len(placed) == 1:
            parts += [f'<circle class="{color}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in placed]
        key.append(f'<li><span class="swatch {color}"></span>{escape(name)}</li>')
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
        f'<ul class="key">{"".join(key)}</ul></figure>'
    )


def _thin(points: Points) -> Points:
    """At most so many points, each the mean of those it stands for."""
    size = ceil(len(points) / _MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _widened(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def _decades(low: float, high: float) -> tuple[float, float]:
    """Ends of a logarithmic axis: 1, 2 or 5 times a power of ten."""
    ends = [
        factor * 10.0**exponent for exponent in range(floor(log10(low)), ceil(log10(high)) + 1) for factor in (1, 2, 5)
    ]
    below = max(end for end in ends if end <= low * (1 + 1e-9))
    above = min((end for end in ends if end >= high * (1 - 1e-9) and end > below), default=2 * below)
    return below, above


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers between the ends."""
    rough = (high - low) / 5
    power = 10.0 ** floor(log10(rough))
    step = min((1, 2, 5, 10), key=lambda factor: abs(factor * power - rough)) * power
    return [round(k * step, 12) for k in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    exponents = range(floor(log10(low)), ceil(log10(high)) + 1)
    factors = (1, 2, 5) if high / low < 1e3 else (1,)
    ticks = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    return [value for value in ticks if low * 0.999 <= value <= high * 1.001]


def _number(value: float) -> str:
    if abs(value) >= 1e4:
        return f"{value / 1000:g}k"
    return f"{value:.0e}".replace("e-0", "e-") if 0 < abs(value) < 1e-3 else f"{value:g}"
