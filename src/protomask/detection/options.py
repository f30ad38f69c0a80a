"""`PredictOptions`: everything a caller can choose about a prediction, in one frozen object."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypedDict, get_args

from protomask.errors import ConfigError
from protomask.settings import AtLeast, AtMost, Count, NonNegative, NotEmpty, Settings, Text, Unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NmsMode = Literal["fast", "cross_class_fast", "batched", "soft_linear", "soft_gaussian"]
Overlap = Literal["box_iou", "mask_iou", "mask_smaller"]
Crop = Literal["box", "component", "none"]
Edges = Literal["grid", "pixels"]
Duplicates = Literal["drop", "average"]
Owner = Literal["score", "depth"]
NMS_MODES: tuple[str, ...] = get_args(NmsMode)
PROTOTYPE_OPTIONS = ("overlap", "duplicates", "crop", "crop_margin", "edges")
"""Options that only models with prototypes have."""
MIN_TILE = 32
"""Least side of a tile, pixels."""
_CLASSES_NAMED = 12
"""Number of classes that a message lists before it only counts."""


class PredictChanges(TypedDict, total=False):
    """The fields of `PredictOptions` as keyword arguments."""

    score_threshold: float
    threshold_for: str | None
    classes: Sequence[str] | None
    iou_threshold: float | None
    max_detections: int | None
    nms: NmsMode | None
    overlap: Overlap | None
    duplicates: Duplicates | None
    candidate_threshold: float | None
    crop: Crop | None
    crop_margin: float | None
    edges: Edges | None
    exclusive: Owner | None
    batch_size: int
    tile: int | None
    tile_overlap: float
    image_size: int | None


@dataclass(frozen=True, kw_only=True)
class PredictOptions(Settings):
    """What a caller can choose about a prediction; the same for every model and every runtime.

    Attributes:
        score_threshold: return only instances whose final score (class score times mask score, if the model has one) is
            above this; 0 returns all of max_detections.
        threshold_for: Replace score_threshold for each class by the threshold that reached this precision when the
            model was calibrated, for example precision=0.95; from 0.5 to 0.99.
        classes: names of the classes to return, such as person,car; all by default. Other classes do not count towards
            max_detections.
        iou_threshold: overlap above which NMS suppresses; the model's own (0.5) by default.
        max_detections: maximum number of instances per image; the model's own (100) by default.
        nms: kind of non-maximum suppression; the model's own by default.
        overlap: what NMS compares: boxes by their IoU, masks by their IoU, or masks by the part of the smaller one that
            both share; the model's own (box_iou) by default. Only models with prototypes have masks before NMS.
        duplicates: what becomes of what NMS suppresses: nothing (drop), or boxes and masks are averaged with those that
            are kept where the boxes have an IoU above 0.7 (average), and NMS by masks then also compares the means; the
            model's own (drop) by default.
        candidate_threshold: anchors with a lower class score are ignored; the model's own (0.05) by default.
        crop: how masks, which the prototypes give for the whole image, are cut: at the box, at the box keeping only the
            connected part at its centre (component), or not at all (none); the model's own (box) by default.
        crop_margin: widen the box that cuts masks, on each side, by this share of its width and height; the model's own
            (0) by default.
        edges: make the outlines of masks from the grid of the prototypes, or evaluate the prototypes there pixel by
            pixel (pixels); the model's own (grid) by default.
        exclusive: give every pixel to one instance: the best one that covers it (score) or the one whose mask it lies
            deepest inside (depth); by default instances may share pixels.
        batch_size: number of images of a list, or of tiles, that go through the network together.
        tile: cut images into tiles with sides of this many pixels, for small objects in large images; a smaller image
            is predicted as a whole. Not by default.
        tile_overlap: smallest overlap of neighbouring tiles: below 1 a share of the tile, otherwise pixels. Objects up
            to this size are seen whole by some tile.
        image_size: side of the network's input in pixels, or its short side for a Mask R-CNN; the model's own by
            default. A larger one finds smaller objects and takes longer. Exported files have a fixed size.

    Raises:
        ConfigError: a value is out of range or of another type; the message names it.

    """

    score_threshold: Unit = 0.3
    threshold_for: Text | None = None
    classes: Annotated[tuple[Text, ...], NotEmpty()] | None = None
    iou_threshold: Unit | None = None
    max_detections: Count | None = None
    nms: NmsMode | None = None
    overlap: Overlap | None = None
    duplicates: Duplicates | None = None
    candidate_threshold: Unit | None = None
    crop: Crop | None = None
    crop_margin: NonNegative | None = None
    edges: Edges | None = None
    exclusive: Owner | None = None
    batch_size: Count = 1
    tile: Annotated[int, AtLeast(MIN_TILE, "pixels")] | None = None
    tile_overlap: NonNegative = 0.25
    image_size: Annotated[int, AtLeast(32, "pixels"), AtMost(16384)] | None = None

    def _check(self) -> None:
        fits = self.tile is None or self.tile_overlap_pixels < self.tile
        self._expect("tile_overlap", fits, f"a share of the tile below 1, or fewer pixels than tile={self.tile}")
        known = self.threshold_for is None or self.wanted_precision is not None
        self._expect("threshold_for", known, "precision=, and a number from 0 to 1 (precision=0.95)")

    @property
    def wanted_precision(self) -> float | None:
        """The precision that ``threshold_for`` asks for; None without one."""
        name, _, number = (self.threshold_for or "").partition("=")
        try:
            precision = float(number)
        except ValueError:
            return None
        return precision if name.strip() == "precision" and 0 <= precision <= 1 else None

    @property
    def tile_overlap_pixels(self) -> int:
        """Least overlap of neighbouring tiles, in pixels."""
        overlap = self.tile_overlap
        return math.ceil(overlap * (self.tile or 0) if overlap < 1 else overlap)

    def refuse(self, names: Sequence[str], model: str) -> None:
        """Check that no option is set that means nothing to a model.

        Args:
            names: names of these options.
            model: the model, and why it lacks these options, for the message.

        Raises:
            ConfigError: one of them is set.

        """
        for name in names:
            value, default = getattr(self, name), getattr(PredictOptions, name)
            if value != default:
                raise ConfigError(f"{name}: expected none with {model}, got {value}")

    def labels(self, class_names: Sequence[str]) -> NDArray[np.int64] | None:
        """Return the labels of ``classes`` in ascending order; None for all.

        Args:
            class_names: the model's name of each label.

        Raises:
            ConfigError: the model has no class with one of these names; the message suggests the nearest name.

        """
        if self.classes is None:
            return None
        for name in self.classes:
            if name not in class_names:
                raise ConfigError(
                    f"classes: expected some of {_few(class_names)}, got {name!r}{_near(name, class_names)}"
                )
        import numpy as np  # the zoo and the help need options, too, but no arrays

        return np.unique([list(class_names).index(name) for name in self.classes]).astype(np.int64)


class Limits(NamedTuple):
    """The settled NMS and number of detections of a prediction."""

    nms: NmsMode
    max_detections: int


def take_options(options: PredictOptions | None, changes: Mapping[str, Any]) -> PredictOptions:
    """Combine options with keyword arguments, which override them.

    Raises:
        ConfigError: a name is not an option (the message lists those that are), or a value is wrong.

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


def _few(names: Sequence[str]) -> str:
    more = len(names) - _CLASSES_NAMED
    return ", ".join(names[:_CLASSES_NAMED]) + (f" and {more} more classes of the model" if more > 0 else "")


def _near(name: str, names: Sequence[str]) -> str:
    """The nearest name, whatever its case, for the end of a message."""
    spelled = {one.casefold(): one for one in names}
    near = difflib.get_close_matches(name.casefold(), spelled, n=1)
    return f"; did you mean {spelled[near[0]]!r}?" if near else ""
