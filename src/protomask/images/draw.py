"""Overlays: masks, boxes, names and scores drawn on an image, with only Pillow and NumPy.

Objects are drawn on the windows their masks occupy, one at a time, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from protomask.errors import ConfigError
from protomask.masks.runs import Runs, runs_to_window

Color = tuple[int, int, int]

PALETTE: tuple[Color, ...] = (
    (0, 114, 178),  # blue
    (230, 159, 0),  # orange
    (0, 158, 115),  # green
    (204, 121, 167),  # pink
    (213, 94, 0),  # vermilion
    (86, 180, 233),  # sky
    (240, 228, 66),  # yellow
    (136, 34, 85),  # wine
    (68, 170, 153),  # teal
    (153, 153, 51),  # olive
    (204, 102, 119),  # rose
    (51, 34, 136),  # indigo
)
"""Colours told apart by colour-blind eyes too: Okabe and Ito 2008, then the "muted" set of Tol 2021."""

_PIXELS_PER_BLEND = 1 << 18  # keeps the temporary arrays of huge images small
_LABELLED_SHARE = 0.15  # of the frame; beyond it the labels become the picture


def draw_objects(
    image: NDArray[np.uint8],
    *,
    boxes: NDArray[np.float32],
    masks: Sequence[Runs] | None = None,
    names: Sequence[str] | None = None,
    scores: NDArray[np.float32] | None = None,
    color_ids: Sequence[int] | NDArray[np.int64] | None = None,
    draw_boxes: bool = True,
    opacity: float = 0.45,
) -> NDArray[np.uint8]:
    """A copy of an image with N objects drawn on it.

    Lines and letters scale with the image. A label stands where it covers least: next to its object, inside the frame.
    One that would have to cover other labels or hide small objects is left out, the lowest scores first. Where all
    labels together would cover much of the image they give only the score, and then only the best keep theirs.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) float32 xyxy, pixels of the image.
        masks: N masks as runs in the frame of the image, to fill and outline; None draws none.
        names: N names, the text of the labels; None writes none.
        scores: (N,) float32, written behind the names.
        color_ids: N numbers; objects of one number have one colour. By default each object has its own.
        draw_boxes: draw the boxes.
        opacity: of the fill, 0..1; outlines stay opaque.

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        ConfigError: ``opacity`` is out of range.
    """
    given: Any = opacity
    if isinstance(given, bool) or not isinstance(given, Real) or not 0.0 <= float(given) <= 1.0:
        raise ConfigError(f"opacity: expected 0..1, got {opacity!r}")
    canvas = np.array(image, order="C")
    if not len(boxes):
        return canvas
    height, width = canvas.shape[:2]
    colors = np.arange(len(boxes)) if color_ids is None else np.asarray(color_ids, dtype=np.int64)
    colors = colors % len(PALETTE)
    style = _Style.for_frame(height, width)
    if masks is not None:
        _draw_masks(canvas, boxes, masks, colors, style, opacity)
    if not draw_boxes and names is None:
        return canvas
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    corners = _pixel_corners(boxes, height, width)
    if draw_boxes:
        # Around an outlined mask a thin box is enough; without one it has to carry the colour.
        line = max(1, style.line // 2) if masks is not None else style.line
        for (x1, y1, x2, y2), color_id in zip(corners.tolist(), colors.tolist(), strict=True):
            thin = min(line, max(1, min(x2 - x1, y2 - y1) // 6))
            pen.rectangle((x1, y1, x2 - 1, y2 - 1), outline=PALETTE[color_id], width=thin)
    if names is not None:
        _draw_labels(pen, names, scores, corners, colors, style)
    return np.array(picture)


@dataclass(frozen=True, kw_only=True)
class _Style:
    """Sizes in pixels that suit one frame."""

    frame: tuple[int, int]  # (H, W)
    line: int
    font_size: int

    @classmethod
    def for_frame(cls, height: int, width: int) -> _Style:
        side = float(np.sqrt(height * width))
        return cls(
            frame=(height, width),
            line=max(1, round(side / 330)),
            # Letters grow slower than the frame: large photographs are looked at on the same screen.
            font_size=max(9, round(15 * (side / 650) ** 0.8)),
        )


def _pixel_corners(boxes: NDArray[np.float32], height: int, width: int) -> NDArray[np.int64]:
    """Boxes (N, 4) as whole pixels inside the frame, at least one pixel wide and high, the far side excluded."""
    boxes = np.nan_to_num(boxes.astype(np.float64))
    low = np.clip(np.floor(boxes[:, :2]), 0, (width - 1, height - 1))
    high = np.clip(np.ceil(boxes[:, 2:]), low + 1, (width, height))
    return np.concatenate((low, high), axis=1).astype(np.int64)


def _draw_masks(
    canvas: NDArray[np.uint8],
    boxes: NDArray[np.float32],
    masks: Sequence[Runs],
    color_ids: NDArray[np.int64],
    style: _Style,
    opacity: float,
) -> None:
    """Tint the pixels of ``canvas`` (H, W, 3) in place: small objects over large ones, outlines over everything."""
    sides = np.diff(np.nan_to_num(boxes.astype(np.float64)).reshape(-1, 2, 2).clip(-1e6, 1e6), axis=1)[:, 0].clip(0)
    order = np.argsort(-sides.prod(axis=1), kind="stable")
    # 0 is untouched, then one code per fill colour, then one per outline colour.
    height, width = style.frame
    layer = np.zeros((height, width), dtype=np.uint8)
    outlines: list[tuple[NDArray[np.intp], int]] = []
    for index in order.tolist():
        top, left, crop = runs_to_window(masks[index], height)
        color_id = int(color_ids[index])
        layer[top : top + crop.shape[0], left : left + crop.shape[1]][crop] = 1 + color_id
        thickness = min(style.line, max(1, min(crop.shape) // 12))
        ys, xs = np.nonzero(crop & ~_erode(crop, thickness))
        outlines.append(((ys + top) * width + xs + left, 1 + len(PALETTE) + color_id))
    flat = layer.reshape(-1)
    for pixels, code in outlines:
        flat[pixels] = code
    _blend(canvas, layer, opacity)


def _erode(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """``mask`` (h, w) without its outermost ``steps`` pixels; outside the crop there is nothing."""
    inner = np.pad(mask, 1)
    for step in range(steps):
        shrunk = inner.copy()
        shrunk[1:-1, 1:-1] &= inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
        if step % 2:  # plain crosses would leave slanted lines thinner than upright ones
            shrunk[1:-1, 1:-1] &= inner[:-2, :-2] & inner[2:, 2:] & inner[:-2, 2:] & inner[2:, :-2]
        inner = shrunk
    return inner[1:-1, 1:-1]


def _blend(canvas: NDArray[np.uint8], layer: NDArray[np.uint8], opacity: float) -> None:
    weight = round(256 * opacity)
    weights = np.array([0] + [weight] * len(PALETTE) + [256] * len(PALETTE), dtype=np.uint16)[:, None]
    tints = np.array([(0, 0, 0), *PALETTE, *PALETTE], dtype=np.uint16) * weights + np.uint16(128)
    codes, pixels = layer.reshape(-1), canvas.reshape(-1, 3)
    for start in range(0, len(codes), _PIXELS_PER_BLEND):
        touched = start + np.flatnonzero(codes[start : start + _PIXELS_PER_BLEND])
        code = codes[touched]
        pixels[touched] = (pixels[touched] * (256 - weights[code]) + tints[code]) >> 8  # at most 65408: fits 16 bits


def _draw_labels(
    pen: ImageDraw.ImageDraw,
    names: Sequence[str],
    scores: NDArray[np.float32] | None,
    corners: NDArray[np.int64],
    color_ids: NDArray[np.int64],
    style: _Style,
) -> None:
    height, width = style.frame
    font = ImageFont.load_default(style.font_size)
    pad = max(2, style.font_size // 4)
    label_height = min(height, style.font_size + pad)
    order = range(len(names)) if scores is None else np.argsort(-scores, kind="stable").tolist()
    numbers = [""] * len(names) if scores is None else [f"{score:.2f}" for score in scores.tolist()]
    texts = [_fit(name, number, font, width - 2 * pad) for name, number in zip(names, numbers, strict=True)]
    budget = _LABELLED_SHARE * height * width
    if sum(font.getlength(text) + 2 * pad for text in texts) * label_height > budget:
        texts = texts if scores is None else numbers
    taken = np.zeros((0, 4), dtype=np.int64)
    for index in order:
        label_width = min(width, round(font.getlength(texts[index])) + 2 * pad)
        budget -= label_width * label_height
        if budget < 0 and len(taken):
            break
        place = _place_label((label_width, label_height), corners[index], corners, taken, style.frame)
        if place is None:
            continue
        x, y = place
        taken = np.concatenate((taken, [[x, y, x + label_width, y + label_height]]))
        color = PALETTE[color_ids[index]]
        pen.rounded_rectangle((x, y, x + label_width - 1, y + label_height - 1), radius=pad / 2, fill=color)
        pen.text((x + pad, y + label_height / 2), texts[index], fill=_readable_on(color), font=font, anchor="lm")


def _fit(name: str, score: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    """``name score``, the name shortened until the text is at most ``room`` pixels wide, then the score alone."""
    text, kept = f"{name} {score}".strip(), name
    while font.getlength(text) > room and kept:
        kept = kept[:-1]
        text = f"{kept}… {score}".strip() if kept else score
    return text


def _place_label(
    size: tuple[int, int],
    box: NDArray[np.int64],
    boxes: NDArray[np.int64],
    taken: NDArray[np.int64],
    frame: tuple[int, int],
) -> tuple[int, int] | None:
    """Top left corner (x, y) of a label of ``size`` (w, h) for ``box``, or None where every place hides too much."""
    w, h = size
    x1, y1, x2, y2 = box.tolist()
    spots = np.array(
        [
            (x1, y1 - h),  # above
            (x1, y1),  # inside
            (x1, y2),  # below
            (x2 - w, y1 - h),
            (x2 - w, y1),
            (x2 - w, y2),
            (x2, y1),  # beside
            (x1 - w, y1),
            (x1, y2 - h),
            (x2 - w, y2 - h),
        ]
    )
    spots = np.clip(spots, 0, (frame[1] - w, frame[0] - h))
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    # A label may lie on what is much larger than itself; of smaller objects it hides a share.
    small = areas < 6 * w * h
    cost = 0.02 * np.arange(len(spots))
    cost += 3 * _overlaps(spots, size, taken).sum(axis=1) / (w * h)  # half a label cannot be read
    cost += (_overlaps(spots, size, boxes[small]) / areas[small]).sum(axis=1)
    best = int(cost.argmin())
    return (int(spots[best, 0]), int(spots[best, 1])) if cost[best] < 0.7 else None


def _overlaps(spots: NDArray[np.int64], size: tuple[int, int], boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels that a label of ``size`` (w, h) at each of K ``spots`` (x, y) shares with each of N ``boxes``: (K, N)."""
    low = np.maximum(spots[:, None], boxes[None, :, :2])
    high = np.minimum(spots[:, None] + np.array(size), boxes[None, :, 2:])
    shared: NDArray[np.int64] = np.clip(high - low, 0, None).prod(axis=2)
    return shared


def _readable_on(color: Color) -> Color:
    """Black or white, whichever has the higher contrast (relative luminance of WCAG 2)."""
    channels = np.array(color) / 255.0
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return (0, 0, 0) if float(linear @ (0.2126, 0.7152, 0.0722)) > 0.179 else (255, 255, 255)
