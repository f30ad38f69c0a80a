"""How well scores predict the IoU of masks, in numbers: rank correlation, error, calibration, reliability bins.

`protomask.evaluation.quality` says what is measured, and of which detections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protomask.errors import ConfigError

Score = Literal["class_score", "mask_score", "product"]
Population = Literal["all", "matched"]
Floats = NDArray[np.float64]

SCORES: tuple[Score, ...] = ("class_score", "mask_score", "product")
NUM_BINS = 10
MATCHED_IOU = 0.5
"""Measured IoU from which a detection belongs to the population ``matched``."""


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """The detections whose score is in [lower, upper), the last bin closed; scores outside 0..1 are in the outer bins.

    Attributes:
        lower: in [0, 1].
        upper: in [0, 1].
        count: detections.
        mean_score: of these detections, None where there are none.
        mean_iou: mean measured IoU, None where there are none.

    """

    lower: float
    upper: float
    count: int
    mean_score: float | None
    mean_iou: float | None


@dataclass(frozen=True, kw_only=True)
class ScoreQuality:
    """How well one score predicts the measured IoU; the first three values are None without detections.

    Attributes:
        spearman: rank correlation with the measured IoU in [-1, 1]; None also if either has only one value.
        mean_absolute_error: mean of abs(score - measured IoU).
        calibration_error: expected calibration error: mean over detections of
            abs(mean score - mean measured IoU) of their bin.
        bins: ten bins of equal width, the lowest first.

    """

    spearman: float | None
    mean_absolute_error: float | None
    calibration_error: float | None
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, kw_only=True)
class PopulationQuality:
    """Every score of one population; ``mask_score`` and ``product`` are None where the model has no mask scores.

    Attributes:
        count: detections.
        mean_iou: mean measured IoU, None where there are none.
        class_score: quality of the class score.
        mask_score: quality of the mask score, the estimate of the mask's IoU.
        product: quality of their product, `Instances.scores`.

    """

    count: int
    mean_iou: float | None
    class_score: ScoreQuality
    mask_score: ScoreQuality | None
    product: ScoreQuality | None

    def scores(self) -> dict[Score, ScoreQuality]:
        """The scores that the model has, by name."""
        named: dict[Score, ScoreQuality | None] = {
            "class_score": self.class_score,
            "mask_score": self.mask_score,
            "product": self.product,
        }
        return {name: quality for name, quality in named.items() if quality is not None}


@dataclass(frozen=True, kw_only=True)
class RankedAP:
    """COCO mask AP of all detections, ranked by one score; in [0, 1], None where there is no ground truth."""

    AP: float | None
    AP50: float | None
    AP75: float | None


@dataclass(frozen=True, kw_only=True)
class QualityReport:
    """What `QualityMeter.compute` found.

    Attributes:
        num_images: images evaluated.
        num_detections: detections given, of any score.
        num_left_out: those with a class score above the limit that lie in crowd regions.
        min_class_score: limit of the class score, exclusive.
        has_mask_scores: the model estimates the IoU of its masks.
        populations: ``all`` and ``matched``.
        mask_ap: mask AP by ranking: ``class_score``, and ``product`` where the model has mask scores.

    """

    num_images: int
    num_detections: int
    num_left_out: int
    min_class_score: float
    has_mask_scores: bool
    populations: Mapping[Population, PopulationQuality]
    mask_ap: Mapping[Score, RankedAP]

    @property
    def score_names(self) -> list[str]:
        """Names of the scores that the model has, the columns of `rows`: class score, mask score, product."""
        return [name.replace("_", " ") for name in self.populations["all"].scores()]

    def rows(self, population: Population) -> list[tuple[str, list[float | None]]]:
        """(measure, one value per score in the order of `score_names`)."""
        scores = self.populations[population].scores().values()
        return [
            ("Spearman correlation", [score.spearman for score in scores]),
            ("mean absolute error", [score.mean_absolute_error for score in scores]),
            ("calibration error", [score.calibration_error for score in scores]),
        ]

    def ap_rows(self) -> list[tuple[str, list[float | None]]]:
        """(AP, AP50 or AP75, one value per ranking in the order of ``mask_ap``)."""
        return [(name, [getattr(ap, name) for ap in self.mask_ap.values()]) for name in ("AP", "AP50", "AP75")]

    def bin_rows(self, population: Population, score: Score) -> list[tuple[str, int, float | None, float | None]]:
        """(score range, detections, mean score, mean measured IoU) of the bins that are not empty."""
        judged = self.populations[population].scores().get(score)
        bins = () if judged is None else judged.bins
        return [(f"{b.lower:.1f}-{b.upper:.1f}", b.count, b.mean_score, b.mean_iou) for b in bins if b.count]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; a score that the model does not have is None."""
        return {
            "num_images": self.num_images,
            "num_detections": self.num_detections,
            "num_left_out": self.num_left_out,
            "min_class_score": self.min_class_score,
            "matched_iou": MATCHED_IOU,
            "has_mask_scores": self.has_mask_scores,
            **{
                name: {**asdict(one), **{score: _plain(getattr(one, score)) for score in SCORES}}
                for name, one in self.populations.items()
            },
            "mask_ap": {
                score: asdict(self.mask_ap[score]) if score in self.mask_ap else None
                for score in ("class_score", "product")
            },
        }


def spearman_correlation(first: ArrayLike, second: ArrayLike) -> float | None:
    """Spearman's rank correlation: Pearson's correlation of the ranks, where equal values share their average rank.

    Args:
        first: (N,) finite numbers.
        second: (N,) finite numbers.

    Returns:
        In [-1, 1]; None with fewer than two pairs, or if one side has only one value.

    Raises:
        ConfigError: the lengths differ.

    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape:
        raise ConfigError(f"expected two sequences of one length, got shapes {one.shape} and {other.shape}")
    if len(one) < 2:
        return None
    a, b = _centred_ranks(one), _centred_ranks(other)
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip((a @ b) / scale, -1.0, 1.0)) if scale > 0 else None


def _centred_ranks(values: Floats) -> Floats:
    """Average ranks (N,) less their mean, which is (N + 1) / 2 and exact, so that no variance comes from rounding."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    centred: Floats = ranks[inverse.reshape(-1)] - (len(values) + 1) / 2
    return centred


def judge_population(values: Mapping[str, Floats], ious: Floats, members: NDArray[np.bool_]) -> PopulationQuality:
    """Judge every score by some of the detections.

    Args:
        values: each score by name, (N,).
        ious: (N,) measured IoU.
        members: (N,) which detections count.

    """
    chosen = ious[members]
    judged = {name: judge_score(scores[members], chosen) for name, scores in values.items()}
    return PopulationQuality(
        count=len(chosen),
        mean_iou=float(chosen.mean()) if len(chosen) else None,
        class_score=judged["class_score"],
        mask_score=judged.get("mask_score"),
        product=judged.get("product"),
    )


def judge_score(scores: ArrayLike, ious: ArrayLike) -> ScoreQuality:
    """Correlation, error and calibration of one score.

    Args:
        scores: (N,) finite numbers, in [0, 1] if they mean anything as an IoU.
        ious: (N,) measured IoU in [0, 1].

    Raises:
        ConfigError: the lengths differ.

    """
    score, iou = np.asarray(scores, dtype=np.float64), np.asarray(ious, dtype=np.float64)
    spearman = spearman_correlation(score, iou)
    edges = np.arange(NUM_BINS + 1) / NUM_BINS
    bin_of = np.searchsorted(edges[1:-1], score, side="right")
    counts = np.bincount(bin_of, minlength=NUM_BINS)
    score_sums = np.bincount(bin_of, weights=score, minlength=NUM_BINS)
    iou_sums = np.bincount(bin_of, weights=iou, minlength=NUM_BINS)
    bins = tuple(
        ReliabilityBin(
            lower=float(edges[k]),
            upper=float(edges[k + 1]),
            count=int(counts[k]),
            mean_score=float(score_sums[k] / counts[k]) if counts[k] else None,
            mean_iou=float(iou_sums[k] / counts[k]) if counts[k] else None,
        )
        for k in range(NUM_BINS)
    )
    return ScoreQuality(
        spearman=spearman,
        mean_absolute_error=float(np.abs(score - iou).mean()) if len(score) else None,
        calibration_error=float(np.abs(score_sums - iou_sums).sum() / len(score)) if len(score) else None,
        bins=bins,
    )


def _plain(quality: ScoreQuality | None) -> dict[str, Any] | None:
    """JSON has no tuples: without this a report read back would differ from the one written."""
    return None if quality is None else {**asdict(quality), "bins": [asdict(one) for one in quality.bins]}
