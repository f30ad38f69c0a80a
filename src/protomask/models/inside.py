"""What a network had inside while it looked at one image: the parts that explanations are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """K pairs of a place and a class that scored above the candidate threshold.

    Attributes:
        boxes: (K, 4) float32 xyxy, relative to the image.
        origins: (K, 4) float32 likewise, the anchors or proposals that the boxes were made from.
        numbers: (K,) int64, which anchors or proposals these are.
        levels: (K,) int64 pyramid level, 0 for the finest.
        labels: (K,) int64.
        scores: (K,) float32 class score.

    """

    boxes: Floats
    origins: Floats
    numbers: NDArray[np.int64]
    levels: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: Floats


@dataclass(frozen=True, kw_only=True)
class PrototypeParts:
    """Masks as sums: (h, w, k) float32 prototypes of the whole image and (N, k) float32 coefficients."""

    prototypes: Floats
    coefficients: Floats


@dataclass(frozen=True, kw_only=True)
class RegionParts:
    """Masks over regions.

    Attributes:
        proposals: (P, 4) float32 xyxy, relative to the image, best first.
        objectness: (P,) float32 in [0, 1].
        features: (N, s, s) float32, mean over the channels of the features that the mask head saw, 0 or more.
        mask_probs: (N, m, m) float32 in [0, 1], each over its box.
        mask_iou_input: (N, s, s) float32 in [0, 1], the masks as the mask IoU head saw them; None without such a head.

    """

    proposals: Floats
    objectness: Floats
    features: Floats
    mask_probs: Floats
    mask_iou_input: Floats | None


@dataclass(frozen=True, kw_only=True)
class PositionParts:
    """Masks and classes from position-sensitive maps.

    Attributes:
        proposals: (P, 4) float32 xyxy, relative to the image, best first.
        objectness: (P,) float32 in [0, 1].
        outside: (N, m, m) float32 score of each cell of the kept region to lie in an object of its class, but outside.
        inside: (N, m, m) float32 likewise, inside.
        own_mask: (N, m, m) float32 in [0, 1] of the kept region alone, of its own best class.
        votes: (N, m, m) float32 in [0, 1], share of the votes in each cell of the final box.
        num_votes: (N,) int64 regions that voted.

    """

    proposals: Floats
    objectness: Floats
    outside: Floats
    inside: Floats
    own_mask: Floats
    votes: Floats
    num_votes: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Inside:
    """One image, N instances kept in the order of class scores.

    Attributes:
        rows: what the family's ``detect`` gives and its ``paint`` takes.
        boxes: (N, 4) float32 xyxy, relative to the image; masks are cut to them.
        labels: (N,) int64.
        class_scores: (N,) float32.
        mask_scores: (N,) float32 estimated IoU, not limited to [0, 1]; None where masks are not rated.
        class_probs: (N, num_classes + 1) float32, background first.
        candidates: what competed.
        kept: (N,) int64 rows of the candidates.
        prototypes: of a prototype model.
        regions: of a two-stage model.
        positions: of a model with position-sensitive maps.

    """

    rows: Any
    boxes: Floats
    labels: NDArray[np.int64]
    class_scores: Floats
    mask_scores: Floats | None
    class_probs: Floats
    candidates: Candidates
    kept: NDArray[np.int64]
    prototypes: PrototypeParts | None = None
    regions: RegionParts | None = None
    positions: PositionParts | None = None
