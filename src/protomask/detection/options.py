"""`PredictOptions`: everything a caller can choose about a prediction, in one frozen object."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypedDict, get_args

from protomask.errors import ConfigError

NmsMode = Literal["fast", "cross_class_fast", "batched", "soft_linear", "soft_gaussian"]
NMS_MODES: tuple[str, ...] = get_args(NmsMode)


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
class PredictOptions:
    """What a caller can choose about a prediction; the same for every model and every runtime.

    Attributes:
        score_threshold: Return only instances whose final score (class score times mask score where the model has one)
            is above this, in [0, 1]; 0 returns all of max_detections.
        iou_threshold: Overlap above which NMS suppresses, in [0, 1]; the model's own (0.5) by default.
        max_detections: Maximum number of instances per image; the model's own (100) by default.
        nms: Kind of non-maximum suppression; the model's own by default.
        candidate_threshold: Class score above which anchors are looked at, in [0, 1]; the model's own (0.05) by
            default.
        batch_size: Images of a list, or tiles, that go through the network together.
        tile: Cut images into tiles with sides of this many pixels, for small objects in large images; an image that is
            no larger is predicted as it is. Not by default.
        tile_overlap: Least overlap of neighbouring tiles: below 1 a share of the tile, from 1 on pixels. Objects up to
            this size are seen whole by some tile.

    Raises:
        ConfigError: a value is out of range or of another type; the message names it.

    """

    score_threshold: float = 0.3
    iou_threshold: float | None = None
    max_detections: int | None = None
    nms: NmsMode | None = None
    candidate_threshold: float | None = None
    batch_size: int = 8
    tile: int | None = None
    tile_overlap: float = 0.25

    def __post_init__(self) -> None:
        self._take_number("score_threshold", optional=False)
        self._take_number("iou_threshold")
        self._take_number("candidate_threshold")
        self._take_count("max_detections", 1)
        self._take_count("batch_size", 1, optional=False)
        self._take_count("tile", MIN_TILE)
        if self.nms is not None and self.nms not in NMS_MODES:
            raise ConfigError(f"nms: expected one of {', '.join(NMS_MODES)}, got {self.nms!r}")
        self._take_number("tile_overlap", high=math.inf, optional=False)
        if self.tile is not None and self.tile_overlap_pixels >= self.tile:
            raise ConfigError(
                f"tile_overlap: expected a share of the tile below 1, or fewer pixels than tile={self.tile}, "
                f"got {self.tile_overlap}"
            )

    @property
    def tile_overlap_pixels(self) -> int:
        """Least overlap of neighbouring tiles, in pixels."""
        overlap = self.tile_overlap
        return math.ceil(overlap * (self.tile or 0) if overlap < 1 else overlap)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed.

        Raises:
            ConfigError: no such field, or a wrong value.

        """
        check_names(changes)
        return dataclasses.replace(self, **changes)

    def _take_number(self, name: str, *, high: float = 1.0, optional: bool = True) -> None:
        value = getattr(self, name)
        if value is None and optional:
            return
        number = _as_number(value)
        if number is None or not 0 <= number <= high or not math.isfinite(number):
            bounds = "from 0 to 1" if high == 1 else "of at least 0"
            raise ConfigError(f"{name}: expected a number {bounds}, got {value!r}")
        object.__setattr__(self, name, number)

    def _take_count(self, name: str, low: int, *, optional: bool = True) -> None:
        value = getattr(self, name)
        if value is None and optional:
            return
        number = _as_number(value)
        if number is None or number != int(number) or number < low:
            raise ConfigError(f"{name}: expected a whole number of at least {low}, got {value!r}")
        object.__setattr__(self, name, int(number))


MIN_TILE = 32
"""Least side of a tile, pixels."""


def take_options(options: PredictOptions | None, changes: Mapping[str, Any]) -> PredictOptions:
    """Options with keyword arguments that come on top.

    Raises:
        ConfigError: a name that is no option, with those that are; or a wrong value.

    """
    if options is not None and not isinstance(options, PredictOptions):
        raise ConfigError(f"options: expected PredictOptions, got {type(options).__name__}")
    return (options or PredictOptions()).replace(**changes)


def check_names(changes: Mapping[str, Any]) -> None:
    """Raises: ConfigError if a name is no option."""
    known = [field.name for field in dataclasses.fields(PredictOptions)]
    for name in changes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{name}: no such option{hint}; expected some of {', '.join(known)}")


def _as_number(value: Any) -> float | None:
    """A Python or NumPy number, but no truth value."""
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind in ("i", "u", "f") and getattr(value, "ndim", 1) == 0:
        return float(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
