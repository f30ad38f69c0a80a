"""The reliability diagram of a `QualityReport`: measured mask IoU over score, drawn with Pillow alone.

Diagrams of this kind go back to Niculescu-Mizil and Caruana 2005, here with the mask's IoU where they have the share of
right answers. A score that is honest lies on the diagonal; below it the score promises too much.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import log10
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from protomask.errors import DataError
from protomask.evaluation.quality_report import MATCHED_IOU, Population, QualityReport, ReliabilityBin, Score
from protomask.files import replacing

_Color = tuple[int, int, int]

# Coordinates and sizes below are in units of a 900 x 600 picture.
_SIZE = (900, 600)
_PIXELS_PER_UNIT = 2
_OVERSAMPLING = 2  # Pillow's lines have no soft edges of their own

_INK: _Color = (34, 34, 34)
_MUTED: _Color = (110, 110, 110)
_GRID: _Color = (228, 228, 228)
_PAPER: _Color = (255, 255, 255)
# Okabe and Ito 2008: blue and orange are told apart by all common kinds of colour vision, and differ in grey.
_COLORS: dict[Score, _Color] = {"class_score": (230, 159, 0), "product": (0, 114, 178)}
_NAMES: dict[Score, str] = {"class_score": "class score", "product": "class score x mask score"}

_FEW = 20  # detections below which the mean of a bin says little
_TOP, _CURVE_BOTTOM, _BARS_TOP, _BOTTOM = 122, 424, 448, 540
_LEFTS, _WIDTH = (66, 512), 364


def draw_reliability_diagram(report: QualityReport) -> Image.Image:
    """Both populations side by side: mean measured IoU over mean score of each bin, and below the detections per bin.

    Class score in orange squares; the product in blue circles, where the model has mask scores. Hollow marks stand for
    fewer than 20 detections. The axis of the counts is logarithmic.

    Returns:
        1800 x 1200 RGB image.

    """
    sheet = _Sheet.blank()
    sheet.text((_LEFTS[0], 26), "How well the score tells the IoU of the mask", 19)
    _draw_key(sheet, [name for name in _COLORS if name in report.mask_ap])
    limit = f"class score above {report.min_class_score:g}"
    titles: dict[Population, str] = {
        "all": f"all detections, {limit}",
        "matched": f"matched: measured IoU of {MATCHED_IOU:g} or more",
    }
    for left, (population, title) in zip(_LEFTS, titles.items(), strict=True):
        _draw_panel(sheet, left, report, population, title)
    size = (_SIZE[0] * _PIXELS_PER_UNIT, _SIZE[1] * _PIXELS_PER_UNIT)
    return sheet.image.resize(size, Image.Resampling.BOX)


def save_reliability_diagram(report: QualityReport, path: str | Path) -> Path:
    """Write the diagram as PNG, whole or not at all; folders are made as needed.

    Raises:
        DataError: the file cannot be written.

    """
    path = Path(path)
    with replacing(path, error=DataError) as file:
        draw_reliability_diagram(report).save(file, format="PNG")
    return path


@dataclass(frozen=True)
class _Sheet:
    """A large picture that is drawn on in units."""

    image: Image.Image
    pen: ImageDraw.ImageDraw
    scale: int

    @classmethod
    def blank(cls) -> _Sheet:
        scale = _PIXELS_PER_UNIT * _OVERSAMPLING
        image = Image.new("RGB", (_SIZE[0] * scale, _SIZE[1] * scale), _PAPER)
        return cls(image, ImageDraw.Draw(image), scale)

    def line(self, points: list[tuple[float, float]], color: _Color, width: float = 1.0) -> None:
        self.pen.line([self._px(point) for point in points], fill=color, width=self._len(width), joint="curve")

    def dashed(self, start: tuple[float, float], end: tuple[float, float], color: _Color, width: float) -> None:
        length = ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5
        dash, step = 6.0, 10.0
        for k in range(int(length / step) + 1):
            near, far = k * step / length, min(1.0, (k * step + dash) / length)
            self.line([_between(start, end, near), _between(start, end, far)], color, width)

    def rectangle(self, low: tuple[float, float], high: tuple[float, float], color: _Color) -> None:
        self.pen.rectangle((self._px(low), self._px(high)), fill=color)

    def mark(self, at: tuple[float, float], score: Score, *, filled: bool) -> None:
        radius = 4.6 if score == "product" else 4.2
        corners = (self._px((at[0] - radius, at[1] - radius)), self._px((at[0] + radius, at[1] + radius)))
        fill, outline, width = _COLORS[score] if filled else _PAPER, _COLORS[score], self._len(1.6)
        if score == "product":
            self.pen.ellipse(corners, fill=fill, outline=outline, width=width)
        else:
            self.pen.rectangle(corners, fill=fill, outline=outline, width=width)

    def text(
        self,
        at: tuple[float, float],
        words: str,
        size: float = 12.0,
        color: _Color = _INK,
        *,
        anchor: str = "lm",
    ) -> None:
        self.pen.text(self._px(at), words, fill=color, font=_font(self._len(size)), anchor=anchor)

    def upright_text(self, at: tuple[float, float], words: str, size: float = 12.0) -> None:
        """Read from below, its middle at ``at``."""
        font = _font(self._len(size))
        left, top, right, bottom = font.getbbox(words)
        patch = Image.new("RGB", (int(right - left) + 4, int(bottom - top) + 4), _PAPER)
        ImageDraw.Draw(patch).text((2 - left, 2 - top), words, fill=_INK, font=font)
        turned = patch.rotate(90, expand=True)
        x, y = self._px(at)
        self.image.paste(turned, (round(x - turned.width / 2), round(y - turned.height / 2)))

    def _px(self, point: tuple[float, float]) -> tuple[float, float]:
        return point[0] * self.scale, point[1] * self.scale

    def _len(self, length: float) -> int:
        return max(1, round(length * self.scale))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _between(start: tuple[float, float], end: tuple[float, float], share: float) -> tuple[float, float]:
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def _draw_key(sheet: _Sheet, scores: list[Score]) -> None:
    x, y = float(_LEFTS[0]), 56.0
    for score in scores:
        sheet.line([(x, y), (x + 26, y)], _COLORS[score], 2.2)
        sheet.mark((x + 13, y), score, filled=True)
        sheet.text((x + 33, y), _NAMES[score])
        x += 33 + _text_width(_NAMES[score]) + 24
    sheet.dashed((x, y), (x + 26, y), _MUTED, 1.4)
    sheet.text((x + 33, y), "honest")
    x += 33 + _text_width("honest") + 24
    sheet.text((x, y), f"hollow: fewer than {_FEW} detections", color=_MUTED)


def _text_width(words: str) -> float:
    return _font(48).getlength(words) / 4


def _draw_panel(sheet: _Sheet, left: float, report: QualityReport, population: Population, title: str) -> None:
    quality = report.populations[population]
    scores = {name: one for name, one in quality.scores().items() if name in _COLORS}
    right = left + _WIDTH

    def x_of(score: float) -> float:
        return left + _WIDTH * min(max(score, 0.0), 1.0)

    def y_of(iou: float) -> float:
        return _CURVE_BOTTOM - (_CURVE_BOTTOM - _TOP) * min(max(iou, 0.0), 1.0)

    sheet.text((left, 86), title, 13.5)
    sheet.text((left, 106), f"{quality.count} detections", 12, _MUTED)

    for k in range(0, 11, 2):
        value = k / 10
        sheet.line([(left, y_of(value)), (right, y_of(value))], _GRID)
        sheet.line([(x_of(value), _TOP), (x_of(value), _CURVE_BOTTOM)], _GRID)
        sheet.text((left - 7, y_of(value)), f"{value:.1f}", 11, anchor="rm")
        sheet.text((x_of(value), _BOTTOM + 12), f"{value:.1f}", 11, anchor="mm")
    sheet.dashed((left, _CURVE_BOTTOM), (right, _TOP), _MUTED, 1.4)
    sheet.line([(left, _TOP), (left, _CURVE_BOTTOM), (right, _CURVE_BOTTOM)], _INK, 1.2)
    sheet.upright_text((left - 42, (_TOP + _CURVE_BOTTOM) / 2), "mean measured IoU")
    sheet.text(((left + right) / 2, _BOTTOM + 34), "score", anchor="mm")

    _draw_numbers(sheet, left, report, population)
    for name, one in scores.items():
        points = [
            ((x_of(b.mean_score), y_of(b.mean_iou)), b.count)
            for b in one.bins
            if b.mean_score is not None and b.mean_iou is not None
        ]
        if len(points) > 1:
            sheet.line([point for point, _ in points], _COLORS[name], 2.2)
        for point, count in points:
            sheet.mark(point, name, filled=count >= _FEW)
    if not quality.count:
        sheet.text(((left + right) / 2, (_TOP + _CURVE_BOTTOM) / 2), "no detections", 14, _MUTED, anchor="mm")
    _draw_counts(sheet, left, {name: one.bins for name, one in scores.items()})


def _draw_numbers(sheet: _Sheet, left: float, report: QualityReport, population: Population) -> None:
    """Correlation and calibration error, in the corner that curves reach last."""
    scores = report.populations[population].scores()
    names = [name for name in _COLORS if name in scores]
    if population == "matched":  # they measure at least 0.5, so the lower right is free
        x, y = left + _WIDTH - 160, _CURVE_BOTTOM - 16.0 * len(names) - 12
    else:
        x, y = left + 10, 136.0
    sheet.text((x + 82, y), "Spearman", 10.5, _MUTED, anchor="rm")
    sheet.text((x + 150, y), "calib. error", 10.5, _MUTED, anchor="rm")
    for row, name in enumerate(names, start=1):
        one = scores[name]
        sheet.mark((x + 6, y + 16 * row), name, filled=True)
        for end, value in ((82, one.spearman), (150, one.calibration_error)):
            words = "-" if value is None else f"{value:.3f}"
            sheet.text((x + end, y + 16 * row), words, 11.5, anchor="rm")


def _draw_counts(sheet: _Sheet, left: float, series: dict[Score, tuple[ReliabilityBin, ...]]) -> None:
    """Detections per bin as bars, on an axis of powers of ten that starts at 1."""
    most = max((one.count for bins in series.values() for one in bins), default=0)
    decades = max(1, len(str(max(most - 1, 1))))

    def y_of(exponent: float) -> float:
        return _BOTTOM - (_BOTTOM - _BARS_TOP) * exponent / decades

    for exponent in range(decades + 1):
        y = y_of(exponent)
        sheet.line([(left, y), (left + _WIDTH, y)], _GRID)
        sheet.text((left - 7, y), _short(10**exponent), 11, anchor="rm")
    slot = _WIDTH / 10
    bar = (slot - 8) / len(series)
    for offset, (name, bins) in enumerate(series.items()):
        for k, one in enumerate(bins):
            if one.count:
                x = left + k * slot + 4 + offset * bar
                # One detection would be a bar without height.
                top = min(y_of(log10(one.count)), _BOTTOM - 2)
                sheet.rectangle((x, top), (x + bar - 1, _BOTTOM), _COLORS[name])
    sheet.line([(left, _BARS_TOP), (left, _BOTTOM), (left + _WIDTH, _BOTTOM)], _INK, 1.2)
    sheet.upright_text((left - 42, (_BARS_TOP + _BOTTOM) / 2), "detections")


def _short(count: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count // size}{letter}"
    return str(count)
