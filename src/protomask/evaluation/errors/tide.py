"""The six types of errors of TIDE and the AP that each costs (Bolya et al. 2020, https://arxiv.org/abs/2008.08115).

**Types** (section 2.2). A detection that matches no object of its class at an IoU of 0.5 is one of these; where several
fit, the first:

- *localisation*: it overlaps an object of its class by 0.1 to 0.5;
- *classification*: it overlaps an object of another class by 0.5 or more;
- *duplicate*: it overlaps an object of its class by 0.5 or more, which a better detection has taken;
- *background*: it overlaps every object by 0.1 or less;
- *both*: it overlaps only objects of other classes, by 0.1 to 0.5.

An object that no detection matches is *missed*, unless a localisation or classification error is about it. The order is
that of the authors' evaluation; the paper leaves it open.

**Costs** (section 2.3) are differences of AP at an IoU of 0.5, each after the repair of one type: errors of class or
place become right, at most one for each object that is not yet found, and the others go; duplicates, background and
both go; missed objects are not counted. The costs do not add up to the missing AP: each repair leaves the other errors.
Two more repairs, *false positives* (every wrong detection ranks below every right one) and *false negatives* (only
found objects count), overlap with the six.

Detections in crowd regions match nothing and are not errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protomask.evaluation.errors.matching import (
    Bools,
    Floats,
    ImageOverlaps,
    Ints,
    average_precision,
    match_detections,
    outcomes,
)

TYPES = ("classification", "localisation", "both", "duplicate", "background", "missed")
"""Types of errors, in the order of the paper."""
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(TYPES))
CORRECT, IGNORED = -1, -2
"""Codes beside the indices of `TYPES`: a detection that matches, and one in a crowd region."""
FOREGROUND, BACKGROUND_IOU = 0.5, 0.1
"""IoU from which a detection matches, and up to which it shows background."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The detections of one image, or of many.

    Attributes:
        scores: (D,).
        labels: (D,) class, 0..K-1.
        kinds: (D,) int8, an index of `TYPES`, `CORRECT` or `IGNORED`.
        targets: (D,) object that a detection matches, or the one that its error is about; -1 without any.
        object_labels: (G,) class of each object.

    """

    scores: Floats
    labels: Ints
    kinds: NDArray[np.int8]
    targets: Ints
    object_labels: Ints

    def missed(self, counted: Bools | None = None) -> Bools:
        """(G,) which objects are missed.

        Args:
            counted: (D,) the detections that count, such as those above a score; all of them by default.

        """
        about = np.isin(self.kinds, (CORRECT, LOCALISATION, CLASSIFICATION))
        if counted is not None:
            about &= counted
        found = np.zeros(len(self.object_labels), dtype=np.bool_)
        found[self.targets[about]] = True
        return ~found

    @classmethod
    def cat(cls, parts: Sequence[Judged]) -> Judged:
        """Those of many images, one after another; objects are numbered on."""
        starts = np.cumsum([0, *(len(part.object_labels) for part in parts)])
        targets = [np.where(part.targets >= 0, part.targets + at, -1) for part, at in zip(parts, starts, strict=False)]

        def column(name: str, dtype: type) -> NDArray[np.generic]:
            return np.concatenate([np.zeros(0, dtype=dtype), *(getattr(part, name) for part in parts)])

        return cls(
            scores=column("scores", np.float64).astype(np.float64),
            labels=column("labels", np.int64).astype(np.int64),
            kinds=column("kinds", np.int8).astype(np.int8),
            targets=np.concatenate([np.zeros(0, dtype=np.int64), *targets]),
            object_labels=column("object_labels", np.int64).astype(np.int64),
        )


def judge_image(overlaps: ImageOverlaps, labels: dict[int, int]) -> Judged:
    """Say of each detection of an image whether it is right, or what is wrong with it.

    Args:
        overlaps: of the image.
        labels: number of each class, by category id.

    """
    ours, others = overlaps.class_ious, np.where(overlaps.same, 0.0, overlaps.ious)
    threshold = np.array([FOREGROUND])
    matches = match_detections(ours, threshold)
    results = outcomes(matches, overlaps.in_crowd, threshold)[0]
    best, best_other = ours.max(axis=1, initial=0.0), others.max(axis=1, initial=0.0)
    misplaced = (best >= BACKGROUND_IOU) & (best < FOREGROUND)
    misnamed = best_other >= FOREGROUND
    kinds = np.select(
        [results > 0, results < 0, misplaced, misnamed, best >= FOREGROUND, best_other <= BACKGROUND_IOU],
        [CORRECT, IGNORED, LOCALISATION, CLASSIFICATION, DUPLICATE, BACKGROUND],
        BOTH,
    ).astype(np.int8)
    targets = np.full(len(kinds), -1, dtype=np.int64)
    if len(overlaps.objects):
        by_other = np.isin(kinds, (CLASSIFICATION, BOTH))
        targets = np.where(by_other, others.argmax(axis=1), ours.argmax(axis=1))
        targets = np.where(kinds == CORRECT, matches[0], targets)
        targets[np.isin(kinds, (BACKGROUND, IGNORED))] = -1
    return Judged(
        scores=overlaps.scores,
        labels=np.array([labels[row["category_id"]] for row in overlaps.rows], dtype=np.int64),
        kinds=kinds,
        targets=targets,
        object_labels=np.array([labels[one["category_id"]] for one in overlaps.objects], dtype=np.int64),
    )


@dataclass(frozen=True, kw_only=True)
class Costs:
    """AP at an IoU of 0.5, and what it would gain.

    Attributes:
        AP50: in [0, 1], that of COCO; None without any object, and then nothing costs anything.
        types: AP that each of `TYPES` costs, by name, 0 or more.
        false_positives: AP that all wrong detections cost.
        false_negatives: AP that all objects cost that are not matched.

    """

    AP50: float | None
    types: dict[str, float]
    false_positives: float
    false_negatives: float


def measure_costs(judged: Judged, num_classes: int) -> Costs:
    """Repair each type of error in turn and measure AP again.

    Args:
        judged: the whole data set, images in the order of ids.
        num_classes: K.

    """
    counts = np.bincount(judged.object_labels, minlength=num_classes)
    hits = judged.kinds == CORRECT
    counted = judged.kinds != IGNORED
    present = counts > 0

    def precision(scores: Floats, labels: Ints, hits: Bools, counted: Bools, objects: Ints) -> float:
        values = []
        for label in np.flatnonzero(present).tolist():
            members = (labels == label) & counted
            value = average_precision(scores[members], hits[members], int(objects[label]))
            # A class of which nothing is left to be found is right if nothing is found.
            values.append(float(not members.any()) if value is None else value)
        return float(np.mean(values))

    if not present.any():
        return Costs(AP50=None, types=dict.fromkeys(TYPES, 0.0), false_positives=0.0, false_negatives=0.0)
    before = precision(judged.scores, judged.labels, hits, counted, counts)
    types = {}
    for kind, name in enumerate(TYPES[:MISSED]):
        wrong = judged.kinds == kind
        right = _repaired(judged, kind) if kind in (CLASSIFICATION, LOCALISATION) else np.zeros_like(wrong)
        labels = judged.labels.copy()
        labels[right] = judged.object_labels[judged.targets[right]]
        types[name] = precision(judged.scores, labels, hits | right, counted & (~wrong | right), counts)
    missed = np.bincount(judged.object_labels[judged.missed()], minlength=num_classes)
    types["missed"] = precision(judged.scores, judged.labels, hits, counted, counts - missed)
    ranked = precision(hits.astype(np.float64), judged.labels, hits, counted, counts)
    found = np.bincount(judged.labels[hits], minlength=num_classes)
    complete = precision(judged.scores, judged.labels, hits, counted, found)
    return Costs(
        AP50=before,
        types={name: max(0.0, types[name] - before) for name in TYPES},
        false_positives=max(0.0, ranked - before),
        false_negatives=max(0.0, complete - before),
    )


def _repaired(judged: Judged, kind: int) -> Bools:
    """(D,) the best error of a type about each object that is not found."""
    taken = np.zeros(len(judged.object_labels), dtype=np.bool_)
    taken[judged.targets[judged.kinds == CORRECT]] = True
    right = np.zeros(len(judged.kinds), dtype=np.bool_)
    members = np.flatnonzero(judged.kinds == kind)
    for index in members[np.argsort(-judged.scores[members], kind="stable")].tolist():
        target = judged.targets[index]
        right[index] = not taken[target]
        taken[target] = True
    return right
