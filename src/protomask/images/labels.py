"""Labels beside objects: names and scores, placed where they hide least."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFont

from protomask.images.captions import shortened

Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_LABELLED_SHARE = 0.15  # of the frame; beyond it the labels hide the image
_SPACIOUS_SHARE = 0.07  # of the frame; up to here all names stay whole where they can
_LONG_SHARE = 0.27  # of the frame's width; what is longer may be shortened
_HIDDEN = 0.3  # of a small object; a label that hides more is not drawn


@lru_cache(maxsize=16)
def label_font(font_size: int) -> Font:
    """Pillow's own font, of this height in pixels."""
    return ImageFont.load_default(font_size)


@lru_cache(maxsize=1 << 12)
def text_length(text: str, font: Font) -> float:
    """Pixels that a text is wide; the labels of a video are the same in many frames."""
    return font.getlength(text)


def draw_labels(
    pen: ImageDraw.ImageDraw,
    names: Sequence[str],
    scores: NDArray[np.float32] | None,
    *,
    corners: NDArray[np.int64],
    colors: Sequence[Color],
    font_size: int,
    frame: tuple[int, int],
) -> None:
    """Write the name and score of each of N objects beside it, as `protomask.images.draw.draw_objects` describes.

    Args:
        pen: draws on the image.
        names: N names.
        scores: (N,) in [0, 1], or None.
        corners: (N, 4) int64 xyxy, pixels inside the frame.
        colors: N colours of the labels, RGB.
        font_size: height of the letters in pixels.
        frame: (H, W) of the image.

    """
    height, width = frame
    font = label_font(font_size)
    pad = _pad(font_size)
    label_height = min(height, font_size + pad)
    texts = _Texts(names, scores, font, room=width - 2 * pad, short=max(_LONG_SHARE * width, 6 * font_size))
    budget = _LABELLED_SHARE * height * width
    share = sum(text_length(text, font) + 2 * pad for text in texts.whole) * label_height / (height * width)
    taken = np.zeros((0, 4), dtype=np.int64)
    for index, choices in texts.in_order(is_spacious=share <= _SPACIOUS_SHARE, is_crowded=share > _LABELLED_SHARE):
        for text in choices:
            label_width, label_height = label_size(text, font, font_size, frame)
            place = _place_label((label_width, label_height), corners[index], corners, taken, frame)
            if place is not None:
                break
        else:
            continue
        budget -= label_width * label_height
        if budget < 0 and len(taken):
            break
        taken = np.concatenate((taken, [[*place, place[0] + label_width, place[1] + label_height]]))
        write_label(pen, place, (label_width, label_height), text, color=colors[index], font=font)


def label_size(text: str, font: Font, font_size: int, frame: tuple[int, int]) -> tuple[int, int]:
    """(w, h) of a label in pixels, no larger than the frame (H, W)."""
    pad = _pad(font_size)
    return min(frame[1], round(text_length(text, font)) + 2 * pad), min(frame[0], font_size + pad)


def write_label(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], size: tuple[int, int], text: str, *, color: Color, font: Font
) -> None:
    """Draw one label of ``size`` (w, h) with its top left corner at ``place`` (x, y), pixels."""
    (x, y), (w, h) = place, size
    left = (w - text_length(text, font)) / 2
    pen.rounded_rectangle((x, y, x + w - 1, y + h - 1), radius=h // 10, fill=color)
    pen.text((x + left, y + h / 2), text, fill=_readable_on(color), font=font, anchor="lm")


class _Texts:
    """What the label of each object may say, the longest text first.

    Args:
        names: N names.
        scores: (N,), or None.
        font: measures them.
        room: pixels for the longest text.
        short: pixels for a shortened one.

    """

    def __init__(
        self, names: Sequence[str], scores: NDArray[np.float32] | None, font: Font, *, room: float, short: float
    ) -> None:
        self._names = names
        self._scores = scores
        self._numbers = [""] * len(names) if scores is None else [f"{score:.2f}" for score in scores.tolist()]
        self._font = font
        self._short = min(short, room)
        self.whole = [self._fit(index, room) for index in range(len(names))]

    def in_order(self, *, is_spacious: bool, is_crowded: bool) -> Iterator[tuple[int, list[str]]]:
        """The objects, the most important first, each with the texts to try."""
        order = range(len(self._names)) if self._scores is None else np.argsort(-self._scores, kind="stable").tolist()
        best = {self._names[index]: index for index in reversed(order)}
        if is_crowded:
            order = [*best.values(), *(index for index in order if best[self._names[index]] != index)]
        for index in order:
            texts = [self.whole[index]] if is_spacious else []
            if not is_crowded or self._scores is None or best[self._names[index]] == index:
                texts.append(self._fit(index, self._short))
            texts.append(self._numbers[index])
            yield index, [text for text in dict.fromkeys(texts) if text]

    def _fit(self, index: int, room: float) -> str:
        """``name score`` in ``room`` pixels or fewer, the name shortened, or the score."""
        name, number = " ".join(self._names[index].split()), self._numbers[index]
        rest = f" {number}" if number else ""
        fitting = shortened(name, room, lambda text: text_length(f"{text}{rest}", self._font))
        return f"{fitting}{rest}".strip() if fitting != "…" or not number else number


def _place_label(
    size: tuple[int, int],
    box: NDArray[np.int64],
    boxes: NDArray[np.int64],
    taken: NDArray[np.int64],
    frame: tuple[int, int],
) -> tuple[int, int] | None:
    """Top left corner (x, y) of a label of ``size`` (w, h) for ``box``, or None where every place hides too much."""
    spots = label_spots(size, box, frame)
    cost = label_costs(spots, size, boxes, taken)
    best = int((cost + 0.02 * np.arange(len(spots))).argmin())
    return (int(spots[best, 0]), int(spots[best, 1])) if cost[best] < _HIDDEN else None


def label_spots(size: tuple[int, int], box: NDArray[np.int64], frame: tuple[int, int]) -> NDArray[np.int64]:
    """(10, 2) places (x, y) around ``box`` (xyxy) for the top left corner of a label of ``size`` (w, h), best first."""
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
    inside: NDArray[np.int64] = np.clip(spots, 0, (frame[1] - w, frame[0] - h))
    return inside


def label_costs(
    spots: NDArray[np.int64], size: tuple[int, int], boxes: NDArray[np.int64], taken: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(K,) how much a label of ``size`` (w, h) hides at each of K spots: of other labels ``taken`` and small boxes."""
    w, h = size
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    # A label may lie on what is much larger than itself; of smaller objects it hides a share.
    small = areas < 6 * w * h
    hidden = (_overlaps(spots, size, boxes[small]) / areas[small]).sum(axis=1)
    cost: NDArray[np.float64] = hidden + 3 * _overlaps(spots, size, taken).sum(axis=1) / (w * h)  # half cannot be read
    return cost


def _pad(font_size: int) -> int:
    """Pixels around the text of a label."""
    return max(2, font_size // 4)


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
