"""The tables of an evaluation: the twelve COCO numbers and the AP of each category, for boxes and masks.

Definitions: https://cocodataset.org/#detection-eval. Averages go over IoU 0.50:0.05:0.95 unless the name says
otherwise; AP is read at the largest of ``max_detections``; sizes are areas in px²: small up to 32², medium up to 96²,
large above. A value is None if there is no ground truth that could have been found (COCO prints -1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protomask.evaluation.errors.report import ErrorReport
from protomask.evaluation.match import AREA_INDEX
from protomask.evaluation.truth import GroundTruth


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """One category of a table. ``AP`` and ``AP50`` in [0, 1], None if ``num_objects`` is 0 (crowds not counted)."""

    AP: float | None
    AP50: float | None
    num_objects: int


@dataclass(frozen=True, kw_only=True)
class CocoTable:
    """The twelve COCO numbers for boxes or for masks, each in [0, 1], or None without ground truth.

    Attributes:
        AR: average recall by limit of detections per image and category; the values by size use the largest limit.
        per_class: by category name, in the order of category ids, including categories without ground truth.
        precision: (10, 101, K) float64 at IoU 0.50:0.05:0.95, recall 0:0.01:1 and each category, all sizes, at the
            largest number of detections; -1 without ground truth.

    """

    AP: float | None
    AP50: float | None
    AP75: float | None
    AP_small: float | None
    AP_medium: float | None
    AP_large: float | None
    AR: Mapping[int, float | None]
    AR_small: float | None
    AR_medium: float | None
    AR_large: float | None
    per_class: Mapping[str, ClassMetrics]
    precision: NDArray[np.float64] = field(repr=False, compare=False)

    @property
    def AR_1(self) -> float | None:
        """Average recall with one detection per image and category; None also if 1 is not among the limits."""
        return self.AR.get(1)

    @property
    def AR_10(self) -> float | None:
        """Average recall with ten detections per image and category; None also if 10 is not among the limits."""
        return self.AR.get(10)

    @property
    def AR_max(self) -> float | None:
        """Average recall with the largest number of detections."""
        return self.AR[max(self.AR)]

    def precision_curve(self, iou: float) -> list[float]:
        """Precision in [0, 1] at recall 0, 0.01 .. 1, mean over the categories with ground truth; empty without any.

        Args:
            iou: one of 0.5, 0.55 .. 0.95.

        """
        curves = self.precision[round((iou - 0.5) / 0.05)]
        present = curves[:, (curves > -1).all(axis=0)]
        return present.mean(axis=1).tolist() if present.size else []

    def rows(self) -> list[tuple[str, float | None]]:
        """(name, value) in the order in which COCO prints them."""
        return [
            ("AP", self.AP),
            ("AP50", self.AP50),
            ("AP75", self.AP75),
            ("AP_small", self.AP_small),
            ("AP_medium", self.AP_medium),
            ("AP_large", self.AP_large),
            *((f"AR_{limit}", value) for limit, value in self.AR.items()),
            ("AR_small", self.AR_small),
            ("AR_medium", self.AR_medium),
            ("AR_large", self.AR_large),
        ]

    def to_dict(self) -> dict[str, Any]:
        """The values as plain JSON types: the names of `rows`, ``AR_max`` and ``per_class``."""
        classes = {
            name: {"AP": one.AP, "AP50": one.AP50, "num_objects": one.num_objects}
            for name, one in self.per_class.items()
        }
        return {**dict(self.rows()), "AR_max": self.AR_max, "per_class": classes}


@dataclass(frozen=True, kw_only=True)
class CocoMetrics:
    """The box and mask tables of one evaluation; a table that was not asked for is None.

    Attributes:
        max_detections: the limits of detections per image and category, ascending; AP is read at the last.
        num_images: number of images evaluated, including those without detections.
        errors: what goes wrong, and what it costs; None where it was not asked for.

    """

    box: CocoTable | None
    mask: CocoTable | None
    max_detections: tuple[int, ...]
    num_images: int
    errors: ErrorReport | None = field(default=None, repr=False)

    @property
    def tables(self) -> dict[str, CocoTable]:
        """The tables that exist, by name: ``box``, ``mask``."""
        named = {"box": self.box, "mask": self.mask}
        return {name: table for name, table in named.items() if table is not None}

    def rows(self) -> list[tuple[str, list[float | None]]]:
        """(name, one value per table in the order of `tables`)."""
        columns = [table.rows() for table in self.tables.values()]
        return [(cells[0][0], [value for _, value in cells]) for cells in zip(*columns, strict=True)]

    def class_rows(self) -> list[tuple[str, int, list[float | None]]]:
        """(category name, ground-truth objects, AP and AP50 of each table in the order of `tables`)."""
        columns = [table.per_class for table in self.tables.values()]
        rows = []
        for name, first in columns[0].items():
            values = [value for column in columns for value in (column[name].AP, column[name].AP50)]
            rows.append((name, first.num_objects, values))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The values as plain JSON types; ``errors`` where they were asked for."""
        tables = {name: table.to_dict() for name, table in self.tables.items()}
        errors = {} if self.errors is None else {"errors": self.errors.to_dict()}
        return {"num_images": self.num_images, "max_detections": list(self.max_detections), **tables, **errors}

    def as_text(self) -> str:
        """Both tables and the categories as aligned plain text; ``-`` without ground truth."""
        summary = [["", *self.tables], *([name, *map(_cell, values)] for name, values in self.rows())]
        class_header = ["class", "objects", *(f"{table} {value}" for table in self.tables for value in ("AP", "AP50"))]
        classes = [
            class_header,
            *([name, str(count), *map(_cell, values)] for name, count, values in self.class_rows()),
        ]
        return f"{_align(summary)}\n\n{_align(classes)}\n"


def build_table(
    precision: np.ndarray,
    recall: np.ndarray,
    truth: GroundTruth,
    num_objects: Sequence[int],
    limits: tuple[int, ...],
) -> CocoTable:
    """Reduce the arrays of `protomask.evaluation.match.match_results` to a table.

    Args:
        precision: (10, 101, K, 4, L), -1 where there is no ground truth.
        recall: (10, K, 4, L), likewise.
        truth: names the K categories.
        num_objects: (K,) objects of each category, crowds not counted.
        limits: the L limits of detections per image and category, ascending.

    """

    def ap(iou: slice = slice(None), area: str = "all", category: slice = slice(None)) -> float | None:
        return _mean(precision[iou, :, category, AREA_INDEX[area], -1])

    def ar(limit: int = -1, area: str = "all") -> float | None:
        return _mean(recall[:, :, AREA_INDEX[area], limit])

    iou50, iou75 = slice(0, 1), slice(5, 6)
    per_class = {}
    for k, category_id in enumerate(sorted(truth.category_names)):
        one = slice(k, k + 1)
        per_class[truth.category_names[category_id]] = ClassMetrics(
            AP=ap(category=one), AP50=ap(iou50, category=one), num_objects=num_objects[k]
        )
    return CocoTable(
        AP=ap(),
        AP50=ap(iou50),
        AP75=ap(iou75),
        AP_small=ap(area="small"),
        AP_medium=ap(area="medium"),
        AP_large=ap(area="large"),
        AR={limit: ar(m) for m, limit in enumerate(limits)},
        AR_small=ar(area="small"),
        AR_medium=ar(area="medium"),
        AR_large=ar(area="large"),
        per_class=per_class,
        precision=precision[:, :, :, AREA_INDEX["all"], -1],
    )


def _mean(values: np.ndarray) -> float | None:
    present = values[values > -1]
    return float(np.mean(present)) if present.size else None


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)
