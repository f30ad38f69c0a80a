"""Images of an explanation: heat over the image, signed heat, boxes, masks of regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from protomask.explaining.results import Competitor, Floats, Outcome
from protomask.images.decode import Pixels
from protomask.images.labels import Color

SMALL, LARGE = 300, 560
"""Longest sides of images, pixels: one among many, and one by itself."""

HEAT = np.array([(20, 12, 60), (90, 24, 120), (185, 50, 100), (240, 120, 50), (252, 225, 110)], dtype=np.float32)
"""Colours from nothing to much: dark to bright, so that the order shows even without colour."""
PLUS: Color = (0, 114, 178)
MINUS: Color = (213, 94, 0)
WHITE: Color = (255, 255, 255)
OUTCOME_COLORS: dict[Outcome, Color] = {
    "kept": (0, 158, 115), "suppressed": MINUS, "below threshold": (150, 150, 150), "beyond limit": (230, 159, 0),
}  # fmt: skip
_ROOM = 3.0
"""Sides of a close view, in sides of the box that it is about."""
_CLOSE = 0.75
"""A close view that would show more than this share of the image's longer side shows the whole image."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A part of an image, scaled to be looked at.

    Attributes:
        pixels: (H, W, 3) of the part, scaled.
        part: (4,) xyxy of the part, pixels of the image.
        image_size: (H, W) of the image.

    """

    pixels: Pixels
    part: tuple[float, float, float, float]
    image_size: tuple[int, int]

    @classmethod
    def whole(cls, pixels: Pixels, longest: int) -> View:
        """The image resized to a longer side of this many pixels; small images are enlarged."""
        height, width = pixels.shape[:2]
        return cls._of(pixels, (0.0, 0.0, float(width), float(height)), longest)

    @classmethod
    def near(cls, pixels: Pixels, box: Floats, longest: int) -> View:
        """What is around a box, or the whole image where the box is a large part of it."""
        height, width = pixels.shape[:2]
        left, top, right, bottom = (float(value) for value in box)
        side = max(_ROOM * max(right - left, bottom - top), 16.0)
        if side > _CLOSE * max(height, width):
            return cls.whole(pixels, longest)
        across, down = min(side, float(width)), min(side, float(height))
        x = min(max((left + right - across) / 2, 0.0), width - across)
        y = min(max((top + bottom - down) / 2, 0.0), height - down)
        return cls._of(pixels, (x, y, x + across, y + down), longest)

    @classmethod
    def _of(cls, pixels: Pixels, part: tuple[float, float, float, float], longest: int) -> View:
        across, down = part[2] - part[0], part[3] - part[1]
        factor = longest / max(across, down, 1.0)
        size = (max(1, round(across * factor)), max(1, round(down * factor)))
        method = Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.BOX
        shown = np.asarray(Image.fromarray(pixels).resize(size, method, box=part))
        return cls(pixels=shown, part=part, image_size=(pixels.shape[0], pixels.shape[1]))

    @property
    def is_whole(self) -> bool:
        """Whether all of the image is shown."""
        return self.part == (0.0, 0.0, float(self.image_size[1]), float(self.image_size[0]))

    def spread(self, values: Floats, *, smooth: bool = True) -> Floats:
        """(h, w) values over the whole image at the pixels of the view."""
        (height, width), (down, across) = values.shape, self.image_size
        left, top, right, bottom = self.part
        x, y = width / across, height / down
        box = (left * x, top * y, min(right * x, width), min(bottom * y, height))
        method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
        grid = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
        return np.asarray(grid.resize((self.pixels.shape[1], self.pixels.shape[0]), method, box=box))

    def corners(self, box: Floats) -> list[float]:
        """A box in pixels of the image as one in pixels of the view, cut to it."""
        height, width = self.pixels.shape[:2]
        left, top, right, bottom = self.part
        x1, x2 = ((float(x) - left) * width / (right - left) for x in box[[0, 2]])
        y1, y2 = ((float(y) - top) * height / (bottom - top) for y in box[[1, 3]])
        x1, x2 = (round(min(max(x, 0.0), width - 1)) for x in (x1, x2))
        y1, y2 = (round(min(max(y, 0.0), height - 1)) for y in (y1, y2))
        return [x1, y1, max(x1, x2), max(y1, y2)]

    def showing(self, pixels: Pixels) -> View:
        """The same part with other pixels."""
        return View(pixels=pixels, part=self.part, image_size=self.image_size)


def heat(view: View, values: Floats, *, most: float | None = None) -> View:
    """Values of 0 or more over the faded image; ``most`` is as bright as it gets, the largest by default."""
    top = float(values.max(initial=0.0)) if most is None else most
    shares = view.spread(values / top if top > 0 else np.zeros_like(values)).clip(0, 1)
    return _mix(view, _heat_colors(shares), 0.5 + 0.4 * shares)


def signed_heat(view: View, values: Floats, most: float) -> View:
    """Values of either sign over the gray image: blue adds, orange takes away; ``most`` has the full colour."""
    shares = view.spread(values / most if most > 0 else np.zeros_like(values)).clip(-1, 1)
    tint = np.where((shares >= 0)[:, :, None], _rgb(PLUS), _rgb(MINUS))
    return _mix(view, tint, np.abs(shares) ** 0.7 * 0.88)


def mask_parts(view: View, probs: Floats, window: NDArray[np.bool_]) -> View:
    """The mask before the crop: blue what stays, orange what the crop takes away."""
    above = view.spread(probs) > 0.5
    inside = view.spread(window.astype(np.float32), smooth=False) > 0.5
    tint = np.where((above & inside)[:, :, None], _rgb(PLUS), _rgb(MINUS))
    return _mix(view, tint, np.where(above, np.float32(0.62), np.float32(0.0)))


def mask_over(view: View, mask: NDArray[np.bool_]) -> View:
    """A mask, of the image's size or of a grid over the image, in blue."""
    above = view.spread(mask.astype(np.float32)) > 0.5
    return _mix(view, _rgb(PLUS), np.where(above, np.float32(0.62), np.float32(0.0)))


def with_box(view: View, box: Floats, color: Color = WHITE) -> View:
    """A box, in pixels of the image, as a line with a dark rim."""
    drawn = Image.fromarray(view.pixels)
    pen = ImageDraw.Draw(drawn)
    left, top, right, bottom = corners = view.corners(box)
    pen.rectangle(corners, outline=(0, 0, 0), width=4)
    inner = [left + 1, top + 1, right - 1, bottom - 1] if right - left >= 4 and bottom - top >= 4 else corners
    pen.rectangle(inner, outline=color, width=2)
    return view.showing(np.asarray(drawn))


def competitors_over(view: View, competitors: Sequence[Competitor], *, origins: bool) -> View:
    """Boxes of competitors, or what they were made from, in the colour of their outcome, the best on top."""
    drawn = Image.fromarray(_faded(view))
    pen = ImageDraw.Draw(drawn)
    for one in reversed(competitors):
        corners = view.corners(one.origin if origins else one.box)
        pen.rectangle(corners, outline=OUTCOME_COLORS[one.outcome], width=3 if one.outcome == "kept" else 1)
    return view.showing(np.asarray(drawn))


def boxes_over(view: View, boxes: Floats, color: Color = MINUS) -> View:
    """Boxes as thin lines, the first on top."""
    drawn = Image.fromarray(_faded(view))
    pen = ImageDraw.Draw(drawn)
    for box in boxes[::-1]:
        pen.rectangle(view.corners(box), outline=color, width=1)
    return view.showing(np.asarray(drawn))


def grid_image(values: Floats, *, most: float | None = None, side: int = SMALL) -> Pixels:
    """A small grid with its cells visible."""
    top = float(values.max(initial=0.0)) if most is None else most
    colors = _heat_colors((values / top if top > 0 else values).clip(0, 1)).round().astype(np.uint8)
    return np.asarray(Image.fromarray(colors).resize((side, side), Image.Resampling.NEAREST))


def cut_out(pixels: Pixels, box: Floats, side: int = SMALL) -> Pixels:
    """What a box shows, resized to a square as a region of interest is."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = (float(value) for value in box)
    left, top = min(max(left, 0.0), width - 1), min(max(top, 0.0), height - 1)
    corners = (left, top, min(max(right, left + 1), width), min(max(bottom, top + 1), height))
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR, box=corners))


def _heat_colors(shares: Floats) -> Floats:
    place = shares * (len(HEAT) - 1)
    lower = np.minimum(place.astype(np.int64), len(HEAT) - 2)
    part = (place - lower)[:, :, None].astype(np.float32)
    colors: Floats = HEAT[lower] * (1 - part) + HEAT[lower + 1] * part
    return colors


def _rgb(color: Color) -> Floats:
    return np.array(color, dtype=np.float32)


def _faded(view: View) -> Pixels:
    return _mix(view, _rgb(WHITE), np.full(view.pixels.shape[:2], 0.25, dtype=np.float32)).pixels


def _mix(view: View, colors: NDArray[np.floating], share: NDArray[np.floating]) -> View:
    """Colours over the gray image; shares of 0 leave the gray image."""
    gray = (view.pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32))[:, :, None]
    mixed: Pixels = (gray * (1 - share[:, :, None]) + colors * share[:, :, None]).round().clip(0, 255).astype(np.uint8)
    return view.showing(mixed)
