"""Data sets from one format to another: found, read, split, and written whole or not at all."""

from __future__ import annotations

import itertools
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from protomask.data.formats import coco, cvat, label_studio, labelme, masks, panoptic, supervisely, via, voc, yolo
from protomask.data.formats.records import (
    DatasetRecord,
    ImageWriter,
    Progress,
    Reader,
    Reading,
    Remarks,
    Writer,
    with_unique_names,
)
from protomask.data.formats.splitting import SPLIT_NAMES, split_dataset, split_shares
from protomask.data.recognition import recognise
from protomask.errors import ConfigError, DataError

READERS: dict[str, Reader] = {
    "coco": coco.read,
    "yolo": yolo.read,
    "labelme": labelme.read,
    "voc": voc.read,
    "via": via.read,
    "cvat": cvat.read,
    "label-studio": label_studio.read,
    "supervisely": supervisely.read,
    "panoptic": panoptic.read,
    "masks": masks.read,
}
WRITERS: dict[str, Writer] = {
    "coco": coco.write,
    "yolo": yolo.write,
    "labelme": labelme.write,
    "voc": voc.write,
    "masks": masks.write,
    "label-maps": masks.write_label_maps,
}
_WITH_BOXES = ("coco", "yolo")
# Formats with one annotation file, whose images may be anywhere.
_ONE_FILE = ("coco", "panoptic", "via", "cvat", "label-studio")


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What a conversion did.

    Attributes:
        output: the folder made.
        source_format: format of the source, and ``evidence`` what it was seen by.
        output_format: format written.
        class_names: class names in label order.
        images: how many by split.
        objects: how many the source has, by the same splits; those that the output lacks are in ``remarks``.
        remarks: what was lost or guessed, one line per kind with its count and the first place.

    """

    output: Path
    source_format: str
    evidence: str
    output_format: str
    class_names: tuple[str, ...]
    images: Mapping[str, int]
    objects: Mapping[str, int]
    remarks: tuple[str, ...]


def detect_format(source: str | Path) -> tuple[str, str]:
    """Format of a data set, and what shows it.

    Raises:
        DataError: nothing or more than one format fits.

    """
    source = Path(source)
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if source.is_file() and source.suffix.lower() == ".zip":
        raise DataError(f"{source}: expected a folder or an annotation file; unpack the archive and convert its folder")
    found = recognise(source)
    if len(found) > 1:
        seen = ", ".join(f"{name} ({evidence})" for name, evidence in found.items())
        raise DataError(f"{source}: more than one format fits: {seen}; say which it is")
    if not found:
        raise DataError(
            f"{source}: no format fits; expected COCO (annotations/*.json), YOLO (data.yaml, labels/*.txt), LabelMe (a "
            f"JSON beside each image), Pascal VOC (JPEGImages/, SegmentationObject/), VIA (JSON or CSV with regions), "
            f"CVAT (annotations.xml), Label Studio (a JSON of tasks), Supervisely (ann/ and img/), COCO panoptic or "
            f"masks (IMAGE/images/ and IMAGE/masks/, or images/ and masks/); export COCO from others"
        )
    ((name, evidence),) = found.items()
    return name, evidence


def convert_dataset(
    source: str | Path,
    output: str | Path,
    *,
    output_format: str,
    source_format: str = "auto",
    class_names: Sequence[str] | None = None,
    image_dir: str | Path | None = None,
    split: Sequence[float] = (),
    seed: int = 0,
    group_by: str | None = None,
    link_images: bool = False,
    skip_missing: bool = False,
    keep_boxes: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Write a data set in another format, or split it.

    The masks that our readers give are the same before and after, except where ``remarks`` of the result says what was
    lost. Image files are copied, with unique names.

    Args:
        source: folder or file, see the reader of its format.
        output: folder to make; it must not exist, and exists only once it is complete.
        output_format: one of ``WRITERS``.
        source_format: one of ``READERS``, or auto.
        class_names: names in label order, all that occur among them. Where the source has numbers only, their names.
        image_dir: folder of the images, where they are not around the one annotation file of all.
        split: shares of train, val (and test) over all images of the source, with the sum 1 or 100; () keeps its
            splits.
        seed: seed of the split.
        group_by: see :func:`split_dataset`.
        link_images: make hard links instead of copies.
        skip_missing: leave out images that are listed but missing, and count them, instead of failing.
        keep_boxes: keep objects that have a box and no outline: their masks are the boxes, and ``mask_source`` "box"
            says so to training. For sources in COCO or YOLO, written as COCO.
        progress: called as ``progress(done, total, what)`` after each image that is read or written.

    Raises:
        ConfigError: impossible settings, or an output that exists.
        DataError: the source is wrong; the message names file and line or key.
        MissingExtraError: the source needs a package that is not installed.

    """
    source, output = Path(source), Path(output)
    if source_format not in ("auto", *READERS):
        raise ConfigError(f"source_format: expected auto or one of {', '.join(READERS)}; got {source_format!r}")
    if output_format not in WRITERS:
        raise ConfigError(f"output_format: expected one of {', '.join(WRITERS)}; got {output_format!r}")
    if split:
        split = split_shares(split)
    elif group_by is not None:
        raise ConfigError("group_by: expected a split that it decides, got none")
    if output.exists():
        raise ConfigError(f"output: expected a folder that does not exist yet, got {output}")
    if source_format == "auto":
        source_format, evidence = detect_format(source)
    elif source.exists():
        evidence = "as said"
    else:
        raise DataError(f"{source}: no such file or folder")
    if source_format in ("labelme", "voc", "masks", "supervisely") and not source.is_dir():
        raise DataError(f"{source}: expected a folder of {source_format} data, got a file")
    if image_dir is not None and source_format not in _ONE_FILE:
        known = ", ".join(_ONE_FILE)
        raise ConfigError(f"image_dir: expected it with a source of {known} only, got one of {source_format}")

    if keep_boxes and (source_format not in _WITH_BOXES or output_format != "coco"):
        known = " or ".join(_WITH_BOXES)
        raise ConfigError(
            f"keep_boxes: expected a source of {known} and the output coco, got {source_format} and {output_format}"
        )
    reading = Reading(
        class_names=class_names,
        image_dir=None if image_dir is None else Path(image_dir),
        skip_missing=skip_missing,
        keep_boxes=keep_boxes,
        progress=progress or _no_progress,
    )
    remarks = reading.remarks
    dataset = READERS[source_format](source, reading)
    dataset = replace(dataset, splits={name: images for name, images in dataset.splits.items() if images})
    if not dataset.splits:
        raise DataError(f"{source}: expected images, found none")
    if class_names is not None:
        dataset = _with_class_names(dataset, class_names, source)
    if split:
        dataset = split_dataset(dataset, split, seed=seed, group_by=group_by)
    strange = sorted(set(dataset.splits) - set(SPLIT_NAMES))
    if strange and output_format != "coco":
        raise DataError(
            f"{source}: expected splits called train, val and test, got {', '.join(strange)}; rename the files, "
            f"convert one at a time, or split again"
        )
    _check_crowds(dataset, source, output_format, remarks)
    done = itertools.count(1)
    total = sum(map(len, dataset.splits.values()))
    writer = ImageWriter(
        link=link_images, remarks=remarks, written=lambda: reading.progress(next(done), total, "write")
    )
    _write(with_unique_names(dataset), output, WRITERS[output_format], writer, remarks)
    return Conversion(
        output=output,
        source_format=source_format,
        evidence=evidence,
        output_format=output_format,
        class_names=dataset.class_names,
        images={name: len(images) for name, images in dataset.splits.items()},
        objects={name: sum(len(image.objects) for image in images) for name, images in dataset.splits.items()},
        remarks=remarks.lines(),
    )


def _no_progress(done: int, total: int, what: str) -> None:
    pass


def _with_class_names(dataset: DatasetRecord, class_names: Sequence[str], source: Path) -> DatasetRecord:
    """The same objects with the labels that ``class_names`` gives their names."""
    names = tuple(class_names)
    unknown = [name for name in dataset.class_names if name not in names]
    if unknown or len(set(names)) != len(names):
        raise DataError(
            f"{source}: the class names do not match: given {', '.join(names)}, found {', '.join(dataset.class_names)}"
        )
    if names == dataset.class_names:
        return dataset
    label_of = [names.index(name) for name in dataset.class_names]
    splits = {
        split: [
            replace(image, objects=[replace(found, label=label_of[found.label]) for found in image.objects])
            for image in images
        ]
        for split, images in dataset.splits.items()
    }
    return DatasetRecord(class_names=names, splits=splits)


def _check_crowds(dataset: DatasetRecord, source: Path, output_format: str, remarks: Remarks) -> None:
    """Look at classes of which there are only crowd regions: labelling tools export brushed masks as such.

    Raises:
        DataError: the output has no crowd regions, so a whole class would be lost.

    """
    every = [found for images in dataset.splits.values() for image in images for found in image.objects]
    crowds = Counter(found.label for found in every if found.is_crowd)
    objects = {found.label for found in every if not found.is_crowd}
    for label, count in crowds.items():
        if label not in objects:
            name = dataset.class_names[label]
            if output_format not in ("coco", "voc"):
                raise DataError(
                    f"{source}: all {count} annotations of {name!r} are crowd regions (iscrowd 1), which "
                    f"{output_format} does not have; if they are objects, as masks painted with a brush are, set "
                    f"iscrowd to 0"
                )
            text = "crowd regions (iscrowd 1) of classes without any other object, from which nothing can be learned"
            remarks.add(text, f"{source}: {name}", count)


def _write(dataset: DatasetRecord, output: Path, write: Writer, images: ImageWriter, remarks: Remarks) -> None:
    # Beside the output: a rename within one file system is all or nothing.
    unfinished = output.with_name(f".{output.name}.{os.getpid()}.unfinished")
    try:
        unfinished.mkdir(parents=True)
        write(dataset, unfinished, images, remarks)
        unfinished.rename(output)
    except (OSError, UnicodeEncodeError) as error:
        raise DataError(f"{output}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
