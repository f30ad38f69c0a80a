"""Overlays: masks, boxes, names and scores drawn on an image, with only Pillow and NumPy.

Objects are drawn on the windows their masks occupy, one at a time, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from protomask.errors import ConfigError
from protomask.images.labels import Color, draw_labels
from protomask.masks.runs import Runs, runs_to_window

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
    Where it would hide small objects, or where there are many, it gets shorter: the name loses its middle, then only
    the score is left, and if even that has no place there is no label. Where all labels together would cover much of
    the image, only the best object of each name keeps the name, and only the best objects keep their scores.

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
    _check_opacity(opacity)
    canvas = np.array(image, order="C")
    if not len(boxes):
        return canvas
    height, width = canvas.shape[:2]
    colors = np.arange(len(boxes)) if color_ids is None else np.asarray(color_ids, dtype=np.int64)
    colors = colors % len(PALETTE)
    style = Style.for_frame(height, width)
    if masks is not None:
        _draw_masks(canvas, boxes, masks, colors, style, opacity)
    if not draw_boxes and names is None:
        return canvas
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    corners = pixel_corners(boxes, height, width)
    if draw_boxes:
        # Around an outlined mask a thin box is enough; without one it has to carry the colour.
        line = max(1, style.line // 2) if masks is not None else style.line
        for (x1, y1, x2, y2), color_id in zip(corners.tolist(), colors.tolist(), strict=True):
            thin = min(line, max(1, min(x2 - x1, y2 - y1) // 6))
            pen.rectangle((x1, y1, x2 - 1, y2 - 1), outline=PALETTE[color_id], width=thin)
    if names is not None:
        fills = [PALETTE[color_id] for color_id in colors.tolist()]
        draw_labels(pen, names, scores, corners=corners, colors=fills, font_size=style.font_size, frame=style.frame)
    return np.array(picture)


def _check_opacity(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0.0 <= float(value) <= 1.0:
        raise ConfigError(f"opacity: expected a number from 0 to 1, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Style:
    """Sizes in pixels that suit one frame."""

    frame: tuple[int, int]  # (H, W)
    line: int
    font_size: int

    @classmethod
    def for_frame(cls, height: int, width: int) -> Style:
        side = float(np.sqrt(height * width))
        return cls(
            frame=(height, width),
            line=max(1, round(side / 330)),
            # Letters grow slower than the frame: large photographs are looked at on the same screen.
            font_size=max(9, round(15 * (side / 650) ** 0.8)),
        )


def pixel_corners(boxes: NDArray[np.float32], height: int, width: int) -> NDArray[np.int64]:
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
    style: Style,
    opacity: float,
) -> None:
    """Tint the pixels of ``canvas`` (H, W, 3) in place: small objects over large ones, outlines over everything."""
    sides = np.diff(np.nan_to_num(boxes.astype(np.float64)).reshape(-1, 2, 2).clip(-1e6, 1e6), axis=1)[:, 0].clip(0)
    order = np.argsort(-sides.prod(axis=1), kind="stable")
    # 0 is untouched, then one code per fill colour, then one per outline colour.
    height, width = style.frame
    layer = np.zeros((height, width), dtype=np.uint8)
    outlines: list[tuple[NDArray[np.uint8], NDArray[np.bool_], int]] = []
    for index in order.tolist():
        top, left, crop = runs_to_window(masks[index], height)
        color_id = int(color_ids[index])
        window = layer[top : top + crop.shape[0], left : left + crop.shape[1]]
        np.copyto(window, 1 + color_id, where=crop)
        thickness = min(style.line, max(1, min(crop.shape) // 12))
        outlines.append((window, crop & ~_erode(crop, thickness), 1 + len(PALETTE) + color_id))
    for window, edge, code in outlines:
        np.copyto(window, code, where=edge)
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
    """Tint the pixels of ``canvas`` by their codes: Pillow does it several times faster than NumPy can."""
    share = np.zeros(256, dtype=np.uint8)
    share[1 : 1 + len(PALETTE)], share[1 + len(PALETTE) : 1 + 2 * len(PALETTE)] = round(255 * opacity), 255
    tints = Image.fromarray(layer)
    tints.putpalette([channel for color in ((0, 0, 0), *PALETTE, *PALETTE) for channel in color])
    picture = Image.fromarray(canvas)
    picture.paste(tints.convert("RGB"), mask=Image.fromarray(share[layer]))
    canvas[:] = np.asarray(picture)
