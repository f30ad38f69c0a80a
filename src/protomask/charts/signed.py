"""Bars to both sides of zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from protomask.charts.drawing import PADDING, Chart, color, escaped, path, text, text_width, wrapped

_THICK, _STEP = 15.0, 21.0


class SignedBar(NamedTuple):
    """One row: a name on the left, and a value of either sign; a second value, where there is one, is a thin bar."""

    name: str
    value: float
    second: float | None = None


def signed_bars(
    bars: Sequence[SignedBar], *, title: str, label: str, notes: Sequence[str] = (), width: float = 440.0
) -> Chart:
    """Bars from zero to the right where the value is positive, to the left where it is negative.

    Args:
        bars: at least one.
        title: above the chart.
        label: what a length means.
        notes: lines below the title.
        width: of the chart in pixels.

    """
    lines = [line for note in notes for line in wrapped(note, width - 2 * PADDING)]
    left = min(max(text_width(bar.name) for bar in bars), width / 2.5) + 26
    right = width - 58
    top = 34.0 + 17 * len(lines)
    bottom = top + _STEP * len(bars)
    every = [0.0, *(value for bar in bars for value in (bar.value, bar.second) if value is not None)]
    low, high = min(every), max(every)
    span = (high - low) or 1.0
    zero = left + 46 + (right - left - 46) * -low / span

    def place(value: float) -> float:
        return zero + (right - left - 46) * value / span

    parts = [text(PADDING, 21, title, kind="title", most=width - 2 * PADDING)]
    parts += [text(PADDING, 38 + 17 * k, line) for k, line in enumerate(lines)]
    for row, bar in enumerate(bars):
        y = top + _STEP * row
        parts.append(text(left - 8, y + 12, bar.name, anchor="end", most=left - PADDING))
        parts.append(_bar(bar, place(0), place(bar.value), y + 2, _THICK, 0 if bar.value >= 0 else 1))
        if bar.second is not None:
            parts.append(_bar(bar, place(0), place(bar.second), y + 2 + _THICK - 4, 4, 7))
        ahead = bar.value >= 0
        same_side = [place(value) for value in (0.0, bar.value, bar.second) if value is not None]
        end = max(same_side) + 5 if ahead else min(same_side) - 5
        parts.append(text(end, y + 13, _words(bar.value), anchor="start" if ahead else "end"))
    parts.append(path("axis", f"M{zero:.1f} {top:.1f}V{bottom:.1f}"))
    parts.append(text(PADDING, bottom + 20, label, most=width - 2 * PADDING))
    told = "; ".join(f"{bar.name}: {bar.value:.3g}" for bar in bars)
    return Chart(title=title, description=f"{label}. {told}.", width=width, height=bottom + 32, body="".join(parts))


def _words(value: float) -> str:
    words = f"{value:+.2f}"
    return "0.00" if words[1:] == "0.00" else words.replace("-", "−")  # as wide as the plus


def _bar(bar: SignedBar, start: float, end: float, y: float, thick: float, number: int) -> str:
    corner, length = min(start, end), max(abs(end - start), 0.5)
    box = f'x="{corner:.1f}" y="{y:.1f}" width="{length:.1f}" height="{thick:g}"'
    return f'<rect class="mark {color(number)}" {box}><title>{escaped(f"{bar.name}: {bar.value:.3g}")}</title></rect>'
