"""Charts of bars: stacked ones from left to right, and histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from protomask.charts.drawing import PADDING, Chart, color, escaped, path, text, text_width
from protomask.charts.frames import draw_frame, no_data
from protomask.charts.keys import Entry, key_chart
from protomask.charts.scales import Axis, Scale, write_numbers

_THICK, _STEP = 22.0, 34.0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One row of `stacked_bars`.

    Attributes:
        name: left of the bar.
        parts: sizes of the pieces, 0 or more, in the order of the names given to the chart.
        reach: where a thin line from the end of the bar ends, for example at a percentile; None draws none.
        words: right of the bar.

    """

    name: str
    parts: Sequence[float]
    reach: float | None = None
    words: str = ""

    @property
    def end(self) -> float:
        """Where all that is drawn ends."""
        return max(sum(self.parts), self.reach or 0.0)


def stacked_bars(bars: Sequence[Bar], names: Sequence[str], *, title: str, x: Axis, width: float = 880.0) -> Chart:
    """Bars from left to right, below each other, each in pieces; a key above names the pieces.

    Args:
        bars: at least one.
        names: of the pieces.
        title: above the chart.
        x: what a length means; it starts at 0.
        width: of the chart in pixels.

    """
    key = key_chart([Entry(name=name, number=k, look="box") for k, name in enumerate(names)], width=width)
    left = min(max(text_width(bar.name) for bar in bars), width / 3) + 22
    right = width - max(text_width(bar.words) for bar in bars) - 22
    top = 32 + key.height
    bottom = top + _STEP * len(bars) + 4
    scale = x.scale([0.0, *(bar.end for bar in bars)], left, right)
    if x.span is None and not x.log:  # the longest bar ends where the plot does, not at the next round number
        scale = Axis(span=(0.0, max(bar.end for bar in bars) or 1.0)).scale([], left, right)
    parts = [text(PADDING, 21, title, kind="title", most=width - 2 * PADDING)]
    parts.append(f'<g transform="translate(0 28)">{key.body}</g>')
    values = scale.round_values(max(2, int((right - left) / 70)))
    for value, words in zip(values, write_numbers(values), strict=True):
        parts.append(path("grid", f"M{scale(value):.1f} {bottom:.1f}V{top:.1f}"))
        parts.append(text(scale(value), bottom + 17, words, anchor="middle"))
    for row, bar in enumerate(bars):
        parts.append(_draw_bar(bar, names, scale, top + _STEP * row + 6, left))
    parts.append(path("axis", f"M{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}"))
    # Below the bars, unless it is too long for that.
    x_label = max(PADDING, min(left, width - PADDING - text_width(x.label)))
    parts.append(text(x_label, bottom + 36, x.label, most=width - 2 * PADDING))
    words = "; ".join(
        f"{bar.name}: {', '.join(f'{name} {part:.4g}' for name, part in zip(names, bar.parts, strict=True))}"
        + (f", {bar.words}" if bar.words else "")
        for bar in bars
    )
    body = "".join(parts)
    return Chart(title=title, description=f"{x.label}. {words}.", width=width, height=bottom + 48, body=body)


def _draw_bar(bar: Bar, names: Sequence[str], scale: Scale, top: float, left: float) -> str:
    middle = top + _THICK / 2 + 4
    parts = [text(left - 8, middle, bar.name, anchor="end", kind="value", most=left - 18)]
    start = 0.0
    for number, (name, size) in enumerate(zip(names, bar.parts, strict=True)):
        x, length = scale(start), scale(start + size) - scale(start)
        if length > 0:
            place = f'x="{x:.1f}" y="{top:.1f}" width="{max(length - 0.8, 0.3):.1f}" height="{_THICK:g}"'
            words = escaped(f"{bar.name}, {name}: {size:.4g}")
            parts.append(f'<rect class="mark {color(number)}" {place}><title>{words}</title></rect>')
        start += size
    if bar.reach is not None and bar.reach > start:
        y = top + _THICK / 2
        parts.append(path("reach", f"M{scale(start):.1f} {y:.1f}H{scale(bar.reach):.1f}m0 -4v8"))
    parts.append(text(scale(bar.end) + 8, middle, bar.words, kind="value"))
    return "".join(parts)


def histogram(
    counts: Mapping[str, Sequence[int]],
    *,
    title: str,
    x: Axis,
    y: Axis,
    width: float = 440.0,
    height: float = 150.0,
    left: float | None = None,
    numbers: Sequence[int] | None = None,
) -> Chart:
    """Upright bars of the bins that cut the x axis into equal parts, those of several names side by side.

    Args:
        counts: of each bin, by name; as many bins for each.
        title: above the chart; "" for none.
        x: axis to the right, with a span.
        y: axis upwards; a logarithmic one starts at 1.
        width: of the chart in pixels.
        height: of the chart in pixels.
        left: pixels left of the plot; by default what the numbers of the y axis need.
        numbers: of the colours; 0, 1 ... by default.

    """
    if y.span is None and y.log:
        most = max((count for bins in counts.values() for count in bins), default=0)
        y = replace(y, span=(1.0, 10.0 ** max(1, len(str(max(most - 1, 1))))))
    every = [float(count) for bins in counts.values() for count in bins]
    frame = draw_frame(title, x=x, y=y, ys=every, width=width, height=height, left=left)
    parts = [frame.body]
    for place, (name, bins) in enumerate(counts.items()):
        number = place if numbers is None else numbers[place]
        slot = (frame.x.end - frame.x.start) / max(len(bins), 1)
        thick = (slot - 6) / len(counts)
        for k, count in enumerate(bins):
            if count <= 0:
                continue
            corner = frame.x.start + slot * k + 3 + thick * place
            top = min(frame.y(count), frame.bottom - 2)  # on a logarithmic axis, 1 would have no height
            box = f'x="{corner:.1f}" y="{top:.1f}" width="{thick - 1:.1f}" height="{frame.bottom - top:.1f}"'
            words = escaped(f"{name}: {count}")
            parts.append(f'<rect class="mark {color(number)}" {box}><title>{words}</title></rect>')
    if not any(every):
        parts.append(no_data(frame))
    words = "; ".join(f"{name}: {', '.join(map(str, bins))}" for name, bins in counts.items()) or "no data"
    description = f"{y.label} by {x.label}, in bins of equal width. {words}."
    return Chart(title=title, description=description, width=width, height=frame.height, body="".join(parts))
