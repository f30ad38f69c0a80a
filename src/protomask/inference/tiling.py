"""Large images in overlapping tiles: where the tiles lie, and one set of instances from what was found in each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from protomask.errors import ConfigError
from protomask.ops.boxes import pairwise_intersection
from protomask.ops.masks import Runs, intersect_runs, move_runs, rectangle_runs, runs_area, unite_runs
from protomask.structures.instances import Instances, RunMasks

MIN_TILE = 32
SAME_OBJECT_IOU = 0.5
SAME_OBJECT_SHARE = 0.7
"""Of the smaller mask: so much of it inside the other makes the two one object."""
CUT_RANK = 0.5
"""What may be cut yields to what is seen whole if that has at least this part of its score."""
OVERVIEW_SIDE = 0.75
"""Of a tile: the least side of an object that is taken from the image as a whole."""


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
        batch_size: tiles that go through the network together.

    Raises:
        ConfigError: a value is out of range.

    """

    size: int
    overlap: float = 0.25
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.size < MIN_TILE:
            raise ConfigError(f"tile: expected at least {MIN_TILE} pixels, got {self.size}")
        if not (math.isfinite(self.overlap) and self.overlap >= 0 and self.overlap_pixels < self.size):
            raise ConfigError(
                f"tile_overlap: expected a part of the tile from 0 to below 1, or pixels, fewer than tile={self.size}, "
                f"got {self.overlap}"
            )
        if self.batch_size < 1:
            raise ConfigError(f"batch_size: expected at least 1, got {self.batch_size}")

    @property
    def overlap_pixels(self) -> int:
        """Of neighbouring tiles, at least."""
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
        max_detections: at most so many, the best; None for no limit.
        across_classes: detections of different classes can be one object, too. (Those of a cut object always can: part
            of it may look like something else.)

    Returns:
        `Instances` in the frame of the image, best first. Scores and labels are those of the best detection.

    """
    height, width = image_size
    shown = list(zip(found, tiles, strict=True))
    if overview is not None:
        sides = (overview.boxes[:, 2:] - overview.boxes[:, :2]).amax(dim=1)
        least = OVERVIEW_SIDE * max(max(tile.size) for tile in tiles)
        shown.append((overview[sides > least], Tile(0, 0, width, height)))
    # Of each view: what counts of its detections, their boxes in the image, and whether they may be cut.
    views: list[tuple[Instances, Tensor, Tensor]] = []
    for number, (one, tile) in enumerate(shown):
        boxes = one.boxes + one.boxes.new_tensor([tile.left, tile.top, tile.left, tile.top])
        cut = ~_shows_whole(tile, boxes, image_size)
        by_a_tile = torch.stack([_shows_whole(other, boxes, image_size) for other in tiles]).any(dim=0)
        keep = ~by_a_tile if number == len(tiles) else ~(cut & by_a_tile)
        views.append((one[keep], boxes[keep], cut[keep]))
    boxes = torch.cat([placed for _, placed, _ in views])
    cut = torch.cat([ends for _, _, ends in views])
    labels, scores, class_scores = (
        torch.cat([getattr(one, name) for one, _, _ in views]) for name in ("labels", "scores", "class_scores")
    )
    mask_scores = [one.mask_scores for one, _, _ in views if one.mask_scores is not None]
    runs = [
        move_runs(own, tile.size[0], left=tile.left, top=tile.top, frame_height=height)
        for (one, _, _), (_, tile) in zip(views, shown, strict=True)
        for own in one.runs()
    ]

    same: list[list[int]] = [[] for _ in runs]
    rows = torch.split(torch.arange(len(runs)), [len(one) for one, _, _ in views])
    for (a, tile_a), (b, tile_b) in combinations(zip(rows, (tile for _, tile in shown), strict=True), 2):
        common = tile_a.common(tile_b)
        if min(common.size) <= 0:
            continue
        meet = pairwise_intersection(boxes[a], boxes[b]) > 0
        if not across_classes:
            meet &= (labels[a, None] == labels[b]) | (cut[a, None] != cut[b])
        pairs = [(int(a[i]), int(b[j])) for i, j in meet.nonzero().tolist()]
        for i, j in _one_object(pairs, runs, rectangle_runs(common, height)):
            same[i].append(j)
            same[j].append(i)

    objects: dict[int, list[int]] = {}  # the detections that make one object, the best one first
    object_of: dict[int, int] = {}
    is_cut = cut.tolist()
    by_rank = (scores * torch.where(cut, CUT_RANK, 1.0)).argsort(descending=True, stable=True)
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

    best = torch.tensor([parts[0] for parts in objects.values()], dtype=torch.int64)
    outer = [torch.cat([boxes[parts, :2].amin(dim=0), boxes[parts, 2:].amax(dim=0)]) for parts in objects.values()]
    merged = Instances(
        boxes=torch.stack(outer) if outer else boxes,
        labels=labels[best],
        class_scores=class_scores[best],
        mask_scores=torch.cat(mask_scores)[best] if mask_scores else None,
        masks=RunMasks([unite_runs([runs[part] for part in parts]) for parts in objects.values()]),
        image_size=image_size,
        class_names=found[0].class_names,
    )
    return merged[merged.scores.argsort(descending=True, stable=True)[:max_detections]]


def _shows_whole(tile: Tile, boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """(N,) bool: which boxes (N, 4), px of the image, lie inside a tile and clear of its borders with other tiles."""
    height, width = image_size
    clear = max(2.0, max(tile.size) / 64)
    sign = boxes.new_tensor([1, 1, -1, -1])
    inner = boxes.new_tensor([tile.left > 0, tile.top > 0, tile.right < width, tile.bottom < height])
    return ((boxes - boxes.new_tensor(tile)) * sign >= clear * inner).all(dim=1)


def _one_object(pairs: Sequence[tuple[int, int]], runs: Sequence[Runs], common: Runs) -> Iterator[tuple[int, int]]:
    """Which pairs of masks, each of one of two tiles, agree where both tiles look."""
    areas = {row: runs_area(intersect_runs(runs[row], common)) for row in {row for pair in pairs for row in pair}}
    for first, second in pairs:
        shared = runs_area(intersect_runs(runs[first], runs[second]))
        smaller, larger = sorted((areas[first], areas[second]))
        if shared > SAME_OBJECT_IOU * (smaller + larger - shared) or shared > SAME_OBJECT_SHARE * smaller:
            yield first, second
