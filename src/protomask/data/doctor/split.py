"""A readable split during the check."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch

from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.layout import DatasetPaths
from protomask.data.doctor.network_fit import SplitObjects
from protomask.data.doctor.problems import Findings
from protomask.data.doctor.report import SplitSummary
from protomask.data.doctor.similar_images import Fingerprint
from protomask.data.shards.opening import dataset_of_split
from protomask.structures.coco_json import Fault

_QUICK_IMAGES, _QUICK_ANNOTATIONS = 64, 2000  # of each split; a second or two


@dataclass
class Inventory:
    """The usable content of a split; crowds are counted apart from objects.

    Attributes:
        objects_of_class: number of objects by label.
        images_of_class: number of images with such objects by label.
        per_image: number of objects of each image.
        crowds: number of crowd regions.
        boxes: xyxy px of the objects that were decoded.
        image_sizes: (H, W) of the image of each decoded object.
        places: place of each decoded object.

    """

    objects_of_class: Counter[int] = field(default_factory=Counter)
    images_of_class: Counter[int] = field(default_factory=Counter)
    per_image: list[int] = field(default_factory=list)
    crowds: int = 0
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    image_sizes: list[tuple[int, int]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)


class Split:
    """A split and everything found in it.

    Attributes:
        dataset: its readable part.
        findings: problems of this split.
        whole: no entry was left out. What follows from a damaged entry is not reported again.
        seen_images: indices of the images to decode.
        decode_every: step from one image whose annotations are decoded to the next.
        inventory: filled by `check_annotations`.
        fingerprints: by image index, filled by `check_images`.

    """

    def __init__(self, dataset: CocoDataset, findings: Findings, *, whole: bool, quick: bool) -> None:
        self.dataset = dataset
        self.findings = findings
        self.whole = whole
        count = len(dataset)
        self.seen_images = range(0, count, -(-count // _QUICK_IMAGES) if quick and count else 1)
        self.decode_every = max(1, -(-dataset.num_annotations // _QUICK_ANNOTATIONS)) if quick else 1
        self.inventory = Inventory()
        self.fingerprints: dict[int, Fingerprint] = {}

    @classmethod
    def open(cls, paths: DatasetPaths, name: str, findings: Findings, *, quick: bool) -> Split | None:
        """Read a split; None if its annotation file cannot be read at all."""
        faults: list[Fault] = []
        dataset = None
        try:
            dataset = dataset_of_split(paths, name, faults=faults)
        except Fault as error:
            faults.append(error)
        for fault in faults:
            findings.add_fault(fault)
        if dataset is None:
            return None
        whole = all(fault.kind == "missing files" for fault in faults)
        return cls(dataset, findings, whole=whole, quick=quick)

    @property
    def name(self) -> str:
        """Name of the split."""
        return str(self.findings.split)

    def place(self, index: int) -> str:
        """Name of an image in messages."""
        return f"image {self.dataset.image_ids[index]} ({self.dataset.image_path(index).name})"

    def count(self, label: int) -> int:
        """Number of objects of a class."""
        return self.inventory.objects_of_class[label]

    def summary(self) -> SplitSummary:
        """Number of images and objects."""
        inventory = self.inventory
        names = list(enumerate(self.dataset.class_names))
        return SplitSummary(
            annotation_file=str(self.dataset.annotation_file),
            image_dir=str(self.dataset.image_dir),
            images=len(self.dataset),
            images_without_objects=inventory.per_image.count(0),
            objects=sum(inventory.per_image),
            crowds=inventory.crowds,
            most_objects=max(inventory.per_image, default=0),
            objects_of_class={name: inventory.objects_of_class[label] for label, name in names},
            images_of_class={name: inventory.images_of_class[label] for label, name in names},
        )

    def objects(self) -> SplitObjects:
        """The decoded objects."""
        inventory = self.inventory
        return SplitObjects(
            boxes=torch.tensor(inventory.boxes, dtype=torch.float32).reshape(-1, 4),
            image_sizes=torch.tensor(inventory.image_sizes, dtype=torch.int64).reshape(-1, 2),
            places=inventory.places,
            per_image=[(self.place(index), count) for index, count in enumerate(inventory.per_image)],
        )
