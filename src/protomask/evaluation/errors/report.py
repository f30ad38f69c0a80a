"""What `protomask.evaluation.errors.measure` finds, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from protomask.evaluation.truth import Row

Grouping = Literal["by_size", "by_crowding", "by_class"]
"""What errors are grouped by, see `Tally`."""
GROUPINGS: dict[Grouping, str] = {"by_size": "size", "by_crowding": "crowding", "by_class": "class"}

SIZES = ("small", "medium", "large")
"""Sizes of objects by area, as in COCO: up to 32² px², up to 96², above."""
CROWDING = ("alone", "touching", "crowded")
"""Crowding of objects by the largest IoU of their box with another object's: none, below 0.2, 0.2 or more."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Detections or objects with one error, of the counted scores.

    Attributes:
        count: all of them.
        AP_cost: what they cost, see the report that this is part of.
        by_size: those of each of `SIZES`, by the object they are about, or the detection itself where there is none.
        by_crowding: those of each of `CROWDING`; detections without an object are in none.
        by_class: by class of the object, or of the detection where there is none.

    """

    count: int
    AP_cost: float
    by_size: Mapping[str, int]
    by_crowding: Mapping[str, int]
    by_class: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class TypeErrors:
    """The errors of boxes or of masks by type, see `protomask.evaluation.errors.tide`.

    Attributes:
        AP50: AP at an IoU of 0.5, that of COCO; None without any object.
        correct: detections of the counted scores that match an object.
        types: of each of `protomask.evaluation.errors.tide.TYPES`: ``AP_cost`` is that of AP50 and of detections of any
            score.
        false_positives_AP_cost: AP50 that all wrong detections cost.
        false_negatives_AP_cost: AP50 that all objects cost that are not matched.

    """

    AP50: float | None
    correct: int
    types: Mapping[str, Tally]
    false_positives_AP_cost: float
    false_negatives_AP_cost: float


@dataclass(frozen=True, kw_only=True)
class MaskFaults:
    """What is wrong with masks, see `protomask.evaluation.errors.mask_errors`.

    Attributes:
        AP: mask AP, mean over IoU 0.50 to 0.95; None without any object.
        AP75: mask AP at an IoU of 0.75.
        examined: masks of the counted scores that have an object.
        good: those without a fault.
        faults: of each of `protomask.evaluation.errors.mask_errors.FAULTS`; ``AP_cost`` is the mask AP gained if each
            mask with this fault were its object, or, of the pieces of one object, the best one and no other.
        mean_leakage: mean part of a mask outside of its object and not along its outline; None without any.
        mean_outside_box: mean part of a mask outside the box it was found in; None where boxes are not known.

    """

    AP: float | None
    AP75: float | None
    examined: int
    good: int
    faults: Mapping[str, Tally]
    mean_leakage: float | None
    mean_outside_box: float | None


@dataclass(frozen=True, kw_only=True)
class BoundaryAP:
    """AP by the lesser of mask IoU and boundary IoU, see `protomask.evaluation.errors.boundary`; None without objects.

    Attributes:
        AP: mean over IoU 0.50 to 0.95.
        AP50: at 0.5.
        AP75: at 0.75.

    """

    AP: float | None
    AP50: float | None
    AP75: float | None


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One detection or missed object of an image.

    Attributes:
        error: one of `protomask.evaluation.errors.tide.TYPES`; None where there is none.
        fault: of its mask, one of `protomask.evaluation.errors.mask_errors.FAULTS`; None where there is none.
        row: COCO record with ``category_id``, ``bbox`` and ``segmentation`` (None without masks), and ``score`` of a
            detection.

    """

    error: str | None
    fault: str | None
    row: Row

    @property
    def words(self) -> str:
        """Error and fault in words: both, one, or ``correct``."""
        return ", ".join(name for name in (self.error, self.fault) if name is not None) or "correct"


@dataclass(frozen=True, kw_only=True)
class ImageErrors:
    """An image with many errors.

    Attributes:
        image_id: id in the annotation file.
        file_name: of the image, as the annotation file has it.
        counts: errors of its masks (of boxes, where there are no masks) and faults, by name; only those that occur.
        marks: every detection of the counted scores, best first, and then the missed objects.

    """

    image_id: int
    file_name: str
    counts: Mapping[str, int]
    marks: tuple[Mark, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, without the marks."""
        return {"image_id": self.image_id, "file_name": self.file_name, "counts": dict(self.counts)}


@dataclass(frozen=True, kw_only=True)
class ErrorReport:
    """What `protomask.evaluation.errors.measure.measure_errors` finds.

    Attributes:
        num_images: images looked at.
        score_threshold: detections count above this score; costs take all of them.
        objects: objects of each size, crowding and class, crowds excluded: the keys of `Tally`.
        box: errors of boxes by type; None without boxes.
        mask: errors of masks by type; None without masks.
        faults: what is wrong with masks; None without masks.
        boundary: boundary AP; None without masks.
        worst: the images with the most errors, the worst first.

    """

    num_images: int
    score_threshold: float
    objects: Mapping[str, Mapping[str, int]]
    box: TypeErrors | None
    mask: TypeErrors | None
    faults: MaskFaults | None
    boundary: BoundaryAP | None
    worst: tuple[ImageErrors, ...]

    @property
    def types(self) -> dict[str, TypeErrors]:
        """The tables of types that exist, by name: ``box``, ``mask``."""
        named = {"box": self.box, "mask": self.mask}
        return {name: errors for name, errors in named.items() if errors is not None}

    def type_rows(self) -> list[tuple[str, list[int | float | None]]]:
        """(type, count and cost for each table in the order of `types`); the two special ones have no count."""
        tables = list(self.types.values())
        rows: list[tuple[str, list[int | float | None]]] = [
            (name, [value for table in tables for value in (table.types[name].count, table.types[name].AP_cost)])
            for name in tables[0].types
        ]
        for name in ("false_positives", "false_negatives"):
            costs = [getattr(table, f"{name}_AP_cost") for table in tables]
            rows.append((f"all {name.replace('_', ' ')}", [value for cost in costs for value in (None, cost)]))
        return rows

    def boundary_rows(self) -> list[tuple[str, float | None, float | None]]:
        """(name, mask AP, boundary AP); nothing without masks."""
        if self.boundary is None or self.faults is None or self.mask is None:
            return []
        masks = {"AP": self.faults.AP, "AP50": self.mask.AP50, "AP75": self.faults.AP75}
        return [(name, value, getattr(self.boundary, name)) for name, value in masks.items()]

    def tallies(self) -> dict[str, Mapping[str, Tally]]:
        """Types of errors of masks (of boxes, where there are no masks) and faults of masks, by ``types``, ``faults``.

        Each by the names of its tallies.
        """
        shown = self.mask or self.box
        assert shown is not None  # it was made of boxes or of masks
        return {"types": shown.types, **({} if self.faults is None else {"faults": self.faults.faults})}

    def breakdown(self, by: Grouping, of: str) -> tuple[list[str], list[tuple[str, list[int]]]]:
        """How many of the objects, and of each error, belong to each size, crowding or class.

        Args:
            by: what they are grouped by.
            of: ``types`` or ``faults``, a key of `tallies`.

        Returns:
            The errors, ``objects`` first, and (name of the group, counts).

        """
        tallies = self.tallies()[of]
        rows = [
            (name, [count, *(getattr(tally, by)[name] for tally in tallies.values())])
            for name, count in self.objects[by].items()
        ]
        return ["objects", *tallies], rows

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; what was not measured is None."""
        parts = {name: getattr(self, name) for name in ("box", "mask", "faults", "boundary")}
        return {
            "num_images": self.num_images,
            "score_threshold": self.score_threshold,
            "objects": {name: dict(counts) for name, counts in self.objects.items()},
            **{name: None if part is None else asdict(part) for name, part in parts.items()},
            "worst_images": [image.to_dict() for image in self.worst],
        }
