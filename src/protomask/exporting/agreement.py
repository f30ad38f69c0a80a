"""Whether an exported file does what the model does, and what to do where it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from protomask.errors import ExportError
from protomask.exporting.matching import Limits

ONE_STAGE = Limits(score=1e-3, box=0.5, mask_iou=0.95)
"""Trained models differ by a hundredth of this; untrained or unsure ones make much of what is rounded."""
TWO_STAGES = Limits(score=1e-3, box=0.5, mask_iou=0.9)
"""What the first stage rounds decides what the second one sees."""
PARTS_LIMIT = 1e-3
"""Tolerance of what comes before NMS: the difference of two numbers, divided by 1 plus their size."""
AP_LIMIT = 0.005
"""AP that a file may lose."""
FAULTS_LIMIT = 0.01
"""Share of the detections that may differ: of two boxes that overlap by just the limit of NMS, either may stay."""
AveragePrecisions = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How an exported file compares with the model, over some images.

    Attributes:
        images: how many were compared.
        score_threshold: detections whose score is above this were compared one by one.
        detections: number of the model's detections above that score.
        unmatched: above that score, of one of the two only: no other of its class overlaps it by half.
        deviating: matched ones whose score, box or mask differs by more than rounding.
        score_difference: largest, of class and mask scores of matched ones.
        box_difference: largest, pixels of the image.
        mask_iou: smallest of one object's two masks; those that differ by one pixel count as 1.
        weaker: detections of the model that are not above that score.
        weaker_unmatched: such of one of the two only.
        parts: largest difference of each output of the network before NMS, the difference of two numbers divided by 1
            plus their size; empty where they are not compared (8 bits).
        ap: box_AP, mask_AP and so on of "pytorch" and of the "file"; empty where there is no truth.
        search_depth: number of (anchor, class) pairs that NMS in the file looks at; None for no limit.
        warnings: deviations that do not matter, each with its size.

    """

    images: int
    score_threshold: float = 0.0
    detections: int
    unmatched: int
    deviating: int = 0
    score_difference: float
    box_difference: float
    mask_iou: float
    weaker: int = 0
    weaker_unmatched: int = 0
    parts: Mapping[str, float] = field(default_factory=dict)
    ap: Mapping[str, AveragePrecisions] = field(default_factory=dict)
    search_depth: int | None = None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "warnings": list(self.warnings)}

    def __str__(self) -> str:
        before = f"; before NMS {max(self.parts.values()):.1e}" if self.parts else ""
        return (
            f"{self.detections} detections above score {self.score_threshold:g} on {self.images} images, "
            f"{self.unmatched or 'none'} unmatched; largest difference of scores {self.score_difference:.1e}, of boxes "
            f"{self.box_difference:.1e} px{before}; smallest IoU of masks {self.mask_iou:.4f}"
        )

    def and_in_batches(self, other: Agreement) -> Agreement:
        """Add how images agree that came several at once."""
        return replace(
            self,
            images=self.images + other.images,
            detections=self.detections + other.detections,
            unmatched=self.unmatched + other.unmatched,
            deviating=self.deviating + other.deviating,
            score_difference=max(self.score_difference, other.score_difference),
            box_difference=max(self.box_difference, other.box_difference),
            mask_iou=min(self.mask_iou, other.mask_iou),
            weaker=self.weaker + other.weaker,
            weaker_unmatched=self.weaker_unmatched + other.weaker_unmatched,
        )

    @property
    def faults(self) -> int:
        """Detections that differ."""
        return self.unmatched + self.deviating


@dataclass(frozen=True, kw_only=True)
class WaysOut:
    """What helps where a file is refused, in the words of the settings.

    Attributes:
        network: where the network computes something else.
        choice: where what is chosen of its outputs differs.

    """

    network: str
    choice: str


def judge(
    agreement: Agreement,
    name: str,
    limits: Limits,
    ways_out: WaysOut,
    *,
    masks: bool = True,
    detections: bool = True,
) -> Agreement:
    """Raise if a file does not do what the model does.

    Args:
        agreement: how the file agrees with the model.
        name: name of the file, for the message.
        limits: what counts as rounding.
        ways_out: for the message.
        masks: theirs must be the same, too; on a grid of another size they cannot be.
        detections: they must be the same; of weights that were rounded they need not be, if AP is.

    Returns:
        The agreement with warnings about what differs and does not matter.

    Raises:
        ExportError: what differs matters; the message says by how much, and what helps.

    """
    wrong = {part: size for part, size in agreement.parts.items() if not size <= PARTS_LIMIT}
    if wrong:
        sizes = ", ".join(f"{part} by {size:.1e}" for part, size in wrong.items())
        raise ExportError(
            f"{name}: expected what the network gives before NMS to differ by at most {PARTS_LIMIT:g} from PyTorch, "
            f"got {sizes}; {ways_out.network}"
        )
    allowed = max(1, math.ceil(FAULTS_LIMIT * agreement.detections))
    if detections and agreement.faults > allowed:
        raise ExportError(
            f"{name}: expected the detections of the PyTorch model above score {agreement.score_threshold:g} (scores "
            f"within {limits.score:g}, boxes within {limits.box:g} px, IoU of masks at least {limits.mask_iou:g}; up "
            f"to {allowed} may differ), got {agreement.faults} that differ: {agreement}; {ways_out.choice}"
        )
    lost = {kind: size for kind, size in lost_ap(agreement).items() if masks or not kind.startswith("mask")}
    if max(lost.values(), default=0.0) > AP_LIMIT:
        raise ExportError(
            f"{name}: expected the AP of the PyTorch model within {AP_LIMIT:g}, got {_compared(agreement)}; "
            f"{ways_out.choice}"
        )
    return replace(agreement, warnings=(*agreement.warnings, *_deviations(agreement)))


def report(agreement: Agreement) -> Agreement:
    """The agreement with warnings about all that differs: of an 8-bit file nothing is refused."""
    warnings = list(_deviations(agreement))
    lost = max(lost_ap(agreement).values(), default=0.0)
    if warnings and not agreement.ap:
        warnings.append("8 bits move every score and box a little; with data the AP of both is measured")
    if lost > AP_LIMIT:
        warnings.append(
            f"8 bits cost {lost:.3f} AP: {_compared(agreement)}; calibration with more images, of the kind that the "
            "model will see, may cost less"
        )
    return replace(agreement, warnings=(*agreement.warnings, *warnings))


def lost_ap(agreement: Agreement) -> dict[str, float]:
    """Box and mask AP that the model has more than the file."""
    lost = {}
    for kind in ("box_AP", "mask_AP"):
        wanted, found = (agreement.ap.get(one, {}).get(kind) for one in ("pytorch", "file"))
        if wanted is not None and found is not None:
            lost[kind] = wanted - found
    return lost


def _deviations(agreement: Agreement) -> list[str]:
    """What differs, in words."""
    found = []
    if agreement.faults:
        found.append(
            f"{agreement.faults} of {agreement.detections} detections above score {agreement.score_threshold:g} differ "
            f"({agreement.unmatched} unmatched; scores by up to {agreement.score_difference:.1e}, boxes by up to "
            f"{agreement.box_difference:.1e} px, IoU of masks down to {agreement.mask_iou:.4f})"
        )
    if agreement.weaker_unmatched:
        depth = agreement.search_depth
        limited = f"; NMS in the file ends after {depth} candidates, a larger search_depth finds more" if depth else ""
        found.append(
            f"{agreement.weaker_unmatched} of {agreement.weaker} detections up to score "
            f"{agreement.score_threshold:g} are unmatched{limited}"
        )
    return found


def _compared(agreement: Agreement) -> str:
    kinds = ", ".join(f"{kind.replace('_', ' ')} {agreement.ap['file'][kind]:.3f}" for kind in lost_ap(agreement))
    wanted = ", ".join(f"{agreement.ap['pytorch'][kind]:.3f}" for kind in lost_ap(agreement))
    return f"{kinds} instead of {wanted}"
