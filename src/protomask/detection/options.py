"""`PredictOptions`: everything a caller can choose about a prediction, in one frozen object."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, get_args

from protomask.errors import ConfigError
from protomask.settings import AtLeast, Count, NonNegative, Settings, Unit

NmsMode = Literal["fast", "cross_class_fast", "batched", "soft_linear", "soft_gaussian"]
NMS_MODES: tuple[str, ...] = get_args(NmsMode)
MIN_TILE = 32
"""Least side of a tile, pixels."""


class PredictChanges(TypedDict, total=False):
    """The fields of `PredictOptions` as keyword arguments."""

    score_threshold: float
    iou_threshold: float | None
    max_detections: int | None
    nms: NmsMode | None
    candidate_threshold: float | None
    batch_size: int
    tile: int | None
    tile_overlap: float


@dataclass(frozen=True, kw_only=True)
class PredictOptions(Settings):
    """What a caller can choose about a prediction; the same for every model and every runtime.

    Attributes:
        score_threshold: return only instances whose final score (class score times mask score where the model has one)
            is above this; 0 returns all of max_detections.
        iou_threshold: overlap above which NMS suppresses; the model's own (0.5) by default.
        max_detections: maximum number of instances per image; the model's own (100) by default.
        nms: kind of non-maximum suppression; the model's own by default.
        candidate_threshold: class score above which anchors are looked at; the model's own (0.05) by default.
        batch_size: number of images of a list, or of tiles, that go through the network together.
        tile: cut images into tiles with sides of this many pixels, for small objects in large images; an image that is
            no larger is predicted as it is. Not by default.
        tile_overlap: least overlap of neighbouring tiles: below 1 a share of the tile, from 1 on pixels. Objects up to
            this size are seen whole by some tile.

    Raises:
        ConfigError: a value is out of range or of another type; the message names it.

    """

    score_threshold: Unit = 0.3
    iou_threshold: Unit | None = None
    max_detections: Count | None = None
    nms: NmsMode | None = None
    candidate_threshold: Unit | None = None
    batch_size: Count = 1
    tile: Annotated[int, AtLeast(MIN_TILE, "pixels")] | None = None
    tile_overlap: NonNegative = 0.25

    def _check(self) -> None:
        fits = self.tile is None or self.tile_overlap_pixels < self.tile
        self._expect("tile_overlap", fits, f"a share of the tile below 1, or fewer pixels than tile={self.tile}")

    @property
    def tile_overlap_pixels(self) -> int:
        """Least overlap of neighbouring tiles, in pixels."""
        overlap = self.tile_overlap
        return math.ceil(overlap * (self.tile or 0) if overlap < 1 else overlap)


class Limits(NamedTuple):
    """The settled NMS and number of detections of a prediction."""

    nms: NmsMode
    max_detections: int


def take_options(options: PredictOptions | None, changes: Mapping[str, Any]) -> PredictOptions:
    """Options with keyword arguments that come on top.

    Raises:
        ConfigError: a name that is no option, with those that are; or a wrong value.

    """
    if options is not None and not isinstance(options, PredictOptions):
        raise ConfigError(f"options: expected PredictOptions, got {type(options).__name__}")
    known = [field.name for field in fields(PredictOptions)]
    for name in changes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{name}: no such option{hint}; expected some of {', '.join(known)}")
    return (options or PredictOptions()).replace(**changes)
