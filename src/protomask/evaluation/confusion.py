"""Which objects were found as what, and how well each image was done: a confusion matrix and one number per image.

**Matching.** Detections that score above a threshold are taken in the order of their scores. Each gets the object
that its mask overlaps most, of any class, among those not taken yet, if their IoU is at least a limit (0.5). What is
left of the detections matches the background, and so do the objects that are left. Detections that lie by half or more
of their area in crowd regions of their class, and match nothing, are left out.

**Quality of an image**: panoptic quality (Kirillov et al. 2019, https://arxiv.org/abs/1801.00868, section 4.1), summed
over the classes of one image: the sum of the IoU of the matches of the right class, divided by their number plus half
of the other detections plus half of the other objects. It is the F1 score times the mean IoU of the matches. A match of
the wrong class is a wrong detection and a missed object.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protomask.errors import ConfigError
from protomask.evaluation.quality import CROWD_SHARE
from protomask.evaluation.truth import GroundTruth, Row


@dataclass(frozen=True, kw_only=True)
class ImageScore:
    """How well one image was done.

    Attributes:
        image_id: id in the annotation file.
        objects: objects to be found, crowds not counted.
        detections: detections above the threshold, those left out not counted.
        matches: detections that match an object of their class.
        iou_sum: sum of the IoU of these matches.

    """

    image_id: int
    objects: int
    detections: int
    matches: int
    iou_sum: float

    @property
    def quality(self) -> float | None:
        """Panoptic quality in [0, 1]; None where there was nothing to find and nothing was found."""
        count = self.objects + self.detections
        return 2 * self.iou_sum / count if count else None


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """What `measure_confusion` found.

    Attributes:
        class_names: of the K classes, in the order of category ids.
        counts: (K + 1, K + 1) int64; rows are the truth, columns what was found, the last of each is the background:
            the last column holds missed objects, the last row detections where there is none. The corner is 0.
        images: every image that was looked at, in the order of ids.
        score_threshold: detections count above this score.
        iou_threshold: overlap from which a detection matches.

    """

    class_names: tuple[str, ...]
    counts: NDArray[np.int64]
    images: tuple[ImageScore, ...]
    score_threshold: float
    iou_threshold: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "class_names": [*self.class_names, "background"],
            "counts": self.counts.tolist(),
            "score_threshold": self.score_threshold,
            "iou_threshold": self.iou_threshold,
        }


def measure_confusion(
    truth: GroundTruth,
    rows: Sequence[Row],
    image_ids: Sequence[int],
    *,
    score_threshold: float = 0.3,
    iou_threshold: float = 0.5,
) -> Confusion:
    """Match detections with objects, image by image, on their run-length codes.

    Args:
        truth: annotations with masks.
        rows: COCO result rows with masks, in any order.
        image_ids: images to look at; rows and objects of others are left out.
        score_threshold: detections count above this score.
        iou_threshold: mask IoU from which a detection matches, above 0.

    Raises:
        ConfigError: ``iou_threshold`` is not in (0, 1].

    """
    if not 0 < iou_threshold <= 1:
        raise ConfigError(f"iou_threshold: expected a number above 0 and at most 1, got {iou_threshold}")
    categories = sorted(truth.category_names)
    row_of = {category: k for k, category in enumerate(categories)}
    counts = np.zeros((len(categories) + 1, len(categories) + 1), dtype=np.int64)
    objects: dict[int, list[Row]] = defaultdict(list)
    found: dict[int, list[Row]] = defaultdict(list)
    for annotation in truth.annotations:
        objects[annotation["image_id"]].append(annotation)
    for row in rows:
        if row["score"] > score_threshold:
            found[row["image_id"]].append(row)
    images = []
    for image_id in sorted(image_ids):
        pairs = _match(objects[image_id], found[image_id], iou_threshold)
        matches, iou_sum = 0, 0.0
        for true, said, iou in pairs:
            place = tuple(len(categories) if one is None else row_of[one] for one in (true, said))
            counts[place] += 1
            if true == said:
                matches += 1
                iou_sum += iou
        images.append(
            ImageScore(
                image_id=image_id,
                objects=sum(true is not None for true, _, _ in pairs),
                detections=sum(said is not None for _, said, _ in pairs),
                matches=matches,
                iou_sum=iou_sum,
            )
        )
    return Confusion(
        class_names=tuple(truth.category_names[category] for category in categories),
        counts=counts,
        images=tuple(images),
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
    )


def _match(
    annotations: Sequence[Row], rows: Sequence[Row], iou_threshold: float
) -> list[tuple[int | None, int | None, float]]:
    """(category of the object, category found, IoU) of every match; None stands for the background."""
    from pycocotools import mask as coco_mask

    rows = sorted(rows, key=lambda row: -row["score"])
    masks = [row["segmentation"] for row in rows]
    objects = [annotation for annotation in annotations if not annotation["iscrowd"]]
    free = np.zeros((len(rows), len(objects)))
    if rows and objects:
        free = np.array(coco_mask.iou(masks, [one["segmentation"] for one in objects], [0] * len(objects)))
    pairs: list[tuple[int | None, int | None, float]] = []
    missed = dict.fromkeys(range(len(objects)))
    for index, row in enumerate(rows):
        best = int(free[index].argmax()) if objects else -1
        if objects and free[index, best] >= iou_threshold:
            pairs.append((objects[best]["category_id"], row["category_id"], float(free[index, best])))
            free[:, best] = 0
            del missed[best]
            continue
        crowds = [
            one["segmentation"] for one in annotations if one["iscrowd"] and one["category_id"] == row["category_id"]
        ]
        if not crowds or coco_mask.iou([masks[index]], [coco_mask.merge(crowds)], [1])[0, 0] < CROWD_SHARE:
            pairs.append((None, row["category_id"], 0.0))
    return pairs + [(objects[index]["category_id"], None, 0.0) for index in missed]
