"""The images with the most errors, each drawn twice: with its objects, and with what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from protomask.data.coco.dataset import CocoDataset
from protomask.evaluation.errors.mask_errors import FAULTS
from protomask.evaluation.errors.report import ImageErrors, Mark
from protomask.evaluation.errors.tide import TYPES
from protomask.images.draw import draw_objects
from protomask.masks.rle import decode_rle
from protomask.masks.runs import Runs, mask_runs
from protomask.reports.overlays import draw_truth, load_scaled, save_overlays

_SIDE = 720
_COLORS: dict[str | None, int] = {
    None: 0,
    **{name: number for number, name in enumerate((*TYPES, *FAULTS[:-1]), start=1)},
    FAULTS[-1]: 1,  # there are twelve colours
}


@dataclass(frozen=True, kw_only=True)
class ErrorExample:
    """One image, drawn twice: files beside the page, both of one size (width, height).

    Attributes:
        name: name of the image.
        counts: errors by name.
        truth: file that shows the objects.
        found: file that shows the errors.
        size: of both, pixels.

    """

    name: str
    counts: Mapping[str, int]
    truth: str
    found: str
    size: tuple[int, int]


def draw_error_examples(images: Sequence[ImageErrors], dataset: CocoDataset, folder: Path) -> list[ErrorExample]:
    """Write two JPEG files for each image.

    Args:
        images: which, the worst first.
        dataset: holds them.
        folder: where the files go.

    Raises:
        ProtomaskError: an image cannot be read, or a file cannot be written.

    """
    examples = []
    for number, image_errors in enumerate(images, start=1):
        index = dataset.image_ids.index(image_errors.image_id)
        image = load_scaled(dataset, index, _SIDE)
        truth, _ = draw_truth(dataset, index, image)
        drawn = {"truth": truth, "found": draw_marks(image, image_errors.marks, dataset.image_size(index))}
        files = save_overlays(drawn, folder, f"errors_{number}")
        examples.append(
            ErrorExample(name=dataset.image_path(index).name, counts=image_errors.counts, size=image.size, **files)
        )
    return examples


def draw_marks(image: Image.Image, marks: Sequence[Mark], size: tuple[int, int]) -> Image.Image:
    """An image with its errors in colours by type, and their names; what is right has no name.

    Args:
        image: of any size.
        marks: the detections and the missed objects.
        size: (H, W) of the frame of the marks.

    """
    scale = np.array([image.width / size[1], image.height / size[0]] * 2, dtype=np.float32)
    pixels = np.asarray(image)
    right = [mark for mark in marks if mark.words == "correct"]
    wrong = [mark for mark in marks if mark.words != "correct"]
    for group, opacity in ((right, 0.15), (wrong, 0.45)):
        boxes = np.array([mark.row["bbox"] for mark in group], dtype=np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        has_masks = all(mark.row.get("segmentation") is not None for mark in group)
        pixels = draw_objects(
            pixels,
            boxes=boxes * scale,
            masks=[_scaled(mark, image.size) for mark in group] if has_masks else None,
            names=None if group is right else [mark.words for mark in group],
            color_ids=[_COLORS[mark.error or mark.fault] for mark in group],
            draw_boxes=not has_masks,
            opacity=opacity,
        )
    return Image.fromarray(pixels)


def _scaled(mark: Mark, size: tuple[int, int]) -> Runs:
    mask = Image.fromarray(decode_rle(mark.row["segmentation"])).resize(size, Image.Resampling.NEAREST)
    return mask_runs(np.array(mask))
