"""Reading SVG back: what is drawn where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from protomask.charts.drawing import TEXT, Chart, text_width

SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Word:
    """A text with the box it takes in a wide font."""

    text: str
    left: float
    top: float
    right: float
    bottom: float


def root_of(chart: Chart) -> ElementTree.Element:
    """The file that the chart becomes, parsed."""
    return ElementTree.fromstring(chart.document().encode())


def words_of(chart: Chart) -> list[Word]:
    """All horizontal texts, in the frame of the chart."""
    return list(_words(root_of(chart), 0.0, 0.0))


def _words(element: ElementTree.Element, x: float, y: float) -> Iterator[Word]:
    for child in element:
        moved = re.fullmatch(r"translate\(([\d.-]+) ([\d.-]+)\)", child.get("transform", ""))
        offset = (x + float(moved[1]), y + float(moved[2])) if moved else (x, y)
        if child.tag == f"{SVG}text" and "x" in child.attrib:
            shown = "".join(part for part in (child.text, *(one.tail for one in child)) if part)
            width = text_width(shown)
            share = {"middle": 0.5, "end": 1.0}.get(child.get("text-anchor", ""), 0.0)
            left, line = offset[0] + float(child.attrib["x"]) - share * width, offset[1] + float(child.attrib["y"])
            yield Word(shown, left, line - 0.8 * TEXT, left + width, line + 0.2 * TEXT)
        yield from _words(child, *offset)


def overlapping(words: list[Word]) -> list[tuple[str, str]]:
    """Pairs of texts that cover each other."""
    return [
        (one.text, other.text)
        for index, one in enumerate(words)
        for other in words[index + 1 :]
        if one.left < other.right and other.left < one.right and one.top < other.bottom and other.top < one.bottom
    ]


def check_readable(chart: Chart) -> None:
    """Every text lies inside the chart, and none on another."""
    words = words_of(chart)
    outside = [
        word.text
        for word in words
        if word.left < -1 or word.right > chart.width + 1 or word.top < 0 or word.bottom > chart.height
    ]
    assert outside == []
    assert overlapping(words) == []


def lines_of(chart: Chart) -> list[list[tuple[float, float]]]:
    """Points of the lines of series."""
    steps = re.findall(r'<path class="line [^"]*" d="M([^"h]+)"', chart.body)
    return [[(float(x), float(y)) for x, y in (point.split() for point in one.split("L"))] for one in steps]


def count(chart: Chart, kind: str) -> int:
    """Elements whose class begins with a word."""
    return len(re.findall(rf'class="{kind}[ "]', chart.body))
