from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from protomask.errors import ConfigError
from protomask.evaluation.confusion import Confusion, measure_confusion
from protomask.evaluation.truth import GroundTruth
from protomask.masks.rle import encode_rle

SIZE = 20


def square(x: int, y: int, width: int = 8, height: int = 8) -> dict[str, Any]:
    mask = np.zeros((1, SIZE, SIZE), dtype=np.bool_)
    mask[0, y : y + height, x : x + width] = True
    return dict(encode_rle(mask)[0])


def measure(
    objects: list[tuple[int, int, dict[str, Any]]], found: list[tuple[int, int, float, dict[str, Any]]], **options: Any
) -> Confusion:
    """Objects as (image id, category id, mask), a negative category for a crowd; detections with a score as well."""
    content = {
        "images": [{"id": image_id, "height": SIZE, "width": SIZE} for image_id in (1, 2)],
        "categories": [{"id": 5, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {"id": n, "image_id": i, "category_id": abs(c), "iscrowd": int(c < 0), "segmentation": rle}
            for n, (i, c, rle) in enumerate(objects)
        ],
    }
    rows = [{"image_id": i, "category_id": c, "score": s, "segmentation": rle} for i, c, s, rle in found]
    return measure_confusion(GroundTruth.load(content, masks=True), rows, [1, 2], **options)


LEFT, RIGHT, SHIFTED = square(0, 0), square(10, 10), square(1, 0)
DOG, CAT = 3, 5


@pytest.mark.parametrize(
    ("objects", "found", "counts"),
    [
        pytest.param([], [], [[0, 0, 0], [0, 0, 0], [0, 0, 0]], id="nothing"),
        pytest.param([(1, DOG, LEFT)], [(1, DOG, 0.9, SHIFTED)], [[1, 0, 0], [0, 0, 0], [0, 0, 0]], id="right"),
        pytest.param([(1, DOG, LEFT)], [(1, CAT, 0.9, LEFT)], [[0, 1, 0], [0, 0, 0], [0, 0, 0]], id="wrong class"),
        pytest.param([(1, CAT, LEFT)], [], [[0, 0, 0], [0, 0, 1], [0, 0, 0]], id="missed"),
        pytest.param([], [(2, CAT, 0.9, LEFT)], [[0, 0, 0], [0, 0, 0], [0, 1, 0]], id="nothing there"),
        pytest.param([(1, CAT, LEFT)], [(1, CAT, 0.3, LEFT)], [[0, 0, 0], [0, 0, 1], [0, 0, 0]], id="low score"),
        pytest.param([(1, DOG, LEFT)], [(1, DOG, 0.9, RIGHT)], [[0, 0, 1], [0, 0, 0], [1, 0, 0]], id="elsewhere"),
        pytest.param([(1, DOG, LEFT)], [(2, DOG, 0.9, LEFT)], [[0, 0, 1], [0, 0, 0], [1, 0, 0]], id="other image"),
        pytest.param(
            [(1, DOG, LEFT)],
            [(1, CAT, 0.6, LEFT), (1, DOG, 0.9, SHIFTED)],
            [[1, 0, 0], [0, 0, 0], [0, 1, 0]],
            id="the better score comes first",
        ),
        pytest.param([(1, -DOG, LEFT)], [(1, DOG, 0.9, LEFT)], [[0, 0, 0], [0, 0, 0], [0, 0, 0]], id="in a crowd"),
        pytest.param(
            [(1, -DOG, LEFT)], [(1, CAT, 0.9, LEFT)], [[0, 0, 0], [0, 0, 0], [0, 1, 0]], id="in a crowd of others"
        ),
    ],
)
def test_counts(objects: Any, found: Any, counts: list[list[int]]) -> None:
    confusion = measure(objects, found)
    assert confusion.class_names == ("dog", "cat")  # in the order of ids
    assert confusion.counts.tolist() == counts
    assert confusion.to_dict()["counts"] == counts


def test_every_object_and_detection_is_counted_once() -> None:
    generator = np.random.default_rng(0)
    objects = [(int(generator.integers(1, 3)), DOG if k % 2 else CAT, square(k, k)) for k in range(9)]
    found = [
        (int(generator.integers(1, 3)), DOG if k % 3 else CAT, float(generator.uniform(0.4, 1)), square(k, 9 - k))
        for k in range(9)
    ]
    confusion = measure(objects, found)
    assert confusion.counts[:-1].sum() == len(objects)
    assert confusion.counts[:, :-1].sum() == len(found)
    assert sum(image.objects for image in confusion.images) == len(objects)
    assert sum(image.detections for image in confusion.images) == len(found)


def test_quality_is_f1_times_the_mean_iou_of_the_matches() -> None:
    found = [(1, DOG, 0.9, SHIFTED), (1, CAT, 0.8, square(0, 12)), (1, DOG, 0.7, RIGHT)]
    image, other = measure([(1, DOG, LEFT), (1, CAT, RIGHT)], found).images
    iou = 56 / 72
    assert (image.objects, image.detections, image.matches) == (2, 3, 1)
    assert image.iou_sum == pytest.approx(iou)
    assert image.quality == pytest.approx(iou * 1 / (1 + 0.5 * 2 + 0.5 * 1))
    assert other.quality is None


def test_the_limits_are_what_is_asked_for() -> None:
    arguments: Any = ([(1, DOG, LEFT)], [(1, DOG, 0.2, SHIFTED)])
    assert measure(*arguments, score_threshold=0.1).counts[0, 0] == 1
    assert measure(*arguments, score_threshold=0.1, iou_threshold=0.8).counts[0, 0] == 0
    with pytest.raises(ConfigError, match="iou_threshold: expected a number above 0"):
        measure(*arguments, iou_threshold=0)
