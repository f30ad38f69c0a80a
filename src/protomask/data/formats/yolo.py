"""YOLO-seg: ``images/``, ``labels/*.txt`` with one outline per object and line in shares of the image, ``data.yaml``.

A coordinate is continuous, as in COCO: x times the width of the upright image is px, and the outline is rasterised as
COCO does. A line holds one outline; an object with holes or parts is written as one outline that goes to each ring and
back the same way. By the even-odd rule, which the COCO API and OpenCV's fillPoly follow, such bridges enclose nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from protomask.data.coco.layout import read_yaml
from protomask.data.coco.segmentation import encode_segmentation
from protomask.data.folders import is_inside, list_images, paired_folders, read_text
from protomask.data.formats.records import (
    OF_BOX,
    DatasetRecord,
    ImageRecord,
    ImageWriter,
    ObjectRecord,
    Reading,
    Remarks,
    outline_of_box,
    read_class_names,
    read_header,
    solid_objects,
)
from protomask.data.recognition import text_files, yolo_yaml
from protomask.errors import DataError
from protomask.masks.polygons import mask_to_polygons
from protomask.masks.rle import Rle, decode_rle
from protomask.masks.segmentations import join_rings
from protomask.structures.annotations import yolo_shares
from protomask.structures.coco_json import shown

_PIXEL_DIGITS = 3  # of px read: gives back what COCO files have, which is rarely more than two
_SHARE_RANGE = (-1.0, 2.0)  # an outline may leave the image a little; numbers beyond were not divided by its size


def read(source: Path, reading: Reading) -> DatasetRecord:
    """Read a YOLO-seg data set.

    An image without a label file has no objects. A label file without an image, and every line that is not a class and
    three points or more, is an error; so is a box, unless boxes are to be kept.

    Args:
        source: folder with ``data.yaml`` (or the file itself), or with ``images/`` and ``labels/``.
        reading: ``class_names`` by index are needed where neither ``data.yaml`` nor ``classes.txt`` has them.

    Raises:
        DataError: naming file and line.

    """
    file = yolo_yaml(source)
    if file is not None:
        names, folders = _read_yaml(file, reading.remarks)
        root = file.parent
    else:
        root = source
        found = read_class_names(source) or (tuple(reading.class_names) if reading.class_names else None)
        if found is None:
            raise DataError(f"{source}: no data.yaml or classes.txt names the classes: give the class names in order")
        names = found
        folders = {split: [images] for split, (images, _) in paired_folders(source, "images", "labels").items()}
    labels = _LabelFiles()
    splits = {split: _read_split(paths, names, root, labels, reading) for split, paths in folders.items()}
    if labels.missing:
        reading.remarks.add(
            "images without a label file taken as images without objects", labels.missing[0], len(labels.missing)
        )
    if not any(splits.values()):
        raise DataError(f"{source}: expected images in images/, found none")
    return DatasetRecord(class_names=names, splits=splits)


def _read_yaml(file: Path, remarks: Remarks) -> tuple[tuple[str, ...], dict[str, list[Path]]]:
    content: Any = read_yaml(file)
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{file}: names: expected a list of names, or names by index from 0; got {shown(names)}")
    if len(set(names)) != len(names):
        raise DataError(f"{file}: names: a class name occurs twice")
    folders = {}
    for split in ("train", "val", "test"):
        entry = content.get(split)
        if entry:
            entries = entry if isinstance(entry, list) else [entry]
            places = [_locate(file, content.get("path"), item) for item in entries]
            missing = [item for item, place in zip(entries, places, strict=True) if place is None]
            if missing and split == "train":
                raise DataError(f"{file}: {split}: {shown(missing[0])}: {_not_there(file, missing[0])}")
            for item in missing:
                remarks.add(f"{split} folders or lists that are not there left out", f"{file}: {shown(item)}")
            folders[split] = [place for place in places if place is not None]
    return tuple(names), folders


def _places(file: Path, base: Any, entry: str) -> list[Path]:
    """Where a folder or list may be that a data.yaml names; many name the place where their author had them."""
    root = file.parent
    starts = [root / base] if isinstance(base, str) else []
    choices = [*(start / entry for start in starts), root / entry, root / entry.removeprefix("../")]
    return [choice for choice in dict.fromkeys(choices) if is_inside(choice, root)]


def _locate(file: Path, base: Any, entry: Any) -> Path | None:
    """A folder or list of images of the data set; None if it is not there."""
    if not isinstance(entry, str):
        raise DataError(f"{file}: expected a folder or a list of images, got {shown(entry)}")
    try:
        return next((choice for choice in _places(file, base, entry) if choice.exists()), None)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: {shown(entry)}: {error}") from error


def _not_there(file: Path, entry: str) -> str:
    places = _places(file, None, entry)
    if not places:
        return f"it leads out of the data set {file.parent}"
    return f"expected it in the data set at one of {', '.join(map(str, places))}"


def _read_split(
    paths: Sequence[Path], names: Sequence[str], root: Path, labels: _LabelFiles, reading: Reading
) -> list[ImageRecord]:
    images: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = list_images(path)
            _find_orphans(path, found)
            images += found
        else:
            lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
            listed = [_listed(path, line, root, reading) for line in lines]
            images += [image for image in listed if image is not None]
    return [_read_image(image, names, root, labels, reading) for image in reading.each(images)]


def _listed(file: Path, line: str, root: Path, reading: Reading) -> Path | None:
    """The image that a line of a list names; only files of the data set are looked at."""
    try:
        choices = [place for place in (file.parent / line, root / line) if is_inside(place, root)]
        found = next((place for place in choices if place.exists()), None)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: {shown(line)}: {error}") from error
    if found is None:
        if not choices:
            raise DataError(f"{file}: {shown(line)}: it leads out of the data set {root}")
        reading.missing(f"{file}: {shown(line)}", "the image does not exist")
    return found


class _LabelFiles:
    """Finds the label files of images, whatever the case of their endings.

    Attributes:
        missing: images that have none.

    """

    def __init__(self) -> None:
        self.missing: list[Path] = []
        self._listings: dict[Path, dict[str, Path]] = {}

    def of(self, image: Path) -> Path | None:
        file = _label_file(image)
        if file.is_file():
            return file
        if file.parent not in self._listings:
            files = file.parent.iterdir() if file.parent.is_dir() else iter(())
            self._listings[file.parent] = {
                f"{path.stem}{path.suffix.lower()}": path for path in files if path.suffix.lower() == ".txt"
            }
        found = self._listings[file.parent].get(file.name)
        if found is None:
            self.missing.append(image)
        return found


def _label_file(image: Path) -> Path:
    """``labels`` in place of the last ``images`` of the path, ``.txt`` in place of the ending."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _find_orphans(folder: Path, images: Sequence[Path]) -> None:
    labels = _label_file(folder / "any").parent
    if labels == folder or not labels.is_dir():
        return
    known = {_label_file(image) for image in images}
    files = (file for file in sorted(text_files(labels)) if file.name.lower() != "classes.txt")
    orphans = [file for file in files if file.with_suffix(".txt") not in known]
    if orphans:
        raise DataError(f"{orphans[0]}: no image of this name in {folder} ({len(orphans)} label files have none)")


def _read_image(image: Path, names: Sequence[str], root: Path, labels: _LabelFiles, reading: Reading) -> ImageRecord:
    header = read_header(image, image)
    label_file = labels.of(image)
    objects = [] if label_file is None else list(_read_labels(label_file, names, header.upright_size, reading))
    name = image.relative_to(root).as_posix() if image.is_relative_to(root) else image.name
    return ImageRecord(source=image, name=name, size=header.upright_size, objects=objects, is_upright=True)


def _read_labels(file: Path, names: Sequence[str], size: tuple[int, int], reading: Reading) -> Iterator[ObjectRecord]:
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        where = f"{file}: line {number}"
        is_box = len(words) == 5
        if is_box and not reading.keep_boxes:
            raise DataError(
                f"{where}: this is a box (class x y w h), masks need outlines: class x1 y1 x2 y2 x3 y3 ...; "
                f"keep_boxes keeps boxes"
            )
        if not is_box and (len(words) < 7 or len(words) % 2 == 0):
            raise DataError(f"{where}: expected a class and 3 points or more, got {len(words)} numbers")
        try:
            index, shares = float(words[0]), np.array([float(word) for word in words[1:]])
        except ValueError as error:
            raise DataError(f"{where}: expected numbers, got {error.args[0].rpartition(': ')[2][:60]}") from error
        if not index.is_integer() or not 0 <= index < len(names):
            raise DataError(f"{where}: expected a class index from 0 to {len(names) - 1}, got {words[0][:60]}")
        outside = ~((shares >= _SHARE_RANGE[0]) & (shares <= _SHARE_RANGE[1]))
        if outside.any():
            wrong = words[1 + int(outside.argmax())]
            raise DataError(f"{where}: expected coordinates as shares of the image from 0 to 1, got {wrong[:60]}")
        pixels = shares.reshape(-1, 2) * (size[1], size[0])
        if is_box:
            centre, extent = pixels
            pixels = np.array(outline_of_box(*(centre - extent / 2), *extent))
            reading.kept_box(where)
        outline = pixels.round(_PIXEL_DIGITS).ravel().tolist()
        yield ObjectRecord(label=int(index), segmentation=[outline], coco=OF_BOX if is_box else {})


def write(dataset: DatasetRecord, folder: Path, images: ImageWriter, remarks: Remarks) -> None:
    """Write ``images/SPLIT/``, ``labels/SPLIT/`` and ``data.yaml``; crowds are left out."""
    import yaml

    for split, records in dataset.splits.items():
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for image in records:
            images.write(image, folder / "images" / split)
            lines = [
                f"{found.label} {_outline(found, code, image, remarks)}\n"
                for found, code in solid_objects(image, remarks, kind="YOLO")
            ]
            (folder / "labels" / split / f"{image.stem}.txt").write_text("".join(lines), encoding="utf-8")
    content = {split: f"images/{split}" for split in dataset.splits}
    names = dict(enumerate(dataset.class_names))
    (folder / "data.yaml").write_text(
        yaml.safe_dump({**content, "names": names}, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )


def _outline(found: ObjectRecord, code: Rle, image: ImageRecord, remarks: Remarks) -> str:
    """The numbers of a line whose mask, read back, is that of ``code``."""
    height, width = image.size
    segmentation: Any = found.segmentation
    if isinstance(segmentation, list) and len(segmentation) == 1 and len(segmentation[0]) % 2 == 0:
        # Trainers reject files with coordinates outside the image.
        text = yolo_shares(np.clip(np.reshape(segmentation[0], (-1, 2)), 0, (width, height)), image.size)
        again = np.reshape([float(word) for word in text.split()], (-1, 2)) * (width, height)
        if encode_segmentation([again.round(_PIXEL_DIGITS).ravel().tolist()], image.size) == code:
            return text
    parts = mask_to_polygons(decode_rle(code))
    rings = [ring for part in parts for ring in (part.exterior, *part.holes)]
    if len(rings) > 1:
        remarks.add("objects with holes or several parts written as one outline with bridges", image.name)
    return yolo_shares(join_rings(rings), image.size)
