"""Objects and detections by size, crowding and class, to count errors by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from protomask.evaluation.errors.matching import Bools, Floats, Ints, overlaps_of
from protomask.evaluation.errors.report import CROWDING, SIZES, Tally
from protomask.evaluation.match import AREAS, IouType
from protomask.evaluation.truth import Row

_CROWDED_IOU = 0.2


class GroupedObjects:
    """The size, crowding and class of every object and the size of every detection, in the order of images.

    Args:
        class_names: of the K classes.

    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._class_names = tuple(class_names)
        self._sizes: list[Ints] = [np.zeros(0, dtype=np.int64)]
        self._crowding: list[Ints] = [np.zeros(0, dtype=np.int64)]
        self._labels: list[Ints] = [np.zeros(0, dtype=np.int64)]
        self._detection_sizes: dict[IouType, list[Ints]] = {
            iou_type: [np.zeros(0, dtype=np.int64)] for iou_type in ("bbox", "segm")
        }

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self._class_names)

    def add_objects(self, objects: Sequence[Row], labels: Ints) -> None:
        """Take the objects of one image and their classes."""
        self._sizes.append(_sizes([one["area"] for one in objects]))
        self._crowding.append(_crowding(overlaps_of(objects, objects, "bbox")))
        self._labels.append(labels)

    def add_detections(self, iou_type: IouType, areas: Sequence[float]) -> None:
        """Take the areas of the detections of one image."""
        self._detection_sizes[iou_type].append(_sizes(areas))

    def objects(self) -> dict[str, dict[str, int]]:
        """Number of objects by size, crowding and class: the keys of a `Tally`."""
        every = self.tally_objects(np.ones(sum(map(len, self._sizes)), dtype=np.bool_), 0.0)
        return {name: dict(getattr(every, name)) for name in ("by_size", "by_crowding", "by_class")}

    def tally_objects(self, chosen: Bools, cost: float) -> Tally:
        """Count objects.

        Args:
            chosen: (G,) which of all objects.
            cost: AP that they cost.

        """
        sizes, crowding, labels = (np.concatenate(part) for part in (self._sizes, self._crowding, self._labels))
        return self._counted(sizes[chosen], crowding[chosen], labels[chosen], cost)

    def tally(self, iou_type: IouType, chosen: Bools, targets: Ints, labels: Ints, cost: float) -> Tally:
        """Count detections by the objects that they are about.

        Args:
            iou_type: of the detections.
            chosen: (D,) which of all detections.
            targets: (D,) object of each, -1 without any.
            labels: (D,) class of each.
            cost: AP that they cost.

        """
        target, own_label = targets[chosen], labels[chosen]
        own_size = np.concatenate(self._detection_sizes[iou_type])[chosen]
        sizes, crowding, classes = (
            np.append(np.concatenate(part), -1) for part in (self._sizes, self._crowding, self._labels)
        )
        has_object = target >= 0
        return self._counted(
            np.where(has_object, sizes[target], own_size),
            crowding[target[has_object]],
            np.where(has_object, classes[target], own_label),
            cost,
        )

    def _counted(self, sizes: Ints, crowding: Ints, labels: Ints, cost: float) -> Tally:
        return Tally(
            count=len(sizes),
            AP_cost=cost,
            by_size=_by_name(sizes, SIZES),
            by_crowding=_by_name(crowding, CROWDING),
            by_class=_by_name(labels, self._class_names),
        )


def _by_name(numbers: Ints, names: Sequence[str]) -> Mapping[str, int]:
    return dict(zip(names, np.bincount(numbers, minlength=len(names)).tolist(), strict=True))


def _sizes(areas: Sequence[float]) -> Ints:
    """(N,) index of `SIZES`."""
    ends = [AREAS[name][1] for name in SIZES[:-1]]
    return np.searchsorted(ends, np.array(areas, dtype=np.float64)).astype(np.int64)


def _crowding(ious: Floats) -> Ints:
    """(G,) index of `CROWDING` from the (G, G) IoU of boxes."""
    others = ious.copy()
    np.fill_diagonal(others, 0)
    most = others.max(axis=1, initial=0.0)
    crowding: Ints = (most > 0).astype(np.int64) + (most >= _CROWDED_IOU)
    return crowding
