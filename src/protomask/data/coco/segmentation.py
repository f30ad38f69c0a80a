"""COCO segmentations as run-length codes in the frame of an image, their boxes and their masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protomask.data.coco.schema import Annotation, Box, Size, wxh
from protomask.errors import DataError
from protomask.masks.outlines import MAX_COORDINATE, outline_runs
from protomask.masks.rle import Rle, encode_runs, parse_rle, rle_to_runs
from protomask.masks.runs import Runs, mask_runs, move_runs, runs_to_window

CompressedRle = dict[str, Any]  # {"size": [h, w], "counts": bytes}

_BOX_OVERHANG = 1.0  # px outside the image that rounding explains
_BOX_SLACK = 8.0  # px: thin slivers do not rasterise, so good boxes may be this much larger than their mask
_BOX_MIN_IOU = 0.5
_FAST_STEPS = 1 << 20  # of the COCO API's walk along the edges, which takes some 30 bytes for each
_DENSE_SCALE, _DENSE_PIXELS, _DENSE_LIMIT = 64, 1 << 22, 1 << 27  # pixels of a mask that is scaled: per pixel of the
# image, more for a small one, and ever


class NoMask(Exception):
    """A segmentation encloses nothing that could be learnt; the message says why."""


def encode_annotation(annotation: Annotation, stated_size: Size, size: Size) -> CompressedRle:
    """Mask of an annotation as compressed RLE in the frame ``size``, see `encode`.

    Raises:
        NoMask: the outlines cannot be rasterised, or are shares of the image.
        ValueError: the RLE is damaged.

    """
    parts = annotation.segmentation
    if isinstance(parts, list) and max(stated_size) > 2 and _lowest(parts) >= 0 and _highest(parts) <= 1:
        is_first_pixel = all(value in (0, 1) for part in parts for value in part)
        if not is_first_pixel:
            raise NoMask("all coordinates lie between 0 and 1 (shares of the image instead of px?)")
    return encode(parts, stated_size, size)


def _lowest(parts: Sequence[Sequence[float]]) -> float:
    return min(map(min, parts))


def _highest(parts: Sequence[Sequence[float]]) -> float:
    return max(map(max, parts))


def encode_segmentation(segmentation: list[list[float]] | dict[str, Any] | Rle, size: Size) -> Rle | None:
    """Run-length code of a COCO segmentation, rasterised as the COCO API does it.

    Args:
        segmentation: polygons in px, each with 3 points or more, or an RLE (of another size: it is scaled, cut or
            padded, as `CocoDataset.load_target` says).
        size: (H, W) of the image.

    Returns:
        The code in the frame ``size``; None if coordinates are not finite or absurdly large, or the outline is longer
        than any in such an image.

    Raises:
        ValueError: an RLE cannot be decoded.

    """
    try:
        encoded = encode(segmentation, size, size)
    except NoMask:
        return None
    return Rle(size=[*size], counts=encoded["counts"].decode("ascii"))


def encode(segmentation: Sequence[list[float]] | Mapping[str, Any], stated_size: Size, size: Size) -> CompressedRle:
    """Compressed RLE in the frame ``size``.

    Nothing is made that is larger than the image and the text of the segmentation explain.

    Raises:
        NoMask: the outlines cannot be rasterised.
        ValueError: the RLE is damaged, or of a frame that is far larger than the image.

    """
    if isinstance(segmentation, Mapping):
        return _encode_rle(segmentation, size)
    if size != stated_size and same_aspect(stated_size, size):
        y_scale, x_scale = size[0] / stated_size[0], size[1] / stated_size[1]
        scales = (x_scale, y_scale)
        try:
            parts = [[value * scales[index % 2] for index, value in enumerate(part)] for part in segmentation]
        except OverflowError as error:
            raise NoMask("coordinates are not finite or absurdly large") from error
        return _encode_outlines(parts, size)
    encoded = _encode_outlines(segmentation, stated_size)
    return encoded if size == stated_size else _fit(encoded, size)


def _encode_outlines(parts: Sequence[list[float]], size: Size) -> CompressedRle:
    if sum(map(len, parts)) * _steps_per_number(parts) <= _FAST_STEPS:
        from pycocotools import mask as mask_codec

        encoded: CompressedRle = mask_codec.merge(mask_codec.frPyObjects(parts, *size))
        return encoded
    try:
        runs = outline_runs(parts, size)
    except ValueError as error:
        raise NoMask(str(error)) from error
    return _of_runs(runs, size)


def _steps_per_number(parts: Sequence[list[float]]) -> float:
    """Steps of the COCO API for each number, at most; infinite if a coordinate is not finite or absurdly large."""
    low, high = _lowest(parts), _highest(parts)
    # A NaN compares as false wherever it stands, but it spreads through a sum.
    sound = low >= -MAX_COORDINATE and high <= MAX_COORDINATE and math.isfinite(sum(map(sum, parts)))
    return (high - low) * 5 / 2 if sound else math.inf


def _of_runs(runs: Runs, size: Size) -> CompressedRle:
    code = encode_runs([runs], size)[0]
    return {"size": code["size"], "counts": code["counts"].encode("ascii")}


def _encode_rle(segmentation: Mapping[str, Any], size: Size) -> CompressedRle:
    counts = segmentation["counts"]
    try:
        if isinstance(counts, list):
            runs, own_size = rle_to_runs(segmentation)
            encoded = _of_runs(runs, own_size)
        else:
            own_size, _ = parse_rle(segmentation)
            encoded = {
                "size": [*own_size],
                "counts": counts.encode("ascii") if isinstance(counts, str) else bytes(counts),
            }
    except DataError as error:
        raise ValueError(str(error)) from error
    return encoded if own_size == size else _fit(encoded, size)


def decode_masks(encoded: list[CompressedRle]) -> NDArray[np.bool_]:
    """Masks (N, H, W) of one size; each is stored column by column, as RLE has it.

    Raises:
        ValueError: a code is damaged.

    """
    from pycocotools import mask as mask_codec

    masks: NDArray[np.bool_] = mask_codec.decode(encoded).view(np.bool_).transpose(2, 0, 1)
    return masks


def box_of_rle(rle: Mapping[str, Any]) -> Box | None:
    """Tight box (x1, y1, x2, y2) of a compressed code, px, right and bottom exclusive; None for an empty mask."""
    from pycocotools import mask as mask_codec

    x, y, w, h = mask_codec.toBbox(rle).tolist()
    return (x, y, x + w, y + h) if w > 0 and h > 0 else None


def _fit(rle: CompressedRle, size: Size) -> CompressedRle:
    """The same mask in another frame: scaled if the aspect ratio is the same, otherwise cut or padded.

    Raises:
        ValueError: the frame of the mask is far larger than the other one.

    """
    own_size = (rle["size"][0], rle["size"][1])
    height, width = size
    if own_size[0] * own_size[1] > min(_DENSE_SCALE * height * width + _DENSE_PIXELS, _DENSE_LIMIT):
        raise ValueError(f"a mask of {wxh(own_size)} px cannot be fitted to an image of {wxh(size)} px")
    if same_aspect(own_size, size):
        mask = decode_masks([rle])[0]
        image = Image.fromarray(mask.view(np.uint8) * np.uint8(255))
        fitted = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)) >= 128
        return _of_runs(mask_runs(fitted), size)
    runs, _ = rle_to_runs(rle)
    top, left, part = runs_to_window(runs, own_size[0])
    part = part[: max(height - top, 0), : max(width - left, 0)]
    if not part.size:
        return _of_runs(np.zeros((0, 2), dtype=np.int64), size)
    placed = move_runs(mask_runs(part), part.shape[0], left=left, top=top, frame_height=height)
    return _of_runs(placed, size)


def fit_rle(rle: Mapping[str, Any], size: Size) -> CompressedRle:
    """A run-length code in the frame ``size``: scaled if the aspect ratio is the same, otherwise cut or padded.

    Raises:
        ValueError: the code is damaged, or its frame is far larger than the other one.

    """
    return _encode_rle(rle, size)


def same_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one size is the other, scaled and rounded to whole px."""
    return abs(size[0] * other[1] - size[1] * other[0]) <= max(*size, *other)


def choose_box(
    bbox: Box | None, mask_box: Box, stated_size: tuple[int, int], size: tuple[int, int]
) -> tuple[Box, str | None]:
    """Box xyxy in the frame of ``size``: the file's if it is sane, otherwise the mask's, with the reason."""
    if bbox is None:
        return mask_box, None
    x, y, w, h = bbox
    if not (all(map(math.isfinite, bbox)) and w > 0 and h > 0):
        return mask_box, f"bbox {list(bbox)} has no area, taken from the mask"
    x_scale = y_scale = 1.0
    if size != stated_size and same_aspect(stated_size, size):
        y_scale, x_scale = size[0] / stated_size[0], size[1] / stated_size[1]
    box = (x * x_scale, y * y_scale, (x + w) * x_scale, (y + h) * y_scale)
    if _disagrees(box, mask_box):
        return mask_box, f"bbox {list(bbox)} disagrees with the mask, taken from the mask"
    height, width = size
    overhang = max(-box[0], -box[1], box[2] - width, box[3] - height)
    if overhang > _BOX_OVERHANG:
        clipped = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height)))
        return clipped, f"bbox {list(bbox)} reaches outside the image, clipped"
    return box, None


def _disagrees(box: Box, mask_box: Box) -> bool:
    if max(abs(a - b) for a, b in zip(box, mask_box, strict=True)) <= _BOX_SLACK:
        return False
    overlap_w = min(box[2], mask_box[2]) - max(box[0], mask_box[0])
    overlap_h = min(box[3], mask_box[3]) - max(box[1], mask_box[1])
    overlap = max(overlap_w, 0.0) * max(overlap_h, 0.0)
    union = (box[2] - box[0]) * (box[3] - box[1]) + (mask_box[2] - mask_box[0]) * (mask_box[3] - mask_box[1]) - overlap
    return overlap < _BOX_MIN_IOU * union
