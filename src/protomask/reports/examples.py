"""The images that a model does best and worst, each drawn twice: with its objects, and with what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protomask.data.coco.dataset import CocoDataset
from protomask.evaluation.confusion import Confusion, ImageScore
from protomask.reports.overlays import draw_found, draw_truth, load_scaled, save_overlays
from protomask.reports.page import Example

_COUNT, _SIDE = 6, 560


def choose_examples(confusion: Confusion) -> tuple[list[ImageScore], list[ImageScore]]:
    """The worst images, the lowest quality first, and the best, the highest first."""
    judged = [image for image in confusion.images if image.quality is not None]
    judged.sort(key=lambda image: (image.quality, -image.objects))
    count = min(_COUNT, (len(judged) + 1) // 2)
    return judged[:count], judged[::-1][:count]


def rows_of_images(
    images: Sequence[ImageScore], rows: Sequence[Mapping[str, Any]], score_threshold: float
) -> dict[int, list[Mapping[str, Any]]]:
    """COCO result rows that score above the threshold, by image id, of these images only."""
    found: dict[int, list[Mapping[str, Any]]] = {image.image_id: [] for image in images}
    for row in rows:
        if row["image_id"] in found and row["score"] > score_threshold:
            found[row["image_id"]].append(row)
    return found


def draw_examples(
    kind: str,
    images: Sequence[ImageScore],
    dataset: CocoDataset,
    rows: Mapping[int, Sequence[Mapping[str, Any]]],
    folder: Path,
) -> list[Example]:
    """Write two JPEG files for each image.

    Args:
        kind: how the names of the files start.
        images: which images.
        dataset: holds them.
        rows: what was found, as `rows_of_images` returns it.
        folder: where the files go.

    Raises:
        ProtomaskError: an image cannot be read, or a file cannot be written.

    """
    examples = []
    for number, score in enumerate(images, start=1):
        index = dataset.image_ids.index(score.image_id)
        image = load_scaled(dataset, index, _SIDE)
        truth, _ = draw_truth(dataset, index, image)
        drawn = {"truth": truth, "found": draw_found(dataset, image, rows[score.image_id])}
        files = save_overlays(drawn, folder, f"{kind}_{number}")
        examples.append(Example(name=dataset.image_path(index).name, score=score, size=image.size, **files))
    return examples
