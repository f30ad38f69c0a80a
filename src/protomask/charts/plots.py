"""Charts of points: lines and scatter."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from protomask.charts.drawing import NUM_COLORS, Chart, color, mark, path
from protomask.charts.frames import Frame, draw_frame, no_data
from protomask.charts.keys import Entry, Look, key_chart
from protomask.charts.scales import Axis

Points = Sequence[tuple[float, float]]

_MOST_POINTS = 400


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points of one name.

    Attributes:
        name: for the key.
        points: (x, y); along a line x rises.
        line: whether a line joins them.
        marks: whether each point is marked; a line of a single point always is.
        hollow: numbers of the points whose marks are only outlines.
        number: for the colour, if not the place among the series of the chart.
        shape: of the marks, if not that of the number.

    """

    name: str
    points: Points
    line: bool = True
    marks: bool = False
    hollow: Collection[int] = ()
    number: int | None = None
    shape: int | None = None


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x: Axis,
    y: Axis,
    width: float = 440.0,
    height: float = 280.0,
    left: float | None = None,
    notes: Sequence[str] = (),
    diagonal: bool = False,
    key: bool = True,
) -> Chart:
    """Lines, points, or both, over two axes.

    Args:
        series: what to draw; those without points are left out.
        title: above the chart.
        x: axis to the right.
        y: axis upwards; a linear one without a span holds 0.
        width: of the chart in pixels.
        height: from the title to the label of the x axis; notes and key come in addition.
        left: pixels left of the plot; by default what the numbers of the y axis need.
        notes: lines below the title.
        diagonal: a dashed line where both axes have the same value.
        key: name the series below the chart, unless there is only one.

    """
    shown = [_Shown.of(one, number, x, y) for number, one in enumerate(series)]
    shown = [one for one in shown if one.points]
    values = [point for one in shown for point in one.points]
    frame = draw_frame(
        title,
        x=x,
        y=y,
        xs=[point[0] for point in values],
        ys=[point[1] for point in values],
        width=width,
        height=height,
        left=left,
        notes=notes,
    )
    parts = [frame.body]
    if diagonal:
        ends = max(frame.x.low, frame.y.low), min(frame.x.high, frame.y.high)
        (x0, y0), (x1, y1) = ((frame.x(value), frame.y(value)) for value in ends)
        parts.append(path("reference", f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"))
    parts += [one.draw(frame, x.label, y.label) for one in shown]
    if not shown:
        parts.append(no_data(frame))
    total = frame.height
    if key and len(shown) > 1:
        names = key_chart([one.entry for one in shown], width=width, left=frame.x.start)
        parts.append(f'<g transform="translate(0 {total:g})">{names.body}</g>')
        total += names.height + 6
    lines = "; ".join(f"{one.series.name}: {one.words()}" for one in shown) or "no data"
    description = f"{' over '.join(filter(None, (y.label, x.label)))}. {lines}."
    return Chart(title=title, description=description, width=width, height=total, body="".join(parts))


def scatter_chart(
    points: Mapping[str, tuple[float, float]],
    *,
    title: str,
    x: Axis,
    y: Axis,
    width: float = 440.0,
    height: float = 280.0,
    key: bool = True,
) -> Chart:
    """One point for each name, both axes with 0 unless they have a span; the other arguments as in `line_chart`."""
    series = [Series(name=name, points=[point], line=False) for name, point in points.items()]
    if x.span is None:
        scale = x.scale([point[0] for point in points.values()], 0.0, 1.0, from_zero=True)
        x = Axis(label=x.label, span=(scale.low, scale.high), log=x.log, ticks=x.ticks)
    return line_chart(series, title=title, x=x, y=y, width=width, height=height, key=key)


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """A series as it is drawn: thinned, with its number in the chart."""

    series: Series
    points: Points
    hollow: frozenset[int]
    number: int

    @classmethod
    def of(cls, series: Series, number: int, x: Axis, y: Axis) -> _Shown:
        kept = [index for index, point in enumerate(series.points) if x.shows(point[0]) and y.shows(point[1])]
        hollow = frozenset(place for place, index in enumerate(kept) if index in series.hollow)
        points: Points = [series.points[index] for index in kept]
        if series.line and not series.marks:
            points = _thinned(points)
        return cls(
            series=series, points=points, hollow=hollow, number=number if series.number is None else series.number
        )

    @property
    def marked(self) -> bool:
        return self.series.marks or not self.series.line or len(self.points) == 1

    @property
    def entry(self) -> Entry:
        look: Look = "mark" if not self.series.line else "marked" if self.series.marks else "line"
        return Entry(name=self.series.name, number=self.number, look=look, shape=self.series.shape)

    def draw(self, frame: Frame, x_label: str, y_label: str) -> str:
        placed = [(frame.x(x), frame.y(y)) for x, y in self.points]
        parts = []
        if self.series.line and len(placed) > 1:
            dashed = " dashed" if self.number // NUM_COLORS % 2 else ""
            steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
            parts.append(path(f"line {color(self.number)}{dashed}", f"M{steps}"))
        if self.marked:
            for index, ((left, top), (x, y)) in enumerate(zip(placed, self.points, strict=True)):
                words = f"{self.series.name}: {f'{x_label} {x:.4g}'.lstrip()}, {f'{y_label} {y:.4g}'.lstrip()}"
                parts.append(
                    mark(self.number, left, top, shape=self.series.shape, hollow=index in self.hollow, words=words)
                )
        return "".join(parts)

    def words(self) -> str:
        """Description for those who cannot see the chart."""
        first, last = self.points[0][1], self.points[-1][1]
        return f"{last:.4g}" if len(self.points) == 1 else f"from {first:.4g} to {last:.4g}"


def _thinned(points: Points) -> Points:
    """Points of which each is the mean of those it stands for, few enough to draw."""
    size = ceil(len(points) / _MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)] if size > 1 else []
    if not groups:
        return points
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
