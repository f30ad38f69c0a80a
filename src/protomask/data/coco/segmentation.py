"""COCO segmentations as run-length codes in the frame of an image, their boxes and their masks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protomask.data.coco.schema import Box
from protomask.masks.rle import Rle

CompressedRle = dict[str, Any]  # {"size": [h, w], "counts": bytes}

MAX_COORDINATE = 1e5  # px; the rasteriser walks along every edge, so a stray 1e9 would never end
_BOX_OVERHANG = 1.0  # px outside the image that rounding explains
_BOX_SLACK = 8.0  # px: thin slivers do not rasterise, so good boxes may be this much larger than their mask
_BOX_MIN_IOU = 0.5
# Six bits per character, from "0" on; bit 5 says that the number goes on, so it is clear in the last one.
_RLE_COUNTS = re.compile("[0-o]*[0-O]")


def encode_segmentation(segmentation: list[list[float]] | dict[str, Any], size: tuple[int, int]) -> Rle | None:
    """Run-length code of a COCO segmentation, rasterised as the COCO API does it.

    Args:
        segmentation: polygons in px, each with 3 points or more, or an RLE (of another size: it is scaled, cut or
            padded, as `CocoDataset.load_target` says).
        size: (H, W) of the image.

    Returns:
        The code in the frame ``size``; None if coordinates are not finite or absurdly large.

    Raises:
        ValueError: an RLE cannot be decoded.

    """
    encoded = encode(segmentation, size, size)
    return None if encoded is None else Rle(size=[*size], counts=encoded["counts"].decode("ascii"))


def encode(
    segmentation: list[list[float]] | dict[str, Any], stated_size: tuple[int, int], size: tuple[int, int]
) -> CompressedRle | None:
    """Compressed RLE in the frame ``size``; None if polygon coordinates cannot be rasterised."""
    from pycocotools import mask as mask_codec

    encoded: CompressedRle
    if not isinstance(segmentation, dict):
        if not all(abs(value) <= MAX_COORDINATE for part in segmentation for value in part):
            return None
        encoded = mask_codec.merge(mask_codec.frPyObjects(segmentation, *stated_size))
    elif isinstance(segmentation["counts"], list):
        encoded = mask_codec.frPyObjects(segmentation, *segmentation["size"])
    elif _RLE_COUNTS.fullmatch(segmentation["counts"]):
        encoded = {"size": segmentation["size"], "counts": segmentation["counts"].encode("ascii")}
    else:
        raise ValueError("the RLE counts are not a COCO run-length string")
    return encoded if tuple(encoded["size"]) == size else _fit(encoded, size)


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


def _fit(rle: CompressedRle, size: tuple[int, int]) -> CompressedRle:
    """The same mask in another frame: scaled if the aspect ratio is the same, otherwise cut or padded."""
    from pycocotools import mask as mask_codec

    mask = decode_masks([rle])[0]
    height, width = size
    if same_aspect((mask.shape[0], mask.shape[1]), size):
        image = Image.fromarray(mask.view(np.uint8) * np.uint8(255))
        fitted = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)) >= 128
    else:
        fitted = np.zeros(size, dtype=np.bool_)
        part = mask[:height, :width]
        fitted[: part.shape[0], : part.shape[1]] = part
    result: CompressedRle = mask_codec.encode(np.asfortranarray(fitted.view(np.uint8)))
    return result


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
