"""A data set with the labels that a model gave to one of its splits."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycocotools import mask as mask_codec

from protomask.data.coco.dataset import CocoDataset, EncodedObject
from protomask.data.coco.layout import DatasetPaths, open_dataset
from protomask.data.coco.segmentation import CompressedRle
from protomask.data.pseudo.merge import Changes, Found, Known, merge
from protomask.data.pseudo.options import PseudoLabelOptions
from protomask.data.training.loader import image_batches
from protomask.errors import ConfigError, DataError
from protomask.files import replacing
from protomask.images.decode import Pixels
from protomask.structures.coco_json import CocoFile

if TYPE_CHECKING:
    from protomask.structures.instances import Instances

FindsInstances = Callable[[Sequence[Pixels]], Sequence["Instances"]]
"""Finds the instances of images (H, W, 3) uint8 RGB, each in its own frame."""
_SOURCE = "pseudo"


@dataclass(kw_only=True)
class Counts:
    """What was changed: images looked at and left alone, objects, regions to ignore."""

    images: int = 0
    images_left_alone: int = 0
    redrawn: int = 0
    added: int = 0
    ignored: int = 0
    regions_removed: int = 0

    def add(self, changes: Changes) -> None:
        """Count the changes of one image."""
        self.redrawn += len(changes.redrawn)
        self.added += len(changes.added)
        self.ignored += len(changes.ignored)
        self.regions_removed += sum(left is None for left in changes.cut.values())


def write_pseudo_labels(
    source: str | Path,
    output: str | Path,
    find: FindsInstances,
    *,
    split: str = "train",
    options: PseudoLabelOptions | None = None,
    num_workers: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Counts:
    """Write ``annotations/SPLIT.json`` and ``dataset.yaml``; images and other splits are those of the source.

    Args:
        source: data set, see `protomask.data.coco.layout.open_dataset`.
        output: folder to make.
        find: the model.
        split: the split to label.
        options: what becomes of what was found.
        num_workers: processes that load images; 0 loads them in this one.
        on_progress: called with the number of images done and the total number.

    Raises:
        ConfigError: the folder is not empty.
        DataError: the data set or an image cannot be read.

    """
    options = options or PseudoLabelOptions()
    paths = open_dataset(source, (split,))
    folder = Path(output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"output: expected {folder} to be new or empty, as it may hold another data set")
    file = CocoFile.read(paths.splits[split].annotations)
    dataset = CocoDataset(file, paths.splits[split].images, classes=paths.classes, orientation=paths.orientation)
    labelled = _Labelled(file, dataset, options)
    positions = {image_id: index for index, image_id in enumerate(dataset.image_ids)}
    for done, (images, ids) in enumerate(image_batches(dataset, batch_size=1, num_workers=num_workers), start=1):
        labelled.add(positions[ids[0]], images[0], find)
        if on_progress is not None:
            on_progress(done, len(dataset))
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    target = folder / "annotations" / f"{split}.json"
    with replacing(target, error=DataError) as opened:
        opened.write(json.dumps({**file.content, "annotations": labelled.entries()}).encode())
    with replacing(folder / "dataset.yaml", error=DataError) as opened:
        opened.write(_yaml(paths, split).encode())
    return labelled.counts


class _Labelled:
    """The annotations of a file, changed image by image.

    Attributes:
        counts: number of changes.

    """

    def __init__(self, file: CocoFile, dataset: CocoDataset, options: PseudoLabelOptions) -> None:
        self.dataset, self.options, self.counts = dataset, options, Counts()
        self._entries: dict[int, dict[str, Any]] = {entry["id"]: dict(entry) for entry in file.content["annotations"]}
        self._ids = itertools.count(max(self._entries, default=0) + 1)

    def add(self, index: int, pixels: Pixels, find: FindsInstances) -> None:
        """Label one image."""
        size = (pixels.shape[0], pixels.shape[1])
        objects, _ = self.dataset.encode_objects(index, size)
        sources = self.options.machine_sources
        is_finished = bool(objects) and not any(item.annotation.mask_source in sources for item in objects)
        # Where the file states another size, what is found could not be written in its frame.
        if size != self.dataset.image_size(index) or (is_finished and self.options.only_unfinished):
            self.counts.images_left_alone += 1
            return
        self.counts.images += 1
        [instances] = find([pixels])
        known = [
            Known(one.annotation.label, one.rle, one.annotation.is_crowd, one.annotation.mask_source in sources)
            for one in objects
        ]
        changes = merge(known, list(_found(instances, self.dataset.class_names)), self.options)
        self.counts.add(changes)
        self._apply(changes, objects, self.dataset.image_ids[index])

    def _apply(self, changes: Changes, objects: Sequence[EncodedObject], image_id: int) -> None:
        def entry_of(index: int) -> dict[str, Any]:
            return self._entries[objects[index].annotation.annotation_id]

        for index, one in changes.redrawn.items():
            entry_of(index).update(_entry(one.rle), mask_source=_SOURCE, score=round(one.score, 4))
        for index, left in changes.cut.items():
            if left is None:
                del self._entries[objects[index].annotation.annotation_id]
            else:
                entry_of(index).update(_entry(left))
        for one, is_crowd in (*((one, 0) for one in changes.added), *((one, 1) for one in changes.ignored)):
            number = next(self._ids)
            self._entries[number] = {
                "id": number, "image_id": image_id,
                "category_id": self.dataset.category_ids[one.label], "iscrowd": is_crowd, **_entry(one.rle),
                "mask_source": _SOURCE, "score": round(one.score, 4),
            }  # fmt: skip

    def entries(self) -> list[dict[str, Any]]:
        """The annotations as they are now."""
        return list(self._entries.values())


def _found(instances: Instances, class_names: Sequence[str]) -> Iterator[Found]:
    """The instances of the classes of the data set, whatever labels they have in the model."""
    labels = {name: label for label, name in enumerate(class_names)}
    for name, score, rle in zip(instances.names, instances.scores.tolist(), instances.rle(), strict=True):
        if name in labels:
            yield Found(labels[name], {"size": list(rle["size"]), "counts": rle["counts"].encode("ascii")}, score)


def _entry(rle: CompressedRle) -> dict[str, Any]:
    """Mask, box and area of an annotation."""
    return {
        "segmentation": {"size": [*rle["size"]], "counts": rle["counts"].decode("ascii")},
        "bbox": [float(value) for value in mask_codec.toBbox(rle)],
        "area": int(mask_codec.area(rle)),
    }


def _yaml(paths: DatasetPaths, split: str) -> str:
    import yaml

    content: dict[str, Any] = {}
    for name, part in paths.splits.items():
        own = f"annotations/{name}.json" if name == split else str(part.annotations.resolve())
        content |= {f"{name}_annotations": own, f"{name}_images": str(part.images.resolve())}
    content["exif_orientation"] = paths.orientation
    if paths.classes is not None:
        content["classes"] = list(paths.classes)
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
