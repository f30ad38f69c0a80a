"""What charts of points and upright bars have in common: title, grid, two axes and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from protomask.charts.drawing import PADDING, TEXT, path, text, text_width, wrapped
from protomask.charts.scales import Axis, Scale, write_numbers
from protomask.images.captions import shortened

_RIGHT = 22.0


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Axes and what is around them; bars and points are drawn between.

    Attributes:
        x: from values to pixels.
        y: likewise.
        top: pixel of the upper end of the plot.
        bottom: pixel of the lower end.
        body: title, grid, axes and their labels.
        height: of the chart so far, without a key.

    """

    x: Scale
    y: Scale
    top: float
    bottom: float
    body: str
    height: float


def draw_frame(
    title: str,
    *,
    x: Axis,
    y: Axis,
    xs: Sequence[float] = (),
    ys: Sequence[float] = (),
    width: float,
    height: float,
    left: float | None = None,
    notes: Sequence[str] = (),
) -> Frame:
    """Title, grid and axes of a chart.

    Args:
        title: above the plot; "" leaves no room for one.
        x: axis to the right.
        y: axis upwards.
        xs: values that the x axis must hold.
        ys: values that the y axis must hold.
        width: of the chart in pixels.
        height: from the title to the label of the x axis, without the notes.
        left: pixels left of the plot; by default what the numbers of the y axis need.
        notes: lines below the title.

    """
    lines = [line for note in notes for line in wrapped(note, width - 2 * PADDING)]
    top = (34.0 if title else 12.0) + 17 * len(lines)
    height += 17 * len(lines)
    bottom = height - (44 if x.label else 26)
    upwards = y.scale(ys, bottom, top, from_zero=True)
    y_ticks = _upright_ticks(y, upwards, most=max(2, int((bottom - top) / (18 if y.log else 32)) + 1))
    if left is None:
        left = max((text_width(words) for _, words in y_ticks), default=0.0) + (30 if y.label else 14)
    across = x.scale(xs, left, width - _RIGHT)
    x_ticks = _fitting_ticks(x, across)
    parts = [text(PADDING, 21, title, kind="title", most=width - 2 * PADDING)] if title else []
    parts += [text(PADDING, (38 if title else 16) + 17 * k, line) for k, line in enumerate(lines)]
    for value, words in y_ticks:
        place = upwards(value)
        parts.append(path("grid", f"M{left:.1f} {place:.1f}H{across.end:.1f}"))
        parts.append(text(left - 6, place + 4, words, anchor="end"))
    for value, words in x_ticks:
        place = across(value)
        parts.append(path("grid", f"M{place:.1f} {bottom:.1f}V{top:.1f}"))
        parts.append(text(place, bottom + 17, words, anchor="middle"))
    parts.append(path("axis", f"M{left:.1f} {top:.1f}V{bottom:.1f}H{across.end:.1f}"))
    if x.label:
        words = shortened(x.label, across.end - PADDING, text_width)
        half = PADDING + text_width(words) / 2
        # In the middle of the plot, unless it is too long for that.
        middle = min(max((left + across.end) / 2, half), width - half)
        parts.append(text(middle, height - 10, words, anchor="middle"))
    if y.label:
        words = shortened(y.label, bottom - top + 20, text_width)
        parts.append(text(16, (top + bottom) / 2, words, anchor="middle", upright=True))
    return Frame(x=across, y=upwards, top=top, bottom=bottom, body="".join(parts), height=height)


def no_data(frame: Frame) -> str:
    """Words in the middle of an empty plot."""
    return text((frame.x.start + frame.x.end) / 2, (frame.top + frame.bottom) / 2, "no data", anchor="middle")


def _ticks(axis: Axis, scale: Scale, most: int) -> list[tuple[float, str]]:
    if axis.ticks is not None:
        return list(axis.ticks.items())
    values = scale.round_values(most)
    return list(zip(values, write_numbers(values, log=axis.log), strict=True))


def _upright_ticks(axis: Axis, scale: Scale, most: int) -> list[tuple[float, str]]:
    """As many ticks as fit below each other; on a logarithmic axis 9 and 10 are close."""
    for count in range(most, 1, -1):
        ticks = _ticks(axis, scale, count)
        places = [scale(value) for value, _ in ticks]
        if axis.ticks is not None or all(abs(after - before) >= TEXT + 2 for before, after in pairwise(places)):
            return ticks
    return _ticks(axis, scale, 2)


def _fitting_ticks(axis: Axis, scale: Scale) -> list[tuple[float, str]]:
    """As many ticks as fit beside each other."""
    if axis.ticks is None:
        for most in range(9, 2, -1):
            ticks = _ticks(axis, scale, most)
            if _apart(ticks, scale):
                return ticks
        return _ticks(axis, scale, 2)
    given = list(axis.ticks.items())
    every = next((n for n in range(1, len(given)) if _apart(given[::n], scale)), max(1, len(given)))
    return given[::every]


def _apart(ticks: Sequence[tuple[float, str]], scale: Scale) -> bool:
    ends = [(scale(value), text_width(words) / 2) for value, words in ticks]
    return all(after - before >= half + other + 8 for (before, half), (after, other) in pairwise(ends))
