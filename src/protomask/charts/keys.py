"""The key of a chart: which colour and shape is what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from protomask.charts.drawing import PADDING, Chart, color, mark, path, text, text_width

Look = Literal["line", "mark", "marked", "box", "reference"]

_GAP, _ROW = 16.0, 20.0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One name of a key.

    Attributes:
        name: text; one without a look has no swatch.
        number: of the series, for its colour.
        look: a ``line``, a ``mark``, a ``marked`` line, a ``box``, or a dashed line for ``reference``; None for a note.
        shape: of the mark, if not that of the number.

    """

    name: str
    number: int = 0
    look: Look | None = None
    shape: int | None = None

    @property
    def width(self) -> float:
        """Pixels that swatch and text take."""
        return self._swatch + text_width(self.name)

    @property
    def _swatch(self) -> float:
        return 0.0 if self.look is None else 18.0 if self.look == "box" else 28.0

    def draw(self, x: float, y: float, most: float) -> str:
        """The entry from ``x`` on, with its text on the line ``y``, in ``most`` pixels or fewer."""
        if self.look is None:
            return text(x, y, self.name, most=most)
        middle, kind, parts = y - 4, color(self.number), []
        if self.look == "box":
            parts.append(f'<rect class="mark {kind}" x="{x:.1f}" y="{middle - 6:.1f}" width="12" height="12"/>')
        elif self.look != "mark":
            name = "reference" if self.look == "reference" else f"line {kind}"
            parts.append(path(name, f"M{x:.1f} {middle:.1f}h22"))
        if self.look in ("mark", "marked"):
            parts.append(mark(self.number, x + 11, middle, shape=self.shape))
        return "".join(parts) + text(x + self._swatch, y, self.name, kind="value", most=most - self._swatch)


def key_chart(entries: Sequence[Entry], *, width: float, left: float = PADDING) -> Chart:
    """Entries one after another, in as many rows as they need; no description, for it only explains other charts.

    Args:
        entries: what to name.
        width: pixels that the chart takes.
        left: where rows start.

    """
    parts: list[str] = []
    x, row, right = left, 0, width - PADDING
    for entry in entries:
        if x > left and x + entry.width > right:
            x, row = left, row + 1
        parts.append(entry.draw(x, 15 + _ROW * row, right - x))
        x += entry.width + _GAP
    height = _ROW * (row + 1) + 2 if entries else 0.0
    return Chart(title="key", description="", width=width, height=height, body="".join(parts))
