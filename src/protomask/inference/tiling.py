"""Large images in overlapping tiles: where the tiles lie, and one set of instances from what was found in each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.detection.options import MIN_TILE, PredictOptions
from protomask.errors import ConfigError
from protomask.masks.runs import Runs, intersect_runs, move_runs, rectangle_runs, runs_area, unite_runs
from protomask.structures.instances import Instances
from protomask.structures.mask_sources import RunMasks

SAME_OBJECT_IOU = 0.5
SAME_OBJECT_SHARE = 0.7
"""Share of the smaller mask inside the other from which the two are one object."""
CUT_RANK = 0.5
"""What may be cut yields to what is seen whole if that has at least this part of its score."""
OVERVIEW_SIDE = 0.75
"""Smallest side, as a share of the tile, of an object that is taken from the image as a whole."""


class Tile(NamedTuple):
    """Part of an image, whole pixels, right and bottom excluded."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.bottom - self.top, self.right - self.left

    def common(self, other: Tile) -> Tile:
        """What both show; without extent where they are apart."""
        return Tile(*map(max, self[:2], other[:2]), *map(min, self[2:], other[2:]))


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How large images are cut.

    Attributes:
        size: side of a tile, pixels of the original image; at least 32.
        overlap: of neighbouring tiles at least: below 1 a part of ``size``, from 1 on pixels. Objects up to this size
            are seen whole by some tile.

    Raises:
        ConfigError: a value is out of range.

    """

    size: int
    overlap: float = 0.25

    @classmethod
    def of(cls, options: PredictOptions) -> Tiling:
        """The tiling that options ask for.

        Raises:
            ConfigError: they ask for none.

        """
        if options.tile is None:
            raise ConfigError("tile: expected the side of the tiles, got none")
        return cls(size=options.tile, overlap=options.tile_overlap)

    def __post_init__(self) -> None:
        if self.size < MIN_TILE:
            raise ConfigError(f"tile: expected at least {MIN_TILE} pixels, got {self.size}")
        if not (math.isfinite(self.overlap) and self.overlap >= 0 and self.overlap_pixels < self.size):
            raise ConfigError(
                f"tile_overlap: expected a part of the tile from 0 to below 1, or pixels, fewer than tile={self.size}, "
                f"got {self.overlap}"
            )

    @property
    def overlap_pixels(self) -> int:
        """Minimum overlap of neighbouring tiles, in pixels."""
        return math.ceil(self.overlap * self.size if self.overlap < 1 else self.overlap)

    def tiles(self, image_size: tuple[int, int]) -> list[Tile]:
        """Tiles that cover an image (H, W), row by row.

        They lie at even distances and all inside the image; only where the image is smaller than a tile, they are too.
        """
        rows, columns = (self._spans(length) for length in image_size)
        return [Tile(left, top, right, bottom) for top, bottom in rows for left, right in columns]

    def _spans(self, length: int) -> list[tuple[int, int]]:
        if length <= self.size:
            return [(0, length)]
        gaps = math.ceil((length - self.size) / (self.size - self.overlap_pixels))
        starts = (number * (length - self.size) // gaps for number in range(gaps + 1))
        return [(start, start + self.size) for start in starts]


def merge_tiles(
    found: Sequence[Instances],
    tiles: Sequence[Tile],
    image_size: tuple[int, int],
    *,
    overview: Instances | None = None,
    max_detections: int | None = None,
    across_classes: bool = False,
) -> Instances:
    """What was found in tiles of an image as instances of the image.

    * A detection whose box ends at a border between tiles may be of an object that is cut there. It is left out where
      another tile shows that place clear of its own borders.
    * Two detections of different tiles are one object if their masks agree where both tiles look: their IoU there is
      above 0.5, or more than 0.7 of the smaller lies in the larger. The better one stays; one that may be cut counts
      half.
    * Where all detections of one object are cut, the object is larger than the overlap, and its parts are joined.

    Args:
        found: in each tile, in its frame.
        tiles: at least one, as many as ``found``.
        image_size: (H, W) of the image.
        overview: found in the image as a whole; of it only objects with a side of more than three quarters of a tile
            are taken, where no tile shows them whole.
        max_detections: maximum number of instances, the best; None for no limit.
        across_classes: detections of different classes can be one object, too. (Those of a cut object always can: part
            of it may look like something else.)

    Returns:
        `Instances` in the frame of the image, best first. Scores and labels are those of the best detection.

    """
    height, width = image_size
    shown = list(zip(found, tiles, strict=True))
    if overview is not None:
        sides = (overview.boxes[:, 2:] - overview.boxes[:, :2]).max(axis=1, initial=0)
        least = OVERVIEW_SIDE * max(max(tile.size) for tile in tiles)
        shown.append((overview[sides > least], Tile(0, 0, width, height)))
    # Of each view: what counts of its detections, their boxes in the image, and whether they may be cut.
    views: list[tuple[Instances, NDArray[np.float32], NDArray[np.bool_]]] = []
    for number, (one, tile) in enumerate(shown):
        placed = one.boxes + np.array([tile.left, tile.top, tile.left, tile.top], dtype=np.float32)
        ends = ~_shows_whole(tile, placed, image_size)
        by_a_tile = np.stack([_shows_whole(other, placed, image_size) for other in tiles]).any(axis=0)
        keep = ~by_a_tile if number == len(tiles) else ~(ends & by_a_tile)
        views.append((one[keep], placed[keep], ends[keep]))
    boxes = np.concatenate([placed for _, placed, _ in views])
    cut = np.concatenate([ends for _, _, ends in views])
    labels, scores, class_scores = (
        np.concatenate([getattr(one, name) for one, _, _ in views]) for name in ("labels", "scores", "class_scores")
    )
    mask_scores = [one.mask_scores for one, _, _ in views if one.mask_scores is not None]
    runs = [
        move_runs(own, tile.size[0], left=tile.left, top=tile.top, frame_height=height)
        for (one, _, _), (_, tile) in zip(views, shown, strict=True)
        for own in one.runs()
    ]

    same: list[list[int]] = [[] for _ in runs]
    rows = np.split(np.arange(len(runs)), np.cumsum([len(one) for one, _, _ in views])[:-1])
    for (a, tile_a), (b, tile_b) in combinations(zip(rows, (tile for _, tile in shown), strict=True), 2):
        common = tile_a.common(tile_b)
        if min(common.size) <= 0:
            continue
        meet = _meet(boxes[a], boxes[b])
        if not across_classes:
            meet &= (labels[a][:, None] == labels[b]) | (cut[a][:, None] != cut[b])
        pairs = [(int(a[i]), int(b[j])) for i, j in np.argwhere(meet).tolist()]
        for i, j in _one_object(pairs, runs, rectangle_runs(common, height)):
            same[i].append(j)
            same[j].append(i)

    objects: dict[int, list[int]] = {}  # the detections that make one object, the best one first
    object_of: dict[int, int] = {}
    is_cut = cut.tolist()
    by_rank = np.argsort(-scores * np.where(cut, CUT_RANK, 1.0), kind="stable")
    for place, row in enumerate(by_rank.tolist()):
        known = sorted({object_of[other] for other in same[row] if other in object_of})
        parts = [*(part for number in known for part in objects[number]), row]
        if known and not all(is_cut[part] for part in parts):
            continue
        for number in known:
            del objects[number]
        own = known[0] if known else place
        objects[own] = parts
        object_of.update(dict.fromkeys(parts, own))

    best = np.array([parts[0] for parts in objects.values()], dtype=np.int64)
    outer = [np.append(boxes[parts, :2].min(axis=0), boxes[parts, 2:].max(axis=0)) for parts in objects.values()]
    merged = Instances(
        boxes=np.stack(outer) if outer else boxes,
        labels=labels[best],
        class_scores=class_scores[best],
        mask_scores=np.concatenate(mask_scores)[best] if mask_scores else None,
        masks=RunMasks([unite_runs([runs[part] for part in parts]) for parts in objects.values()]),
        image_size=image_size,
        class_names=found[0].class_names,
    )
    return merged.best_first()[:max_detections]


def _meet(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(A, B) bool: which boxes (A, 4) and (B, 4) have a common area."""
    low = np.maximum(first[:, None, :2], second[:, :2])
    high = np.minimum(first[:, None, 2:], second[:, 2:])
    return np.asarray((high > low).all(axis=2))


def _shows_whole(tile: Tile, boxes: NDArray[np.float32], image_size: tuple[int, int]) -> NDArray[np.bool_]:
    """(N,) bool: which boxes (N, 4), px of the image, lie inside a tile and clear of its borders with other tiles."""
    height, width = image_size
    clear = max(2.0, max(tile.size) / 64)
    sign = np.array([1, 1, -1, -1], dtype=np.float32)
    inner = np.array([tile.left > 0, tile.top > 0, tile.right < width, tile.bottom < height], dtype=np.float32)
    return np.asarray(((boxes - np.array(tile, dtype=np.float32)) * sign >= clear * inner).all(axis=1))


def _one_object(pairs: Sequence[tuple[int, int]], runs: Sequence[Runs], common: Runs) -> Iterator[tuple[int, int]]:
    """Which pairs of masks, each of one of two tiles, agree where both tiles look."""
    areas = {row: runs_area(intersect_runs(runs[row], common)) for row in {row for pair in pairs for row in pair}}
    for first, second in pairs:
        shared = runs_area(intersect_runs(runs[first], runs[second]))
        smaller, larger = sorted((areas[first], areas[second]))
        if shared > SAME_OBJECT_IOU * (smaller + larger - shared) or shared > SAME_OBJECT_SHARE * smaller:
            yield first, second
