"""Synthetic scenes as a COCO data set on disk."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from protomask.data.synthetic.plan import check_scene
from protomask.data.synthetic.scene import GENERATOR_VERSION, VAL_INDEX_START, draw_scene, masks_and_boxes
from protomask.data.synthetic.shapes import CLASS_NAMES
from protomask.errors import ConfigError, DataError
from protomask.files import replacing

JPEG_QUALITY = 92

_DESCRIPTION = "Synthetic instance segmentation scenes"
_SETTINGS_FILE = "synthetic.json"


@dataclass(frozen=True, kw_only=True)
class SyntheticSummary:
    """Result of `write_dataset`: images and objects per split, and whether they were already there."""

    directory: Path
    train_images: int
    train_objects: int
    val_images: int
    val_objects: int
    reused: bool


@dataclass(frozen=True, kw_only=True)
class _Job:
    path: Path
    seed: int
    index: int
    image_size: tuple[int, int]


def write_dataset(
    directory: str | Path,
    *,
    images: int,
    seed: int,
    image_size: tuple[int, int] = (256, 256),
    val_images: int | float = 0,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
) -> SyntheticSummary:
    """Render a COCO data set: ``images/{train,val}/NNNNNN.jpg`` and ``annotations/{train,val}.json``.

    Masks are stored as compressed COCO RLE; image, annotation and category ids count from 1. Image number k of a split
    depends only on the seed, k, the split and the image size, never on how many images or workers there are.

    Args:
        directory: folder to make. A complete data set of the same settings is kept; an interrupted one is finished.
        images: training images, 0 or more.
        seed: 0 or more.
        image_size: (H, W) of every image.
        val_images: a whole number of validation images, or a fraction below 1 of ``images``, rendered in addition.
        workers: processes; 0 renders in this one. Workers are spawned, so a script needs its ``__main__`` guard.
        progress: called as ``progress(done, total)`` after each image.
        overwrite: write into a folder that is not empty, replacing a synthetic data set in it; other files stay, and
            none of them is written over.

    Raises:
        ConfigError: impossible settings.
        DataError: the folder has other content, and ``overwrite`` is off; or files that this did not make are in the
            way.

    """
    directory = Path(directory)
    check_scene(seed, 0, image_size)
    extra = round(images * val_images) if isinstance(val_images, float) and 0 < val_images < 1 else val_images
    if images < 0 or extra < 0 or extra != int(extra) or images + extra == 0:
        raise ConfigError(
            "images and val_images must be counts of 0 or more, not both 0 (val_images may be a fraction below 1), "
            f"got images {images}, val_images {val_images}"
        )
    if workers < 0:
        raise ConfigError(f"workers must be 0 or more, got {workers}")
    counts = {"train": images, "val": int(extra)}
    settings = {
        "generator": "protomask synthetic scenes",
        "version": GENERATOR_VERSION,
        "seed": seed,
        "image_size": list(image_size),
        "images": counts,
    }
    if _claim(directory, settings, overwrite=overwrite):
        objects = {split: _count_annotations(directory, split) for split in counts}
        return _summary(directory, counts, objects, reused=True)

    total, done = sum(counts.values()), 0

    def on_image() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    objects = {
        split: _write_split(directory, split, count, seed, image_size, workers, on_image) if count else 0
        for split, count in counts.items()
    }
    return _summary(directory, counts, objects, reused=False)


def _write_split(
    directory: Path,
    split: str,
    count: int,
    seed: int,
    image_size: tuple[int, int],
    workers: int,
    on_image: Callable[[], None],
) -> int:
    """Render a split, its annotations last; returns the number of objects."""
    folder = directory / "images" / split
    folder.mkdir(parents=True, exist_ok=True)
    start = 0 if split == "train" else VAL_INDEX_START
    jobs = [
        _Job(path=folder / f"{number + 1:06d}.jpg", seed=seed, index=start + number, image_size=image_size)
        for number in range(count)
    ]
    height, width = image_size
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (job, found) in enumerate(zip(jobs, _run(jobs, workers), strict=True), 1):
        images.append({"id": image_id, "file_name": job.path.name, "height": height, "width": width})
        for annotation in found:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
        on_image()
    content = {
        "info": {
            "description": f"{_DESCRIPTION}, {split} split",
            "version": str(GENERATOR_VERSION),
            "split": split,
            "seed": seed,
            "first_index": start,
        },
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": label + 1, "name": name, "supercategory": "shape"} for label, name in enumerate(CLASS_NAMES)
        ],
    }
    _write_json(directory / "annotations" / f"{split}.json", content)
    return len(annotations)


def _summary(directory: Path, counts: dict[str, int], objects: dict[str, int], *, reused: bool) -> SyntheticSummary:
    return SyntheticSummary(
        directory=directory,
        train_images=counts["train"],
        train_objects=objects["train"],
        val_images=counts["val"],
        val_objects=objects["val"],
        reused=reused,
    )


def _claim(directory: Path, settings: dict[str, Any], *, overwrite: bool) -> bool:
    """Make the folder ours to write. True if it already has this very data set, complete."""
    marker = directory / _SETTINGS_FILE
    if directory.exists() and not directory.is_dir():
        raise DataError(f"{directory}: expected a folder to write the data set to, got a file")
    if directory.is_dir() and any(directory.iterdir()):
        if not overwrite:
            if not _same_settings(marker, settings):
                raise DataError(
                    f"{directory}: expected an empty folder or a synthetic data set of the same settings, "
                    f"got a folder with other content; choose another folder or overwrite it on purpose"
                )
            if _is_complete(directory, settings["images"]):
                return True
        _remove_previous(directory, marker)
        if foreign := _in_the_way(directory, settings["images"]):
            raise DataError(
                f"{directory}: expected to replace only a synthetic data set, but {foreign} is not of one; "
                f"choose another folder"
            )
    directory.mkdir(parents=True, exist_ok=True)
    _write_json(marker, settings)
    return False


def _same_settings(marker: Path, settings: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(marker.read_text(encoding="utf-8")) == settings)
    except (OSError, ValueError):
        return False


def _is_complete(directory: Path, counts: dict[str, int]) -> bool:
    # Annotations are written last, after all images of their split.
    return all(
        (directory / "annotations" / f"{split}.json").is_file()
        and all((directory / "images" / split / f"{number + 1:06d}.jpg").is_file() for number in range(count))
        for split, count in counts.items()
        if count
    )


def _remove_previous(directory: Path, marker: Path) -> None:
    """Remove the data set whose settings lie in the folder, and nothing else."""
    try:
        counts = json.loads(marker.read_bytes())["images"]
        numbers = {split: int(counts[split]) for split in ("train", "val")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return
    for split, count in numbers.items():
        annotations = directory / "annotations" / f"{split}.json"
        if not _is_synthetic(annotations):
            continue  # nor are the images that it describes
        annotations.unlink(missing_ok=True)
        for image in (directory / "images" / split).glob("[0-9]" * 6 + ".jpg"):
            if 1 <= int(image.stem) <= count:
                image.unlink()


def _is_synthetic(annotations: Path) -> bool:
    """Whether an annotation file was written here, or is still to be written."""
    if not annotations.exists():
        return not annotations.is_symlink()
    try:
        return str(json.loads(annotations.read_bytes())["info"]["description"]).startswith(_DESCRIPTION)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _in_the_way(directory: Path, counts: dict[str, int]) -> Path | None:
    """A file that rendering would write over."""
    for split, count in counts.items():
        annotations = directory / "annotations" / f"{split}.json"
        if annotations.exists() or annotations.is_symlink():
            return annotations
        for image in sorted((directory / "images" / split).glob("[0-9]" * 6 + ".jpg")):
            if 1 <= int(image.stem) <= count:
                return image
    return None


def _count_annotations(directory: Path, split: str) -> int:
    path = directory / "annotations" / f"{split}.json"
    return len(json.loads(path.read_text(encoding="utf-8"))["annotations"]) if path.is_file() else 0


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with replacing(path, error=DataError) as file:
        file.write(json.dumps(content).encode())


def _run(jobs: Iterable[_Job], workers: int) -> Iterator[list[dict[str, Any]]]:
    """Annotations of each job's scene, in the order of the jobs."""
    if workers == 0:
        yield from map(_write_scene, jobs)
        return
    # Forking a process that has started threads (torch does) can hang; a spawned one cannot.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
        yield from pool.map(_write_scene, jobs, chunksize=16)


def _write_scene(job: _Job) -> list[dict[str, Any]]:
    """Render one scene to its JPEG file; returns its COCO annotations, still without ids."""
    from pycocotools import mask as coco_mask

    image, placed = draw_scene(job.seed, job.index, image_size=job.image_size)
    # Full chroma resolution: the colour edge of a small object is part of its truth.
    Image.fromarray(image).save(job.path, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    if not placed:
        return []
    masks, boxes = masks_and_boxes(placed, job.image_size)
    encoded = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    annotations: list[dict[str, Any]] = []
    for item, box, rle in zip(placed, boxes.tolist(), encoded, strict=True):
        left, top, right, bottom = box
        annotations.append(
            {
                "category_id": item.label + 1,
                "segmentation": {"size": list(job.image_size), "counts": rle["counts"].decode("ascii")},
                "area": int(item.visible.sum()),
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
            }
        )
    return annotations
