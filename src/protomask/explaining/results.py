"""What an explanation holds, as plain values and arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.images.decode import Pixels
from protomask.structures.instances import Instances

Floats = NDArray[np.float32]
PrototypeKind = Literal["position", "outline", "foreground", "background", "mixed", "nothing"]
Outcome = Literal["kept", "suppressed", "below threshold", "beyond limit"]


@dataclass(frozen=True, kw_only=True)
class PrototypeFacts:
    """What one prototype responds to in this image, as measured on the prototype grid.

    Attributes:
        number: number of the prototype, from 0.
        kind: the strongest of the measures below, see `protomask.explaining.prototypes.measure_prototypes`.
        use: its share of all that the prototypes add to the masks, in [0, 1].
        position: multiple correlation with the column and the row, in [0, 1].
        outline: correlation with the outlines of the objects, in [-1, 1]; None where there are no objects.
        foreground: correlation with the inside of the objects, in [-1, 1]; negative for the background; None likewise.

    """

    number: int
    kind: PrototypeKind
    use: float
    position: float
    outline: float | None
    foreground: float | None


@dataclass(frozen=True, kw_only=True)
class Competitor:
    """A candidate that overlaps an instance, of all candidates it overlaps most.

    Attributes:
        number: number of the anchor or proposal.
        level: level of the pyramid, 0 for the finest.
        label: class it competed in.
        score: class score.
        box: (4,) float32 xyxy, pixels of the image.
        origin: (4,) float32 likewise, the anchor or proposal itself.
        iou: overlap of its box with that of the instance.
        outcome: what became of it.
        by: number of the instance that suppressed it; None where no instance did: fast NMS lets suppressed boxes
            suppress others.

    """

    number: int
    level: int
    label: int
    score: float
    box: Floats
    origin: Floats
    iou: float
    outcome: Outcome
    by: int | None


@dataclass(frozen=True, kw_only=True)
class PrototypeSum:
    """How the mask of one instance comes from k prototypes of h x w cells.

    Attributes:
        coefficients: (k,) float32.
        inside: (k,) float32, coefficient times prototype, mean over the cells of the mask.
        around: (k,) float32 likewise, over the other cells of the box.
        order: (k,) int64, prototypes by their mean absolute addition within the box, the largest first.
        growth: (k,) float32, IoU with the final mask when only the first 1, 2, ... k of this order are added.
        uncropped: (h, w) float32 probabilities before the crop.
        window: (h, w) bool, the cells that the crop keeps.
        leakage: share of the mask before the crop that lies outside the box, in [0, 1].
        leaked_pixels: the same in pixels of the image.

    """

    coefficients: Floats
    inside: Floats
    around: Floats
    order: NDArray[np.int64]
    growth: Floats
    uncropped: Floats
    window: NDArray[np.bool_]
    leakage: float
    leaked_pixels: int


@dataclass(frozen=True, kw_only=True)
class RegionFacts:
    """How the mask of one instance of a two-stage model comes about.

    Attributes:
        proposal: (4,) float32 xyxy, pixels of the image: the proposal that became the instance.
        objectness: score of the proposal.
        rank: place among all proposals, from 1.
        features: (s, s) float32, mean of the features over the channels.
        mask_probs: (m, m) float32 in [0, 1], over the box.
        mask_iou_input: (s, s) float32, the mask as the mask IoU head saw it; None without such a head.

    """

    proposal: Floats
    objectness: float
    rank: int
    features: Floats
    mask_probs: Floats
    mask_iou_input: Floats | None


@dataclass(frozen=True, kw_only=True)
class PositionFacts:
    """How class and mask of one instance come from position-sensitive maps.

    Attributes:
        proposal: (4,) float32 xyxy, pixels of the image: the proposal of the region that NMS kept.
        objectness: score of the proposal.
        rank: place among all proposals, from 1.
        corrected: whether the region is the proposal after its correction.
        outside: (m, m) float32 score of each cell to lie outside the object.
        inside: (m, m) float32 likewise, inside.
        own_mask: (m, m) float32 in [0, 1] of the region alone.
        votes: (m, m) float32 in [0, 1], share of the votes in each cell of the final box.
        num_votes: regions that voted.

    """

    proposal: Floats
    objectness: float
    rank: int
    corrected: bool
    outside: Floats
    inside: Floats
    own_mask: Floats
    votes: Floats
    num_votes: int


class TruthMatch(NamedTuple):
    """The annotated object with the largest mask IoU: its number, its class, and that IoU."""

    number: int
    name: str
    iou: float


@dataclass(frozen=True, kw_only=True)
class InstanceFacts:
    """Why one instance is as it is.

    Attributes:
        number: in ``found`` of the explanation.
        class_probs: (name, probability) of the likeliest classes, "background" among them.
        competitors: candidates that overlap it most, the instance itself first, then by score.
        prototype_sum: of a prototype model.
        region: of a two-stage model.
        positions: of a model with position-sensitive maps.
        truth: where annotations are given and an object overlaps it.

    """

    number: int
    class_probs: Sequence[tuple[str, float]]
    competitors: Sequence[Competitor]
    prototype_sum: PrototypeSum | None
    region: RegionFacts | None
    positions: PositionFacts | None
    truth: TruthMatch | None

    def count(self, outcome: Outcome) -> int:
        """Number of competitors that this became of."""
        return sum(one.outcome == outcome for one in self.competitors)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a model found what it found in one image.

    Attributes:
        name: name of the image.
        model: name of the model.
        pixels: (H, W, 3) uint8 RGB.
        found: what `Predictor.predict` gives for the same options.
        instances: the instances that are explained.
        prototypes: prototypes of a prototype model, the most used first; empty for other models.
        prototype_maps: (h, w, k) float32, in the order of their numbers; None for others.
        proposals: (P, 4) float32 xyxy, pixels of the image, best first; None for models without.
        truth: (M, H, W) bool masks of the annotated objects; None where no annotations are given.
        page: the HTML page, where one was written.

    """

    name: str
    model: str
    pixels: Pixels
    found: Instances
    instances: Sequence[InstanceFacts]
    prototypes: Sequence[PrototypeFacts]
    prototype_maps: Floats | None
    proposals: Floats | None
    truth: NDArray[np.bool_] | None
    page: Path | None = None

    def lines(self) -> list[str]:
        """The most important numbers in words, a line for each explained instance."""
        lines = [f"{self.name}: {len(self.found)} instances by {self.model}"]
        if self.prototypes:
            kinds = Counter(one.kind for one in self.prototypes)
            told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
            lines.append(f"prototypes: {told}")
        for facts in self.instances:
            one = self.found[[facts.number]]
            words = [f"instance {facts.number}: {one.names[0]} {one.scores[0]:.2f}"]
            if one.mask_scores is not None:
                words.append(f"mask score {one.mask_scores[0]:.2f}")
            if facts.truth is not None:
                words.append(f"IoU with the truth {facts.truth.iou:.2f}")
            if facts.prototype_sum is not None:
                words.append(f"{facts.prototype_sum.leakage:.1%} outside the box before the crop")
            words.append(f"{facts.count('suppressed')} candidates suppressed")
            lines.append(", ".join(words))
        return lines

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return {
            "image": self.name,
            "model": self.model,
            "page": None if self.page is None else str(self.page),
            "found": len(self.found),
            "prototypes": [_plain(one.__dict__) for one in self.prototypes],
            "instances": [self._instance(one) for one in self.instances],
        }

    def _instance(self, facts: InstanceFacts) -> dict[str, Any]:
        one = self.found[[facts.number]]
        row: dict[str, Any] = {
            "number": facts.number,
            "class_name": one.names[0],
            "score": one.scores[0],
            "mask_score": None if one.mask_scores is None else one.mask_scores[0],
            "box": one.boxes[0],
            "class_probs": dict(facts.class_probs),
            "competitors": [_plain(rival.__dict__) for rival in facts.competitors],
            "truth": None if facts.truth is None else facts.truth._asdict(),
        }
        if facts.prototype_sum is not None:
            names = ("coefficients", "inside", "around", "order", "growth", "leakage", "leaked_pixels")
            row["prototype_sum"] = _plain({name: getattr(facts.prototype_sum, name) for name in names})
        if facts.region is not None:
            row["region"] = _plain({name: getattr(facts.region, name) for name in ("proposal", "objectness", "rank")})
        if facts.positions is not None:
            told = ("proposal", "objectness", "rank", "corrected", "num_votes")
            row["positions"] = _plain({name: getattr(facts.positions, name) for name in told})
        return _plain(row)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value.tolist() if isinstance(value, np.ndarray | np.generic) else value for key, value in row.items()}
