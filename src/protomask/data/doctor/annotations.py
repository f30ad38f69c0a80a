"""Check of the annotations of a split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from protomask.data.coco.dataset import EncodedObject
from protomask.data.coco.schema import AnnotationProblem, wxh
from protomask.data.doctor.split import Split
from protomask.errors import DataError
from protomask.masks.rle import rle_to_runs
from protomask.masks.runs import runs_to_window
from protomask.structures.coco_json import Fault, few

_OVERHANG = 1.0  # px of an outline outside the image that rounding explains
_SAME_OBJECT_IOU = 0.95
_MAX_COMPARED = 3000  # objects of an image that are compared with each other
_WHOLE_IMAGE = 0.95  # share of the image from which a mask is taken for its background
_MANY_CROWDS = 0.2
_CROWD_REMEDY = "if they are objects, as masks painted with a brush are, set iscrowd to 0"
_NUMBERS = re.compile(r"\[[^\]]*\]|\d[\d.x]*")


def check_annotations(split: Split, advance: Callable[[], None]) -> None:
    """Decode, check and count the annotations; ``advance`` is called after those of each image."""
    dataset, inventory = split.dataset, split.inventory
    for problem in dataset.problems:
        _add_repair(split, problem)
    for note in dataset.notes:
        split.findings.add("note", "category without objects", "", note)
    for name, file in dataset.respelled:
        split.findings.add("note", "file name spelled differently", name, f"the file is {file}")
    for name, file in dataset.elsewhere:
        split.findings.add("note", "file in another folder", name, f"the file is {file} in {dataset.image_dir}")
    crowds_of: Counter[int] = Counter()
    for index in range(len(dataset)):
        if index % split.decode_every == 0:
            faults: list[Fault] = []
            kept, problems = dataset.encode_objects(index, dataset.image_size(index), faults)
            for problem in problems:
                _add_repair(split, problem)
            for fault in faults:
                split.findings.add_fault(fault)
            _check_objects(split, index, kept)
            annotations = [item.annotation for item in kept]
        else:
            annotations = dataset.load_annotations(index)
        labels = [annotation.label for annotation in annotations if not annotation.is_crowd]
        inventory.objects_of_class.update(labels)
        inventory.images_of_class.update(set(labels))
        inventory.per_image.append(len(labels))
        inventory.crowds += len(annotations) - len(labels)
        crowds_of.update(annotation.label for annotation in annotations if annotation.is_crowd)
        advance()
    _check_crowds(split, crowds_of)
    if not split.whole:
        return
    if any(inventory.per_image):
        for index in np.flatnonzero(np.array(inventory.per_image) == 0).tolist():
            split.findings.add("note", "image without objects", split.place(index), "no object in it")
        return
    kind, text = ("no object", "no object in any image") if len(dataset) else ("no image", "it lists no image")
    if inventory.crowds:
        text += f": all {inventory.crowds} annotations are crowd regions (iscrowd 1); {_CROWD_REMEDY}"
    if split.findings.split == "train":
        split.findings.add("error", kind, "", f"{text}, so there is nothing to learn")
    else:
        split.findings.add("warning", kind, "", f"{text}, so AP cannot be measured")


def _check_crowds(split: Split, crowds_of: Counter[int]) -> None:
    """Warn of crowd regions that look like objects: labelling tools export painted masks this way."""
    inventory, dataset = split.inventory, split.dataset
    total = inventory.crowds + sum(inventory.per_image)
    objects = sum(inventory.per_image)
    lost = [dataset.class_names[label] for label in sorted(crowds_of) if not inventory.objects_of_class[label]]
    if not objects or (inventory.crowds < _MANY_CROWDS * total and not lost):
        return
    text = f"{inventory.crowds} of {total} annotations are crowd regions (iscrowd 1), from which nothing is learned"
    if lost:
        text += f"; {few([repr(name) for name in lost])}: nothing but crowd regions, so no such object can be learned"
    split.findings.add("warning", "crowds", "", f"{text}; {_CROWD_REMEDY}")


def _add_repair(split: Split, problem: AnnotationProblem) -> None:
    place = f"image {problem.image_id} annotation {problem.annotation_id}"
    split.findings.add("warning", _NUMBERS.sub("#", problem.message), place, problem.message)


def _check_objects(split: Split, index: int, kept: list[EncodedObject]) -> None:
    """Check outlines, shapes and repetitions of the objects of one image."""
    from pycocotools import mask as mask_codec

    dataset, inventory, add = split.dataset, split.inventory, split.findings.add
    size = height, width = dataset.image_size(index)
    for item in kept:
        annotation = item.annotation
        place = f"image {dataset.image_ids[index]} annotation {annotation.annotation_id}"
        if isinstance(annotation.segmentation, list):
            euler = len(annotation.segmentation)
            if _overhang(annotation.segmentation, size) > _OVERHANG:
                text = f"the outline reaches outside the image of {wxh(size)} px and is cut off there"
                add("warning", "outline outside the image", place, text)
        else:
            try:
                euler = _euler_number(item)
            except DataError as error:
                add("error", "segmentation", place, f"segmentation cannot be decoded: {error}")
                continue
        if annotation.is_crowd:
            add("note", "crowd", place, "crowd region: it excuses detections, and nothing is learned from it")
            continue
        if euler > 1:
            add("note", "parts", place, "mask of several separate parts")
        elif euler < 1:
            add("note", "holes", place, "mask with holes")
        if mask_codec.area(item.rle) >= _WHOLE_IMAGE * height * width:
            add("note", "whole image", place, "the mask covers the whole image: is it the background?")
        inventory.boxes.append(item.box)
        inventory.image_sizes.append(size)
        inventory.places.append(place)
    objects = [item for item in kept if not item.annotation.is_crowd]
    if len(objects) > _MAX_COMPARED:
        return
    rles = [item.rle for item in objects]
    iou = np.triu(mask_codec.iou(rles, rles, [0] * len(rles)), k=1) if len(rles) > 1 else np.zeros((0, 0))
    for first, second in np.argwhere(iou >= _SAME_OBJECT_IOU).tolist():
        one, other = objects[first].annotation, objects[second].annotation
        place = f"image {dataset.image_ids[index]} annotations {one.annotation_id} and {other.annotation_id}"
        if one.label == other.label:
            add("warning", "object twice", place, "the same object twice")
        else:
            names = " and ".join(dataset.class_names[label] for label in (one.label, other.label))
            add("warning", "object of two classes", place, f"the same mask with two classes, {names}")


def _overhang(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> float:
    """Distance that the outline reaches outside the image, px."""
    height, width = size
    return max(
        max(-min(part[0::2]), -min(part[1::2]), max(part[0::2]) - width, max(part[1::2]) - height) for part in polygons
    )


def _euler_number(item: EncodedObject) -> int:
    """Parts of the mask less its holes (Gray 1971): 1 for a plain shape. Pixels that share a corner belong together.

    Raises:
        DataError: the run-length code is damaged.

    """
    runs, (height, _) = rle_to_runs(item.rle)
    mask = np.pad(runs_to_window(runs, height).mask.astype(np.uint8), 1)
    # The four pixels about each corner of the pixel grid: how many belong to the mask, and are two of them diagonal?
    left_upper, right_lower = mask[:-1, :-1], mask[1:, 1:]
    filled = left_upper + mask[:-1, 1:] + mask[1:, :-1] + right_lower
    counts = np.bincount(filled.ravel(), minlength=4)
    diagonal = np.count_nonzero((filled == 2) & (left_upper == right_lower))
    return int(counts[1] - counts[3] - 2 * diagonal) // 4
