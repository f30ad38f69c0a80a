"""One image: what a model found in it beside what is annotated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_codec

from protomask.data.coco.segmentation import CompressedRle
from protomask.data.pseudo.options import PseudoLabelOptions

_SAME = 0.5  # IoU from which two masks show one object
_INSIDE = 0.5  # share of a mask that lies in others, from which it is a part of them
_LEAST_LEFT = 0.1  # share of a region that must be left when objects have been cut from it


class Known(NamedTuple):
    """An annotation: its label and mask, and whether it is a crowd, and made by machine."""

    label: int
    rle: CompressedRle
    is_crowd: bool
    is_machine: bool


class Found(NamedTuple):
    """Something that a model found: its label and mask, and the score."""

    label: int
    rle: CompressedRle
    score: float


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What becomes of the annotations of an image.

    Attributes:
        redrawn: better masks, by the index of the annotation.
        added: new objects.
        ignored: new regions to ignore.
        cut: what is left of regions to ignore in which objects were found, by index; None for nothing.

    """

    redrawn: dict[int, Found] = field(default_factory=dict)
    added: list[Found] = field(default_factory=list)
    ignored: list[Found] = field(default_factory=list)
    cut: dict[int, CompressedRle | None] = field(default_factory=dict)


def merge(known: Sequence[Known], found: Sequence[Found], options: PseudoLabelOptions) -> Changes:
    """Decide what becomes of everything that a model found in an image.

    The best come first. What shows an annotated object redraws it where that mask was made by machine, and is dropped
    otherwise; so is what lies half inside of objects or of a crowd that people marked. Of the rest, what is sure
    becomes an object, and is cut from regions to ignore that a machine made; what is not becomes such a region.

    Args:
        known: annotations of the image.
        found: what the model found in it.
        options: thresholds.

    """
    changes = Changes()
    objects = [index for index, one in enumerate(known) if not one.is_crowd]
    taken = [known[index].rle for index in objects]
    crowds = [one for one in known if one.is_crowd]
    for one in sorted(found, key=lambda one: -one.score):
        if one.score <= options.ignore_above or not int(mask_codec.area(one.rle)):
            continue
        is_sure = one.score > options.keep_above
        overlaps = _overlaps(one, taken)
        if len(overlaps) and overlaps.max() >= _SAME:
            best = int(overlaps.argmax())
            index = objects[best] if best < len(objects) else None
            if index is not None and is_sure and options.redraw and _redraws(known[index], one):
                changes.redrawn.setdefault(index, one)
        elif _share_inside(one, taken) >= _INSIDE or _is_excused(one, crowds, is_sure=is_sure):
            continue
        elif is_sure:
            changes.added.append(one)
            taken.append(one.rle)
        else:
            changes.ignored.append(one)
    for index, region in enumerate(known):
        if region.is_crowd and region.is_machine:
            _cut(index, region, changes)
    return changes


def _redraws(old: Known, one: Found) -> bool:
    return old.is_machine and old.label == one.label


def _is_excused(one: Found, crowds: Sequence[Known], *, is_sure: bool) -> bool:
    """Whether a region of the same class covers it already: any for what is not sure, else one that people marked."""
    own = [crowd.rle for crowd in crowds if crowd.label == one.label and not (is_sure and crowd.is_machine)]
    return _share_inside(one, own) >= _INSIDE


def _overlaps(one: Found, others: Sequence[CompressedRle]) -> NDArray[np.float64]:
    """(N,) IoU with each of the other masks."""
    if not others:
        return np.zeros(0)
    ious: NDArray[np.float64] = mask_codec.iou([one.rle], list(others), [0] * len(others))[0]
    return ious


def _share_inside(one: Found, others: Sequence[CompressedRle]) -> float:
    """Share of its pixels that lie in any of the other masks."""
    if not others:
        return 0.0
    union: Any = mask_codec.merge(list(others))
    return float(mask_codec.iou([one.rle], [union], [1])[0, 0])


def _cut(index: int, region: Known, changes: Changes) -> None:
    """Cut the new objects of its class from a region to ignore."""
    own = [one.rle for one in changes.added if one.label == region.label]
    if not own:
        return
    mask = mask_codec.decode(region.rle).astype(bool)
    left = mask & ~mask_codec.decode(mask_codec.merge(own)).astype(bool)
    if left.sum() == mask.sum():
        return
    is_gone = left.sum() < _LEAST_LEFT * mask.sum()
    changes.cut[index] = None if is_gone else mask_codec.encode(np.asfortranarray(left, dtype=np.uint8))
