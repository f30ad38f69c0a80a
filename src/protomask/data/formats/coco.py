"""COCO instance JSON: the format of the project, see :mod:`protomask.data.coco`."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from protomask.data.coco.layout import Orientation, open_dataset
from protomask.data.coco.schema import DataWarning
from protomask.data.coco.segmentation import box_of_rle, encode_segmentation
from protomask.data.folders import split_name
from protomask.data.formats.records import (
    OF_BOX,
    DatasetRecord,
    ImageRecord,
    ImageWriter,
    ObjectRecord,
    Reading,
    Remarks,
    outline_of_box,
    read_header,
    rle_of,
)
from protomask.data.recognition import coco_files
from protomask.errors import DataError
from protomask.masks.rle import Rle, rle_area
from protomask.structures.coco_json import CocoFile, Fault, finite_number, shown
from protomask.structures.file_names import FileNames, name_flaw, with_slashes

if TYPE_CHECKING:
    from protomask.data.coco.dataset import CocoDataset

_MAX_FOLDERS = 1000  # that are searched for images


def read(source: Path, reading: Reading) -> DatasetRecord:
    """Read a COCO data set.

    Args:
        source: a folder or YAML as :func:`open_dataset` takes it, COCO's or Roboflow's folder, or one JSON.
        reading: its class names are not used, the file has them. Images are looked for around the annotation files.

    Raises:
        DataError: as :class:`CocoDataset`.

    """
    from protomask.data.coco.dataset import CocoDataset  # which brings PyTorch; other formats are read without it

    remarks = reading.remarks
    splits: dict[str, list[ImageRecord]] = {}
    first: CocoDataset | None = None
    categories: tuple[dict[str, Any], ...] = ()
    for split, file, folder, orientation in _parts(source, reading.image_dir):
        if reading.keep_boxes:
            file = _with_boxes(file, reading)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # they are in problems, too
            names = first.class_names if first else None
            faults: list[Fault] = []
            dataset = CocoDataset(file, folder, class_names=names, orientation=orientation, faults=faults)
        kept = _present(dataset, faults, reading)
        if first is None:
            first = dataset
            by_id = {category["id"]: category for category in file.content["categories"]}
            categories = tuple({**by_id[category_id], "id": category_id} for category_id in dataset.category_ids)
        for note in dataset.notes:
            remarks.add("categories left out", f"{file.path}: {note}")
        for name, found in dataset.respelled:
            remarks.add("file names spelled differently from the files", f"{file.path}: {shown(name)} is {found}")
        for problem in dataset.problems:
            remarks.add("annotations dropped or repaired", f"{file.path}: {problem}")
        for name, found in dataset.elsewhere:
            remarks.add("images in a different folder from the one listed", f"{file.path}: {shown(name)} is {found}")
        entries = {
            "images": {entry["id"]: entry for entry in file.content["images"]},
            "annotations": {entry["id"]: entry for entry in file.content["annotations"]},
        }
        splits.setdefault(split, []).extend(
            _read_image(dataset, index, entries, remarks) for index in reading.each(kept)
        )
    if first is None:
        raise DataError(f"{source}: expected annotations/*.json with images and annotations, found none")
    return DatasetRecord(class_names=first.class_names, splits=splits, categories=categories)


def _with_boxes(file: CocoFile, reading: Reading) -> CocoFile:
    """The file, with its box as the outline of each annotation that has a box and no segmentation."""
    content = file.content.get("annotations")
    if not isinstance(content, list):
        return file
    annotations = []
    for entry in content:
        kept = entry
        if isinstance(entry, dict) and not entry.get("segmentation") and _is_box(entry.get("bbox")):
            kept = {**entry, **OF_BOX, "segmentation": [outline_of_box(*entry["bbox"])]}
            reading.kept_box(f"{file.path}: annotation {shown(entry.get('id'))}")
        annotations.append(kept)
    return CocoFile(file.path, {**file.content, "annotations": annotations})


def _is_box(bbox: Any) -> bool:
    return isinstance(bbox, list) and len(bbox) == 4 and all(finite_number(value) is not None for value in bbox)


def _present(dataset: CocoDataset, faults: Sequence[Fault], reading: Reading) -> list[int]:
    """Indices of the images whose files are there.

    Raises:
        DataError: anything else is wrong, or missing images are not to be skipped.

    """
    for fault in faults:
        if fault.kind != "missing files":
            raise fault
    indices = list(range(len(dataset)))
    if not faults:
        return indices
    kept = [index for index in indices if dataset.image_path(index).is_file()]
    for index in sorted(set(indices) - set(kept)):
        if not reading.skip_missing:
            raise DataError(f"{faults[0]}; skip_missing leaves them out")
        reading.missing(dataset.annotation_file, f"image {dataset.image_ids[index]} ({dataset.image_path(index).name})")
    return kept


def _parts(source: Path, image_dir: Path | None) -> Iterator[tuple[str, CocoFile, Path, Orientation]]:
    """Splits with their annotations, the folders of their images and how these are turned, one after the other."""
    if source.suffix.lower() in (".yaml", ".yml"):
        paths = open_dataset(source, ())
        for split, part in paths.splits.items():
            file = CocoFile.read(part.annotations)
            yield (
                split,
                file if paths.classes is None else file.with_classes(paths.classes),
                part.images,
                paths.orientation,
            )
        return
    files = [(split_name(source.stem) or "train", source)] if source.is_file() else coco_files(source)
    for split, path in files:
        file = CocoFile.read(path)
        yield split, file, image_dir or _image_folder(file, split), "auto"


def _image_folder(annotations: CocoFile, split: str) -> Path:
    """Where the images of an annotation file usually are: the first place that has the file's first image."""
    file, images = annotations.path, annotations.content.get("images")
    name = images[0].get("file_name") if isinstance(images, list) and images and isinstance(images[0], dict) else None
    root = file.parent.parent if file.parent.name == "annotations" else file.parent
    year = file.stem.removeprefix("instances_")
    names = dict.fromkeys((file.stem, year, split))
    places = [root / "images" / one for one in names] + [root / one for one in names]
    places += [root / one for one in ("images", "data", "JPEGImages")] + [file.parent, root, root.parent / "images"]
    if not isinstance(name, str) or name_flaw(name) is not None:
        return next((place for place in places if place.is_dir()), file.parent)
    path = with_slashes(name)
    for place in places:
        if any((place / one).is_file() for one in (path, PurePosixPath(path).name)):
            return place
    # Another spelling, or a folder of another name: the one below the root that has the file.
    likely = [place for place in places if place.is_dir()]
    for folder, _, files in islice(os.walk(root), _MAX_FOLDERS):
        if FileNames(files).find(PurePosixPath(path).name) is not None:
            # Not that folder itself: other images may lie in folders beside it.
            return next(place for place in likely if Path(folder).is_relative_to(place))
    return likely[0]


def _read_image(dataset: CocoDataset, index: int, entries: dict[str, dict[int, Any]], remarks: Remarks) -> ImageRecord:
    image_id, size, path = dataset.image_ids[index], dataset.image_size(index), dataset.image_path(index)
    entry = entries["images"][image_id]
    header = read_header(path, f"{dataset.annotation_file}: image {image_id} ({path})")
    is_upright = size == header.upright_size and (size != header.size or dataset.orientation == "upright")
    name = str(entry["file_name"]).replace("\\", "/")
    if size != header.size and not is_upright:
        remarks.add("images that differ in size from the JSON, masks fitted to the file", path)
        kept, _ = dataset.encode_objects(index, header.size)
        objects = [
            ObjectRecord(
                label=item.annotation.label,
                segmentation=Rle(size=[*header.size], counts=item.rle["counts"].decode("ascii")),
                is_crowd=item.annotation.is_crowd,
            )
            for item in kept
        ]
        return ImageRecord(source=path, name=name, size=header.size, objects=objects, coco=entry)
    objects = []
    for annotation in dataset.load_annotations(index):
        where = f"{dataset.annotation_file}: image {image_id} annotation {annotation.annotation_id}"
        segmentation: Any = annotation.segmentation
        try:
            if isinstance(segmentation, dict):
                segmentation = encode_segmentation(segmentation, size)
                rle_area(segmentation)
            elif encode_segmentation(segmentation, size) is None:
                remarks.add(
                    "objects with an outline that is not finite or absurdly large, or endlessly long, left out", where
                )
                continue
        except (ValueError, TypeError, OverflowError) as error:
            raise DataError(f"{where}: segmentation cannot be decoded: {error}") from error
        objects.append(
            ObjectRecord(
                label=annotation.label,
                segmentation=segmentation,
                is_crowd=annotation.is_crowd,
                coco=entries["annotations"][annotation.annotation_id],
            )
        )
    return ImageRecord(source=path, name=name, size=size, objects=objects, is_upright=is_upright, coco=entry)


def write(dataset: DatasetRecord, folder: Path, images: ImageWriter, remarks: Remarks) -> None:
    """Write ``annotations/SPLIT.json`` and ``images/SPLIT/``.

    What a COCO source said beyond the objects stays: ids (where they are unique), boxes, areas and further keys.
    """
    every = [image for split in dataset.splits.values() for image in split]
    image_ids = _ids([image.coco.get("id") for image in every])
    annotation_ids = _ids([found.coco.get("id") for image in every for found in image.objects])
    categories = dataset.categories or tuple(
        {"id": label + 1, "name": name} for label, name in enumerate(dataset.class_names)
    )
    next_image, next_annotation = iter(image_ids), iter(annotation_ids)
    (folder / "annotations").mkdir()
    for split, records in dataset.splits.items():
        (folder / "images" / split).mkdir(parents=True)
        image_entries: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image in records:
            images.write(image, folder / "images" / split)
            image_id, (height, width) = next(next_image), image.size
            image_entries.append(
                {**image.coco, "id": image_id, "file_name": image.name, "width": width, "height": height}
            )
            for found in image.objects:
                own = {
                    **{key: value for key, value in found.coco.items() if value is not None},
                    **_measures(found, image),
                    "id": next(next_annotation),
                    "image_id": image_id,
                    "category_id": categories[found.label]["id"],
                    "segmentation": found.segmentation,
                    "iscrowd": int(found.is_crowd),
                }
                annotations.append(own)
        content = {"images": image_entries, "annotations": annotations, "categories": list(categories)}
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")


def _ids(own: Sequence[Any]) -> Sequence[int]:
    """The ids that the source had if every item has its own, else numbers from 1."""
    if all(type(item) is int for item in own) and len(set(own)) == len(own):
        return own
    return range(1, len(own) + 1)


def _measures(found: ObjectRecord, image: ImageRecord) -> dict[str, Any]:
    """Box and area of an object, where the file has none."""
    missing = [key for key in ("bbox", "area") if found.coco.get(key) is None]
    if not missing:
        return {}
    code = rle_of(found, image)
    x1, y1, x2, y2 = box_of_rle(code) or (0.0, 0.0, 0.0, 0.0)
    measured = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": rle_area(code)}
    return {key: measured[key] for key in missing}
