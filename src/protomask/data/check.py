"""What is wrong or odd in a data set, all of it at once, before a training finds the first of it."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from protomask.data.coco import (
    AnnotationProblem,
    CocoDataset,
    DatasetPaths,
    EncodedObject,
    Fault,
    box_of_rle,
    decode_masks,
    open_dataset,
    same_aspect,
    wxh,
)
from protomask.data.network_fit import AnchorFit, NetworkInput, fit_anchors, network_boxes
from protomask.data.similar_images import Fingerprint, fingerprint, similar_pairs
from protomask.errors import DataError

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""An error stops a training or makes it learn something wrong; a warning should be looked at; a note may be meant."""

_NAMED = 4  # places that a message names
_QUICK_IMAGES, _QUICK_ANNOTATIONS = 64, 2000  # of each split; a second or two
_OVERHANG = 1.0  # px of an outline outside the image that rounding explains
_SAME_OBJECT_IOU = 0.95
_WHOLE_IMAGE = 0.95  # share of the image from which a mask is taken for its background
_TINY_SIDE = 4  # network px: one cell of the prototypes, or of the finest level of a Mask R-CNN
_WORTH_A_SUGGESTION, _WORTH_A_WARNING = 0.02, 0.05  # of recall
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_NUMBERS = re.compile(r"\[[^\]]*\]|\d[\d.x]*")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One kind of trouble.

    Attributes:
        severity: see `SEVERITIES`.
        kind: short name, the same whatever the data set.
        split: "train" or "val"; None where it is about both, or about neither.
        message: one line for people: file, the first place, what is wrong there, how often it occurs, further places.
        places: everything concerned.

    """

    severity: Severity
    kind: str
    split: str | None
    message: str
    places: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SplitSummary:
    """What a split holds, as far as it can be used.

    Attributes:
        annotation_file: COCO JSON.
        image_dir: folder.
        images: number of images listed.
        images_without_objects: how many of them have no object; crowds do not count as objects.
        objects: number of objects.
        crowds: number of crowd regions.
        most_objects: in one image.
        objects_of_class: number for each class, in label order.
        images_of_class: number of images with such objects.

    """

    annotation_file: str
    image_dir: str
    images: int
    images_without_objects: int
    objects: int
    crowds: int
    most_objects: int
    objects_of_class: dict[str, int]
    images_of_class: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class NetworkFit:
    """How the training objects look to a network.

    Attributes:
        name: of the network, with its input size.
        side_quantiles: square root of the area of the boxes, network pixels, by share of the objects that are smaller.
        anchors: how well its anchors fit.

    """

    name: str
    side_quantiles: dict[str, float]
    anchors: AnchorFit


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What `check_dataset` found.

    Attributes:
        dataset: as given.
        splits: by name, those that could be read.
        problems: errors first, then warnings, then notes.
        network: see `with_network`.

    """

    dataset: str
    splits: dict[str, SplitSummary]
    problems: tuple[Problem, ...]
    network: NetworkFit | None = None
    _objects: Mapping[str, _Objects] = field(default_factory=dict, repr=False)

    def of(self, severity: Severity) -> list[Problem]:
        """The problems of one severity."""
        return [problem for problem in self.problems if problem.severity == severity]

    def raise_errors(self) -> None:
        """Raise: DataError if there are errors; the message has them all."""
        errors = [problem.message for problem in self.of("error")]
        if errors:
            more = f"\n`protomask data check {self.dataset}` tells all about it"
            head = f"{self.dataset}: {len(errors)} errors\n" if len(errors) > 1 else ""
            raise DataError(head + "\n".join(errors) + more)

    def with_network(self, network: NetworkInput) -> CheckReport:
        """The same report with what can be said only of the size at which a network sees the objects."""
        objects = self._objects.get("train")
        if objects is None or not len(objects.boxes):
            return self
        boxes = network_boxes(objects.boxes, objects.image_sizes, network)
        sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1).sqrt()
        if not (sides > 0).any():
            return self
        findings = _Findings("train", self.splits["train"].annotation_file)
        tiny = (sides < _TINY_SIDE).nonzero()[:, 0].tolist()
        severity: Severity = "warning" if len(tiny) > 0.05 * len(sides) else "note"
        text = f"box smaller than {_TINY_SIDE}x{_TINY_SIDE} px in the input of {network.name}; image_size enlarges it"
        for index in tiny:
            findings.add(severity, "tiny object", objects.places[index], text)
        for place, count in objects.per_image:
            if count > network.max_detections:
                text = (
                    f"{count} objects, but {network.name} finds at most {network.max_detections}: raise max_detections "
                    "among the model_options, and max_detections itself for validation"
                )
                findings.add("warning", "more objects than detections", place, text)
        anchors = fit_anchors(boxes, network)
        gain = (anchors.suggested_recall or 0.0) - anchors.recall
        if gain >= _WORTH_A_SUGGESTION:
            text = (
                f"{anchors.recall:.1%} of the objects have an anchor of IoU {anchors.positive_iou:g} or more in "
                f"{network.name}; {anchors.suggested_recall:.1%} with model_options '{anchors.suggested_options}'"
            )
            findings.add("warning" if gain >= _WORTH_A_WARNING else "note", "anchors", "", text)
        quantiles = torch.quantile(sides[:: len(sides) // 1_000_000 + 1], torch.tensor(_QUANTILES)).tolist()
        fit = NetworkFit(
            name=network.name,
            side_quantiles={f"{share:.0%}": value for share, value in zip(_QUANTILES, quantiles, strict=True)},
            anchors=anchors,
        )
        return replace(self, problems=_sorted([*self.problems, *findings.problems()]), network=fit)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with all places."""
        return {
            "dataset": self.dataset,
            "splits": {name: asdict(split) for name, split in self.splits.items()},
            "network": None if self.network is None else asdict(self.network),
            "problems": [asdict(problem) for problem in self.problems],
        }


class _Objects(NamedTuple):
    """The usable objects of a split, crowds left out."""

    boxes: Tensor  # (N, 4) xyxy px
    image_sizes: Tensor  # (N, 2) H, W
    places: list[str]
    per_image: list[tuple[str, int]]


def check_dataset(
    path: str | Path,
    *,
    splits: Sequence[str] = ("train", "val"),
    quick: bool = False,
    progress: Progress | None = None,
) -> CheckReport:
    """Look for everything that makes a data set unusable, or less useful than it seems.

    Nothing that is wrong with the data raises; it becomes a `Problem`.

    Args:
        path: as for `protomask.data.coco.open_dataset`.
        splits: which to look at.
        quick: decode only some images and some annotations, taken evenly, so that it takes seconds whatever the size.
        progress: told (images done, of all).

    """
    dataset = str(path)
    try:
        paths = open_dataset(path)
    except DataError as error:
        found = Problem(severity="error", kind="dataset", split=None, message=str(error), places=())
        return CheckReport(dataset=dataset, splits={}, problems=(found,))
    findings = {name: _Findings(name, str(getattr(paths, f"{name}_annotations"))) for name in splits}
    opened = {name: _Split.open(paths, name, found, quick=quick) for name, found in findings.items()}
    readable = {name: split for name, split in opened.items() if split is not None}
    total, before = sum(len(split.seen_images) for split in readable.values()), 0
    for split in readable.values():
        split.check_annotations()
        split.check_images(partial(_progress_after, progress or _told_nobody, before, total))
        before += len(split.seen_images)
    between = _Findings(None, dataset)
    if {"train", "val"} <= readable.keys():
        train, val = readable["train"], readable["val"]
        if train.whole and val.whole and len(train.dataset) and len(val.dataset):
            _check_unnamed_files([train, val])
            _check_classes(train, val, between)
        _check_leakage(train, val, between)
    return CheckReport(
        dataset=dataset,
        splits={name: split.summary() for name, split in readable.items()},
        problems=_sorted([problem for found in (*findings.values(), between) for problem in found.problems()]),
        _objects={name: split.objects() for name, split in readable.items()},
    )


def _told_nobody(done: int, total: int) -> None:
    pass


def _progress_after(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


class _Findings:
    """Gathers what is found, and makes one `Problem` of each kind."""

    def __init__(self, split: str | None, file: str) -> None:
        self.split = split
        self.file = file
        self._found: dict[tuple[Severity, str], list[tuple[str, str]]] = defaultdict(list)
        self._complete: list[Problem] = []

    def add(self, severity: Severity, kind: str, place: str, text: str) -> None:
        self._found[severity, kind].append((place, text))

    def add_fault(self, fault: Fault) -> None:
        if fault.items:
            self._complete.append(
                Problem(severity="error", kind=fault.kind, split=self.split, message=str(fault), places=fault.items)
            )
        else:
            self.add("error", fault.kind, fault.where, fault.reason)

    def problems(self) -> list[Problem]:
        made = [
            Problem(
                severity=severity,
                kind=kind,
                split=self.split,
                message=": ".join(filter(None, (self.file, *found[0]))) + _more([place for place, _ in found]),
                places=tuple(place for place, _ in found if place),
            )
            for (severity, kind), found in self._found.items()
        ]
        return self._complete + made


def _more(places: Sequence[str]) -> str:
    if len(places) == 1:
        return ""
    others = [place for place in places[1:_NAMED] if place]
    also = f", also {', '.join(others)}{', ...' if len(places) > _NAMED else ''}" if others else ""
    return f" ({len(places)} in all{also})"


def _sorted(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: (SEVERITIES.index(problem.severity), -len(problem.places))))


class _Split:
    """One readable split while it is looked at."""

    def __init__(self, dataset: CocoDataset, findings: _Findings, *, whole: bool, quick: bool) -> None:
        self.dataset = dataset
        self.findings = findings
        self.whole = whole  # no entry was left out: what follows from a damaged one is not told a second time
        self.fingerprints: dict[int, Fingerprint] = {}
        count = len(dataset)
        self.seen_images = range(0, count, -(-count // _QUICK_IMAGES) if quick and count else 1)
        self._decode_every = max(1, -(-dataset.num_annotations // _QUICK_ANNOTATIONS)) if quick else 1
        self._objects_of_class: Counter[int] = Counter()
        self._images_of_class: Counter[int] = Counter()
        self._per_image: list[int] = []
        self._crowds = 0
        self._boxes: list[tuple[float, float, float, float]] = []
        self._image_sizes: list[tuple[int, int]] = []
        self._places: list[str] = []

    @classmethod
    def open(cls, paths: DatasetPaths, name: str, findings: _Findings, *, quick: bool) -> _Split | None:
        """None if the annotation file cannot be read at all."""
        faults: list[Fault] = []
        dataset = None
        try:
            dataset = CocoDataset(
                getattr(paths, f"{name}_annotations"), getattr(paths, f"{name}_images"), faults=faults
            )
        except Fault as error:
            faults.append(error)
        for fault in faults:
            findings.add_fault(fault)
        if dataset is None:
            return None
        whole = all(fault.kind == "missing files" for fault in faults)
        return cls(dataset, findings, whole=whole, quick=quick)

    def place(self, index: int) -> str:
        return f"image {self.dataset.image_ids[index]} ({self.dataset.image_path(index).name})"

    def count(self, label: int) -> int:
        return self._objects_of_class[label]

    def check_annotations(self) -> None:
        dataset = self.dataset
        for problem in dataset.problems:
            self._add_repair(problem)
        for index in range(len(dataset)):
            if index % self._decode_every == 0:
                faults: list[Fault] = []
                kept, problems = dataset.encode_objects(index, dataset.image_size(index), faults)
                for problem in problems:
                    self._add_repair(problem)
                for fault in faults:
                    self.findings.add_fault(fault)
                self._check_objects(index, kept)
                annotations = [item.annotation for item in kept]
            else:
                annotations = dataset.load_annotations(index)
            labels = [annotation.label for annotation in annotations if not annotation.is_crowd]
            self._objects_of_class.update(labels)
            self._images_of_class.update(set(labels))
            self._per_image.append(len(labels))
            self._crowds += len(annotations) - len(labels)
        if not self.whole:
            return
        if any(self._per_image):
            for index in np.flatnonzero(np.array(self._per_image) == 0).tolist():
                self.findings.add("note", "image without objects", self.place(index), "no object in it")
            return
        kind, text = ("no object", "no object in any image") if len(dataset) else ("no image", "it lists no image")
        if self.findings.split == "train":
            self.findings.add("error", kind, "", f"{text}, so there is nothing to learn")
        else:
            self.findings.add("warning", kind, "", f"{text}, so AP cannot be measured")

    def _add_repair(self, problem: AnnotationProblem) -> None:
        place = f"image {problem.image_id} annotation {problem.annotation_id}"
        self.findings.add("warning", _NUMBERS.sub("#", problem.message), place, problem.message)

    def _check_objects(self, index: int, kept: list[EncodedObject]) -> None:
        """Outlines, shapes and repetitions of the objects of one image."""
        from pycocotools import mask as mask_codec

        dataset, add = self.dataset, self.findings.add
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
                except ValueError as error:
                    add("error", "segmentation", place, f"segmentation cannot be decoded: {error}")
                    continue
            if annotation.is_crowd:
                add("note", "crowd", place, "crowd region: it excuses detections, nothing is learnt from it")
                continue
            if euler > 1:
                add("note", "parts", place, "mask of several separate parts")
            elif euler < 1:
                add("note", "holes", place, "mask with holes")
            if mask_codec.area(item.rle) >= _WHOLE_IMAGE * height * width:
                add("note", "whole image", place, "the mask covers the whole image: is it the background?")
            self._boxes.append(item.box)
            self._image_sizes.append(size)
            self._places.append(place)
        objects = [item for item in kept if not item.annotation.is_crowd]
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

    def check_images(self, progress: Callable[[int], None]) -> None:
        dataset = self.dataset
        entry_of: dict[Path, int] = {}
        for index in range(len(dataset)):
            other = entry_of.setdefault(dataset.image_path(index), index)
            if other != index:
                text = f"names the same file as image {dataset.image_ids[other]}"
                self.findings.add("warning", "file named twice", self.place(index), text)
        first_with: dict[bytes, int] = {}
        with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
            found = pool.map(_read, map(dataset.image_path, self.seen_images))
            for done, (index, read) in enumerate(zip(self.seen_images, found, strict=True), 1):
                progress(done)
                if isinstance(read, str):
                    self.findings.add("error", "unreadable image", self.place(index), read)
                elif read is not None:
                    self.fingerprints[index] = read
                    self._check_size(index, read)
                    other = first_with.setdefault(read.digest, index)
                    if dataset.image_path(other) != dataset.image_path(index):
                        text = f"the same picture as {self.place(other)}"
                        self.findings.add("note", "image twice", self.place(index), text)

    def _check_size(self, index: int, read: Fingerprint) -> None:
        stated = self.dataset.image_size(index)
        if stated in (read.size, read.upright_size):
            return
        text = f"the file is {wxh(read.size)} px, the JSON says {wxh(stated)}: "
        if same_aspect(stated, read.size):
            self.findings.add("warning", "image of another size", self.place(index), text + "annotations are scaled")
        else:
            text += "annotations are cut or padded; do they belong to another image?"
            self.findings.add("warning", "image of another shape", self.place(index), text)

    def summary(self) -> SplitSummary:
        names = list(enumerate(self.dataset.class_names))
        return SplitSummary(
            annotation_file=str(self.dataset.annotation_file),
            image_dir=str(self.dataset.image_dir),
            images=len(self.dataset),
            images_without_objects=self._per_image.count(0),
            objects=sum(self._per_image),
            crowds=self._crowds,
            most_objects=max(self._per_image, default=0),
            objects_of_class={name: self._objects_of_class[label] for label, name in names},
            images_of_class={name: self._images_of_class[label] for label, name in names},
        )

    def objects(self) -> _Objects:
        return _Objects(
            boxes=torch.tensor(self._boxes, dtype=torch.float32).reshape(-1, 4),
            image_sizes=torch.tensor(self._image_sizes, dtype=torch.int64).reshape(-1, 2),
            places=self._places,
            per_image=[(self.place(index), count) for index, count in enumerate(self._per_image)],
        )


def _read(path: Path) -> Fingerprint | str | None:
    """What the picture is, or why it cannot be read; None where there is no file, which is known already."""
    try:
        return fingerprint(path)
    except FileNotFoundError:
        return "the file is a link to nothing" if path.is_symlink() else None
    except UnidentifiedImageError:
        return "the file is no image that can be read" if path.stat().st_size else "the file is empty"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"the image cannot be read: {error}"


def _overhang(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> float:
    """How far the outline reaches outside the image, px."""
    height, width = size
    return max(
        max(-min(part[0::2]), -min(part[1::2]), max(part[0::2]) - width, max(part[1::2]) - height) for part in polygons
    )


def _euler_number(item: EncodedObject) -> int:
    """Parts of the mask less its holes (Gray 1971): 1 for a plain shape. Pixels that share a corner belong together.

    Raises:
        ValueError: the run-length code is damaged.

    """
    x1, y1, x2, y2 = map(int, box_of_rle(item.rle) or (0, 0, 0, 0))
    mask = np.zeros((y2 - y1 + 2, x2 - x1 + 2), dtype=np.uint8)
    mask[1:-1, 1:-1] = decode_masks([item.rle])[0, y1:y2, x1:x2]
    # The four pixels about each corner of the pixel grid: how many belong to the mask, and are two of them diagonal?
    left_upper, right_lower = mask[:-1, :-1], mask[1:, 1:]
    filled = left_upper + mask[:-1, 1:] + mask[1:, :-1] + right_lower
    counts = np.bincount(filled.ravel(), minlength=4)
    diagonal = np.count_nonzero((filled == 2) & (left_upper == right_lower))
    return int(counts[1] - counts[3] - 2 * diagonal) // 4


def _check_unnamed_files(splits: Sequence[_Split]) -> None:
    """Pictures in the folders that are in no split."""
    Image.init()
    suffixes = set(Image.registered_extensions())
    real_folder = cache(os.path.realpath)  # asked for every file it would take seconds
    known = {
        (real_folder(file.parent), file.name)
        for split in splits
        for file in map(split.dataset.image_path, range(len(split.dataset)))
    }
    for split in splits:
        folder = split.dataset.image_dir
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes):
            real = (real_folder(path.parent), path.name)
            if real not in known:
                known.add(real)
                text = f"no entry names this file in {folder}"
                split.findings.add("note", "file without entry", str(path.relative_to(folder)), text)


def _check_classes(train: _Split, val: _Split, findings: _Findings) -> None:
    """Names in both splits, and which of them have objects."""
    names, other_names = train.dataset.class_names, val.dataset.class_names
    only = [sorted(set(names) - set(other_names)), sorted(set(other_names) - set(names))]
    if any(only):
        shown = "; ".join(
            f"only in {split}: {', '.join(map(repr, found[:_NAMED]))}{', ...' if len(found) > _NAMED else ''}"
            for split, found in zip(("train", "val"), only, strict=True)
            if found
        )
        findings.add("error", "class names", "", f"the class names of the two splits differ; {shown}")
        return
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in names:
        spellings[re.sub(r"[\W_]+", "", name).casefold() or name].append(name)
    for alike in spellings.values():
        if len(alike) > 1:
            text = "spelled almost alike: are they one class?"
            findings.add("warning", "classes spelled alike", f"classes {' and '.join(map(repr, alike))}", text)
    id_of, other_id_of = (
        dict(zip(part.class_names, part.category_ids, strict=True)) for part in (train.dataset, val.dataset)
    )
    if id_of != other_id_of:
        findings.add("note", "category ids differ", "", "the two splits number the classes differently; names count")
    any_learnt, any_measured = (any(split.count(label) for label in range(len(names))) for split in (train, val))
    for label, name in enumerate(names):
        learnt, measured = train.count(label), val.count(other_names.index(name))
        if not learnt and not measured:
            findings.add("note", "class without objects", f"class {name}", "no object in either split")
        elif not learnt and any_learnt:
            text = f"no object in train ({measured} in val), so it cannot be learnt"
            findings.add("warning", "class only in val", f"class {name}", text)
        elif not measured and any_measured:
            text = f"no object in val ({learnt} in train), so its AP cannot be measured"
            findings.add("warning", "class only in train", f"class {name}", text)


def _check_leakage(train: _Split, val: _Split, findings: _Findings) -> None:
    """Pictures that are in both splits, the same file or one that looks the same."""
    of_digest = {read.digest: index for index, read in train.fingerprints.items()}
    same = [(of_digest[read.digest], index) for index, read in val.fingerprints.items() if read.digest in of_digest]
    similar = similar_pairs(list(train.fingerprints.values()), list(val.fingerprints.values()))
    indices, other_indices = list(train.fingerprints), list(val.fingerprints)
    near = [(indices[first], other_indices[second]) for first, second in similar]
    for kind, pairs, text in (
        ("image in both splits", same, "the same picture in both splits makes validation look better than it is"),
        (
            "similar images in both splits",
            near,
            "pictures in both splits that look the same: is one a copy of the other?",
        ),
    ):
        for first, second in pairs:
            findings.add("warning", kind, f"train {train.place(first)} and val {val.place(second)}", text)
