"""Elements of SVG, and charts as finished drawings that can stand in a page, beside each other or in a file."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Literal

from protomask.errors import ProtomaskError
from protomask.files import replacing
from protomask.images.captions import shortened

Anchor = Literal["start", "middle", "end"]

TEXT, HEADING = 12.0, 14.0
"""Heights of the letters of ordinary text and of titles, in pixels of the drawing."""

NUM_COLORS = 8
"""Classes s0, s1 ... that the style sheet gives a colour."""

PADDING = 14.0
"""Free pixels at the left and right edge of a drawing."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A finished drawing.

    Attributes:
        title: what it is called where it cannot be seen; it is drawn by whoever made the chart.
        description: what it shows, in words.
        width: in pixels; the drawing scales to any other size.
        height: in pixels.
        body: SVG elements in a frame from (0, 0) to (width, height).

    """

    title: str
    description: str
    width: float
    height: float
    body: str

    def inline(self) -> str:
        """The ``svg`` element for a page whose style sheet holds `style_sheet`."""
        return self._element("")

    def document(self) -> str:
        """A whole SVG file, with its own style sheet, that is readable in light and dark."""
        size = f' xmlns="http://www.w3.org/2000/svg" width="{self.width:g}" height="{self.height:g}"'
        style = f"<style>\n{style_sheet()}</style>"
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{self._element(size, style)}\n'

    def save(self, path: str | Path, *, error: type[ProtomaskError] = ProtomaskError) -> Path:
        """Write `document`, whole or not at all; folders are made as needed.

        Raises:
            ProtomaskError: ``error``, when the file cannot be written.

        """
        path = Path(path)
        with replacing(path, error=error) as file:
            file.write(self.document().encode())
        return path

    def _element(self, attributes: str, style: str = "") -> str:
        paper = f'<rect class="paper" width="{self.width:g}" height="{self.height:g}" rx="8"/>'
        return (
            f'<svg class="chart"{attributes} viewBox="0 0 {self.width:g} {self.height:g}" role="img">'
            f"<title>{escaped(self.title)}</title><desc>{escaped(self.description)}</desc>{style}{paper}{self.body}</svg>"
        )


@cache
def style_sheet() -> str:
    """CSS of all charts: light, and dark where the reader prefers it."""
    return files("protomask.charts").joinpath("charts.css").read_text(encoding="utf-8")


def arrange(rows: Sequence[Sequence[Chart]], *, title: str, notes: Sequence[str] = (), heading: bool = True) -> Chart:
    """Several charts as one: rows below each other under a title.

    Args:
        rows: charts of a row stand side by side; no row may be empty.
        title: drawn at the top.
        notes: lines of text below the title.
        heading: draw the title and the notes; without them the rows have titles enough.

    """
    width = max(sum(chart.width for chart in row) for row in rows)
    parts: list[str] = []
    y = 0.0
    if heading:
        lines = [line for note in notes for line in wrapped(note, width - 2 * PADDING)]
        parts = [text(PADDING, 26, title, kind="heading")]
        parts += [text(PADDING, 46 + 17 * k, line) for k, line in enumerate(lines)]
        y = 36.0 + 17 * len(lines)
    for row in rows:
        x = 0.0
        for chart in row:
            parts.append(f'<g transform="translate({x:g} {y:g})">{chart.body}</g>')
            x += chart.width
        y += max(chart.height for chart in row)
    charts = [chart for row in rows for chart in row if chart.description]
    description = " ".join([*notes, *(f"{chart.title}: {chart.description}" for chart in charts)])
    return Chart(title=title, description=description, width=width, height=y, body="".join(parts))


def text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: Anchor = "start",
    kind: Literal["label", "value", "title", "heading"] = "label",
    upright: bool = False,
    most: float | None = None,
) -> str:
    """Words on a line.

    Args:
        x: where they start, have their middle or end, by the anchor.
        y: line that the letters stand on.
        words: plain text.
        anchor: what ``x`` means.
        kind: how they look: ``label`` is muted, ``value`` is not, ``title`` and ``heading`` are titles.
        upright: read from below.
        most: pixels that the words may take; longer ones lose their middle, and are shown whole to the pointer.

    """
    place = f'transform="translate({x:.1f} {y:.1f}) rotate(-90)"' if upright else f'x="{x:.1f}" y="{y:.1f}"'
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    shown = words if most is None else shortened(words, most, text_width)
    whole = "" if shown == words else f"<title>{escaped(words)}</title>"
    return f'<text class="{kind}" {place}{where}>{whole}{escaped(shown)}</text>'


def escaped(words: str) -> str:
    """Words as they may stand in XML; what may not, such as control characters of a file name, becomes U+FFFD."""
    legal = (letter if letter.isprintable() or letter == " " else "\ufffd" for letter in words)
    return escape("".join(legal))


def path(kind: str, steps: str) -> str:
    """A line of a class of the style sheet."""
    return f'<path class="{kind}" d="{steps}"/>'


def color(number: int) -> str:
    """Class of the colour of a series; after the last one they begin again."""
    return f"s{number % NUM_COLORS}"


def mark(number: int, x: float, y: float, *, shape: int | None = None, hollow: bool = False, words: str = "") -> str:
    """A point of a series: circle, square, triangle or diamond, because not everybody sees every colour.

    Args:
        number: of the series, for colour and shape.
        x: middle.
        y: middle.
        shape: a shape other than that of the number.
        hollow: only an outline.
        words: shown to the pointer.

    """
    kind = f"{'hollow' if hollow else 'mark'} {color(number)}"
    inside = f"><title>{escaped(words)}</title></" if words else "/"
    # After the last colour the shapes shift, so that 32 series differ.
    match (number + number // NUM_COLORS if shape is None else shape) % 4:
        case 0:
            tag, rest = "circle", f'cx="{x:.1f}" cy="{y:.1f}" r="4"'
        case 1:
            tag, rest = "rect", f'x="{x - 3.7:.1f}" y="{y - 3.7:.1f}" width="7.4" height="7.4"'
        case 2:
            tag, rest = "path", f'd="M{x:.1f} {y - 4.8:.1f}l4.6 8.2h-9.2z"'
        case _:
            tag, rest = "path", f'd="M{x:.1f} {y - 5.2:.1f}l5.2 5.2l-5.2 5.2l-5.2 -5.2z"'
    return f'<{tag} class="{kind}" {rest}{inside}{tag if words else ""}>'


def text_width(words: str, size: float = TEXT) -> float:
    """Pixels that words take in a wide font; most fonts need less."""
    return size * sum(map(_letter_width, words))


def _letter_width(letter: str) -> float:
    """Width in units of the font size, as in DejaVu Sans, which is wider than most."""
    if letter in "ijlI|.,:;'! ":
        return 0.33
    if letter in 'ftr()[]{}/\\-"':
        return 0.41
    if letter in "mwMW@%…" or unicodedata.east_asian_width(letter) in "WF":
        return 1.0
    if letter.isdecimal():
        return 0.64
    return 0.72 if letter.isupper() else 0.61


def wrapped(words: str, most: float, size: float = TEXT) -> list[str]:
    """Lines that take ``most`` pixels or fewer, unless a word is longer."""
    lines: list[str] = []
    for word in words.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= most:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
