"""Pascal VOC and SBD: ``JPEGImages/``, and PNGs of class numbers and of object numbers, with 255 as void.

Void pixels, the border that VOC draws around objects, belong to no object. Pixels are pixels: no outline is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protomask.data.folders import list_images, read_text, split_name
from protomask.data.formats.records import (
    DatasetRecord,
    ImageRecord,
    ImageWriter,
    ObjectRecord,
    Reading,
    Remarks,
    paint_numbers,
    read_class_names,
    read_header,
    read_index_map,
    rle_of,
    segmentations_of_numbers,
    solid_objects,
    write_class_names,
)
from protomask.detection.nms import pairwise_iou
from protomask.errors import DataError, MissingExtraError
from protomask.masks.rle import Rle, decode_rle, rle_area
from protomask.masks.runs import boxes_of_masks

VOC_CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_VOID = 255
_MIN_BOX_IOU = 0.5


def palette() -> NDArray[np.uint8]:
    """Colours (256, 3) of the numbers: bits 0, 1, 2 of a number are the highest bits of red, green, blue, and so on."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (numbers >> channel & 1) << (7 - bit)
        numbers >>= 3
    return colours.astype(np.uint8)


def read(source: Path, reading: Reading) -> DatasetRecord:
    """Read Pascal VOC or SBD.

    The class of an object is the commonest number that ``SegmentationClass`` has on its pixels; where that has none,
    the name in ``Annotations/*.xml`` whose box fits best. Names are in ``classes.txt``, given, or VOC's twenty.

    Args:
        source: folder with ``JPEGImages/`` and ``SegmentationObject/``, or of SBD with ``img/`` and ``inst/``. Splits
            are the lists in ``ImageSets/Segmentation/``, SBD's ``train.txt`` and ``val.txt``, else all is ``train``.
        reading: ``class_names`` are those of the numbers from 1.

    Raises:
        DataError: naming the file.
        MissingExtraError: SBD's files need SciPy.

    """
    names = read_class_names(source) or tuple(reading.class_names or VOC_CLASS_NAMES)
    root = source / "dataset" if (source / "dataset" / "inst").is_dir() else source
    if (root / "inst").is_dir():
        stems, images = _stems(root, root / "inst", ".mat"), _images(root / "img")
        load, masks = _load_sbd, root / "inst"
    else:
        masks = root / "SegmentationObject"
        if not masks.is_dir():
            raise DataError(f"{masks}: no such folder; classes and boxes alone do not say which pixels an object has")
        stems, images = _stems(root / "ImageSets" / "Segmentation", masks, ".png"), _images(root / "JPEGImages")
        load = _load_voc
        listed = {stem for split in stems.values() for stem in split}
        for stem, image in images.items():
            if stem not in listed:
                reading.remarks.add("images without masks, or in no list of ImageSets/Segmentation, left out", image)
    splits: dict[str, list[ImageRecord]] = {}
    for split, found in stems.items():
        splits[split] = []
        for stem in reading.each(found):
            if stem in images:
                splits[split].append(load(root, stem, images[stem], names, reading.remarks))
            else:
                reading.missing(f"{masks}: {stem}", "the image of these masks does not exist")
    return DatasetRecord(class_names=names, splits=splits)


def _images(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: expected the images there, but there is no such folder")
    return {path.stem: path for path in list_images(folder)}


def _stems(lists: Path, masks: Path, ending: str) -> dict[str, list[str]]:
    """Names of images by split; ``trainval`` only where nothing else is."""
    files = {file.stem: file for file in sorted(lists.glob("*.txt"))}
    chosen = {stem: file for stem, file in files.items() if stem in ("train", "val", "test")}
    if not chosen and "trainval" in files:
        chosen = {"trainval": files["trainval"]}
    if not chosen:
        return {"train": sorted(path.stem for path in masks.glob(f"*{ending}"))}
    return {str(split_name(stem)): read_text(file).split() for stem, file in chosen.items()}


def _load_voc(root: Path, stem: str, image: Path, names: Sequence[str], remarks: Remarks) -> ImageRecord:
    colours = palette()
    file = root / "SegmentationObject" / f"{stem}.png"
    header = read_header(image, image)
    numbers = read_index_map(file, colours, image=image, sizes=(header.size, header.upright_size))
    if (numbers == _VOID).any():
        remarks.add("images with void pixels, which belong to no object", file)
    class_file = root / "SegmentationClass" / f"{stem}.png"
    classes = np.zeros_like(numbers)
    if class_file.is_file():
        size = (numbers.shape[0], numbers.shape[1])
        classes = read_index_map(class_file, colours, image=file, sizes=(size,))
    boxes = _read_boxes(root / "Annotations" / f"{stem}.xml")
    objects = []
    for number, pixels, segmentation in segmentations_of_numbers(numbers, without=(0, _VOID)):
        votes = classes.ravel()[pixels]
        found, counts = np.unique(votes[(votes != 0) & (votes != _VOID)], return_counts=True)
        if len(found):
            label = int(found[counts.argmax()]) - 1
            if not 0 <= label < len(names):
                raise DataError(
                    f"{class_file}: object {number} has class {label + 1}, there are {len(names)} class names"
                )
        else:
            rows, columns = np.divmod(pixels, numbers.shape[1])
            box = [float(side) for side in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
            label = _label_of_box(box, boxes, names, f"{file}: object {number}")
        objects.append(ObjectRecord(label=label, segmentation=segmentation))
    return _record(image, numbers.shape, objects, file)


def _record(image: Path, size: tuple[int, ...], objects: Sequence[ObjectRecord], file: Path) -> ImageRecord:
    header = read_header(image, image)
    if size not in (header.size, header.upright_size):
        raise DataError(f"{file}: {size[1]}x{size[0]} px, its image {image} is {header.size[1]}x{header.size[0]} px")
    return ImageRecord(
        source=image, name=image.name, size=(size[0], size[1]), objects=objects, is_upright=size != header.size
    )


def _read_boxes(file: Path) -> list[tuple[str, list[float]]]:
    """Name and box (xyxy, px) of each object; VOC counts pixels from 1 and the last one in."""
    if not file.is_file():
        return []
    try:
        found = []
        for entry in ElementTree.parse(file).getroot().iter("object"):
            sides = [float(entry.findtext(f"bndbox/{side}") or "nan") for side in ("xmin", "ymin", "xmax", "ymax")]
            found.append((entry.findtext("name") or "", [sides[0] - 1, sides[1] - 1, sides[2], sides[3]]))
    except (ElementTree.ParseError, OSError, ValueError, LookupError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read as VOC annotation: {error}") from error
    return found


def _label_of_box(
    own: Sequence[float], boxes: Sequence[tuple[str, list[float]]], names: Sequence[str], where: str
) -> int:
    if boxes:
        overlaps = np.nan_to_num(
            pairwise_iou(np.array([own], dtype=np.float32), np.array([box for _, box in boxes], dtype=np.float32))[0]
        )
        best = int(overlaps.argmax())
        if overlaps[best] >= _MIN_BOX_IOU:
            name = boxes[best][0]
            if name not in names:
                raise DataError(f"{where}: its box is of class {name!r}, the class names are {', '.join(names)}")
            return names.index(name)
    raise DataError(f"{where}: no class: SegmentationClass has none on its pixels, and no box in Annotations fits")


def _load_sbd(root: Path, stem: str, image: Path, names: Sequence[str], remarks: Remarks) -> ImageRecord:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingExtraError("the .mat files of SBD need SciPy: pip install 'protomask[sbd]'") from error
    file = root / "inst" / f"{stem}.mat"
    try:
        truth: Any = loadmat(str(file), squeeze_me=True, struct_as_record=False)["GTinst"]
        numbers, categories = np.asarray(truth.Segmentation), np.atleast_1d(truth.Categories)
    except Exception as error:
        # What a damaged file makes SciPy raise is not documented.
        raise DataError(f"{file}: expected GTinst with Segmentation and Categories: {error}") from error
    objects = []
    for number, _, segmentation in segmentations_of_numbers(numbers.astype(np.int64)):
        if number > len(categories) or not 1 <= categories[number - 1] <= len(names):
            raise DataError(f"{file}: object {number}: expected a category from 1 to {len(names)}")
        objects.append(ObjectRecord(label=int(categories[number - 1]) - 1, segmentation=segmentation))
    return _record(image, numbers.shape, objects, file)


def write(dataset: DatasetRecord, folder: Path, images: ImageWriter, remarks: Remarks) -> None:
    """Write a VOC folder, with ``classes.txt`` for the names.

    Crowds become void. Where objects overlap the smaller one is seen. There are at most 254 objects in an image: the
    smallest are left out beyond.
    """
    if len(dataset.class_names) >= _VOID:
        raise DataError(f"Pascal VOC: expected at most {_VOID - 1} classes, got {len(dataset.class_names)}")
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    for split, records in dataset.splits.items():
        for image in records:
            path = images.write(image, folder / "JPEGImages")
            if path.suffix.lower() not in (".jpg", ".jpeg"):
                remarks.add("images are not .jpg, which other readers of VOC expect", image.name)
            _write_image(dataset, image, folder, remarks)
        names = "".join(f"{image.stem}\n" for image in records)
        (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(names, encoding="utf-8")
    write_class_names(folder, dataset.class_names)


def _write_image(dataset: DatasetRecord, image: ImageRecord, folder: Path, remarks: Remarks) -> None:
    crowds = [found for found in image.objects if found.is_crowd]
    kept = solid_objects(image, Remarks(), kind="VOC")
    empty = len(image.objects) - len(crowds) - len(kept)
    if crowds:
        remarks.add("crowd regions written as void, without their class", image.name, len(crowds))
    if empty:
        remarks.add("objects that cover no pixel left out", image.name, empty)
    if len(kept) >= _VOID:
        by_area = sorted(range(len(kept)), key=lambda index: -rle_area(kept[index][1]))
        remarks.add(f"objects left out, VOC has {_VOID - 1} per image: the smallest", image.name, len(kept) - _VOID + 1)
        kept = [kept[index] for index in sorted(by_area[: _VOID - 1])]
    numbers = paint_numbers([code for _, code in kept], image, remarks)
    label_of = np.array([0, *(found.label + 1 for found, _ in kept)])
    classes = label_of[numbers]
    for crowd in crowds:
        void = decode_rle(rle_of(crowd, image)) & (numbers == 0)
        classes[void] = _VOID
        numbers[void] = _VOID
    for name, values in (("SegmentationClass", classes), ("SegmentationObject", numbers)):
        picture = Image.fromarray(values.astype(np.uint8))
        picture.putpalette(palette().tobytes())
        picture.save(folder / name / f"{image.stem}.png")
    entry = _annotation(dataset, image, kept)
    ElementTree.indent(entry)
    ElementTree.ElementTree(entry).write(folder / "Annotations" / f"{image.stem}.xml", encoding="utf-8")


def _annotation(
    dataset: DatasetRecord, image: ImageRecord, kept: Sequence[tuple[ObjectRecord, Rle]]
) -> ElementTree.Element:
    root = ElementTree.Element("annotation")

    def add(parent: ElementTree.Element, name: str, text: object) -> None:
        ElementTree.SubElement(parent, name).text = str(text)

    add(root, "folder", "VOC")
    add(root, "filename", image.name)
    size = ElementTree.SubElement(root, "size")
    for name, side in zip(("width", "height", "depth"), (image.size[1], image.size[0], 3), strict=True):
        add(size, name, side)
    add(root, "segmented", int(bool(kept)))
    for found, code in kept:
        entry = ElementTree.SubElement(root, "object")
        add(entry, "name", dataset.class_names[found.label])
        for name, value in (("pose", "Unspecified"), ("truncated", 0), ("difficult", 0)):
            add(entry, name, value)
        left, top, right, bottom = boxes_of_masks(decode_rle(code)[None])[0].astype(int).tolist()
        box = ElementTree.SubElement(entry, "bndbox")
        for name, value in (("xmin", left + 1), ("ymin", top + 1), ("xmax", right), ("ymax", bottom)):
            add(box, name, value)
    return root
