"""`Instance`: one of the instances of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from protomask.masks.polygons import Polygon, mask_to_polygons
from protomask.masks.rle import Rle, encode_runs
from protomask.masks.runs import MaskWindow, Runs, perimeter, runs_area, runs_to_window

if TYPE_CHECKING:
    from protomask.structures.instances import Instances


class Instance:
    """One of the `Instances` of an image."""

    __slots__ = ("_row", "_whole")

    def __init__(self, whole: Instances, row: int) -> None:
        self._whole = whole
        self._row = row

    @property
    def name(self) -> str:
        """Name of its class."""
        return self._whole.class_names[self.label]

    @property
    def label(self) -> int:
        """Number of its class, 0-based."""
        return int(self._whole.labels[self._row])

    @property
    def score(self) -> float:
        """Final score in [0, 1]: class score times mask score, if the model has one."""
        score = self._whole.class_scores[self._row]
        return float(score if self._whole.mask_scores is None else score * self._whole.mask_scores[self._row])

    @property
    def class_score(self) -> float:
        """How sure the class is, in [0, 1]."""
        return float(self._whole.class_scores[self._row])

    @property
    def mask_score(self) -> float | None:
        """Estimated IoU of the mask, in [0, 1]; None if the model does not estimate it."""
        scores = self._whole.mask_scores
        return None if scores is None else float(scores[self._row])

    @property
    def track_id(self) -> int | None:
        """Identity over the frames of a video; None if nothing was tracked."""
        tracks = self._whole.track_ids
        return None if tracks is None else int(tracks[self._row])

    @property
    def box(self) -> NDArray[np.float32]:
        """(4,) float32 xyxy, pixels of the original image."""
        box: NDArray[np.float32] = self._whole.boxes[self._row]
        return box

    @property
    def runs(self) -> Runs:
        """Runs of the mask's pixels, in the original frame."""
        return self._whole.runs()[self._row]

    @property
    def window(self) -> MaskWindow:
        """The mask on the part of the original frame that it occupies."""
        return runs_to_window(self.runs, self._whole.image_size[0])

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool in the original frame, made again at each use."""
        mask = np.zeros(self._whole.image_size, dtype=np.bool_)
        top, left, part = self.window
        mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        return mask

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return runs_area(self.runs)

    @property
    def perimeter(self) -> float:
        """Length of the mask's outline in pixels, see `protomask.masks.runs.perimeter`."""
        return perimeter(self.window.mask)

    def rle(self) -> Rle:
        """COCO run-length code of the mask."""
        return encode_runs([self.runs], self._whole.image_size)[0]

    def polygons(self) -> list[Polygon]:
        """Exact outlines of the mask: its separate parts, each with its holes, in pixels of the original image."""
        top, left, mask = self.window
        return mask_to_polygons(mask, offset=(left, top))

    def __repr__(self) -> str:
        x1, y1, x2, y2 = self.box.tolist()
        return f"Instance({self.name} {self.score:.2f} in {x1:.0f},{y1:.0f}..{x2:.0f},{y2:.0f})"
