"""COCO instance annotations as a dataset of (image, `Target`).

The whole annotation file is checked once when the dataset is made; masks are decoded when an image is asked for.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from protomask.data.coco.layout import DatasetPaths, Orientation, find_images
from protomask.data.coco.schema import BOX_SOURCE, Annotation, AnnotationProblem, Box, read_schema, warn_of, wxh
from protomask.data.coco.segmentation import (
    CompressedRle,
    NoMask,
    box_of_rle,
    choose_box,
    decode_masks,
    encode_annotation,
)
from protomask.errors import ConfigError, DataError
from protomask.images.decode import Pixels
from protomask.images.pixels import EXIF_ORIENTATION, IMAGE_FORMATS, check_claim, to_rgb_array
from protomask.structures.coco_json import CocoFile, Fault
from protomask.structures.target import Target

Sample = tuple[Tensor, Target]


class EncodedObject(NamedTuple):
    """A usable annotation: its mask as compressed RLE and its box xyxy, both in px of the same frame."""

    annotation: Annotation
    rle: CompressedRle
    box: Box


class CocoDataset(Dataset[Sample]):
    """The images of one COCO instance JSON, in the file's order, images without objects included.

    ``dataset[i]`` is ``(image, target)``: image (3, H, W) uint8 RGB, 0..255; target in px of that image, annotations in
    the file's order.

    Polygons (multi-part too), compressed and uncompressed RLE, and crowds are read. Boxes are the file's
    ``[x, y, x + w, y + h]``, unclipped, and those of the mask where the file's are not sane. Pixels and annotations
    share the frame stated in the JSON: by default EXIF orientation is applied only if it, and not the stored size,
    leads there; ``orientation`` says otherwise.

    Annotations that cannot be used (empty mask, fewer than three points) are dropped, repairable ones (box outside the
    image or far from its mask, image file of another size) repaired. What the file shows is in ``problems`` and in
    one `DataWarning` when the dataset is made; `load_target` reports what only decoding shows, with one warning.

    Args:
        annotation_file: COCO instance JSON, parsed or not.
        image_dir: folder of the images. ``file_name`` may hold subfolders of it; they are also found without them.
        class_names: names in label order; categories are matched by name. By default the file's categories in order of
            their ids.
        classes: names of the only categories to look at; objects of the others count as background. None for all.
        orientation: frame of the annotations where images carry an EXIF orientation: "upright" as programs show them,
            "stored" as the pixels lie in the file, "auto" the one whose size the JSON states, and the stored one where
            the size cannot tell.
        faults: receives the faults of single entries, class names and missing files, which would be raised otherwise;
            nothing is warned about then.

    Attributes:
        class_names: name of each label, 0-based, background excluded.
        category_ids: the file's category id of each label.
        image_ids: the file's image id of each item.
        problems: what was dropped or repaired before decoding.
        notes: what was left out without a loss.
        respelled: names of images in the file whose files are spelled in another way, with the file's.
        elsewhere: names of images in the file whose files lie in another folder, with the file's.
        mask_sources: number of annotations by their ``mask_source``, of those that have one.

    Raises:
        DataError: the annotation file cannot be read, is not COCO instance JSON or contradicts itself, or image files
            are missing; the message names file, image id and annotation id.

    """

    def __init__(
        self,
        annotation_file: str | Path | CocoFile,
        image_dir: str | Path,
        *,
        class_names: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        orientation: Orientation = "auto",
        faults: list[Fault] | None = None,
    ) -> None:
        file = annotation_file if isinstance(annotation_file, CocoFile) else CocoFile.read(annotation_file)
        if classes is not None:
            file = file.with_classes(classes)
        self.annotation_file = file.path
        self.image_dir = Path(image_dir)
        schema, found = read_schema(file, class_names)
        _refuse(found, faults)
        self.class_names, self.category_ids = schema.class_names, schema.category_ids
        self.image_ids, self._image_sizes = schema.image_ids, schema.image_sizes
        found_files = find_images(schema.file_names, self.image_dir, self.annotation_file)
        _refuse(found_files.faults, faults)
        self._image_files, self.respelled = found_files.files, found_files.respelled
        self.elsewhere = found_files.elsewhere
        self.problems, self.notes = tuple(schema.problems), tuple(schema.notes)
        self.orientation: Orientation = orientation
        if orientation != "auto":
            self._image_sizes = [self._size_in_frame(index) for index in range(len(self.image_ids))]
        # One buffer instead of millions of Python objects: worker processes share it, and it is small.
        packed, ends = BytesIO(), [0]
        for record in schema.annotations:
            pickle.dump(record, packed, protocol=pickle.HIGHEST_PROTOCOL)
            ends.append(packed.tell())
        self._offsets = np.array(ends)
        self._records = np.frombuffer(packed.getbuffer(), dtype=np.uint8)
        self._num_annotations = sum(map(len, schema.annotations))
        self.mask_sources = Counter(one.mask_source for own in schema.annotations for one in own if one.mask_source)
        self._mask_weights: Mapping[str, float] = {}
        self._warned = False
        if faults is None:
            warn_of(self.annotation_file, schema.problems)

    @classmethod
    def of_split(
        cls,
        paths: DatasetPaths,
        split: str,
        *,
        class_names: Sequence[str] | None = None,
        faults: list[Fault] | None = None,
    ) -> CocoDataset:
        """One split of a data set, read as the data set says."""
        file, folder = paths.splits[split]
        return cls(
            file, folder, class_names=class_names, classes=paths.classes, orientation=paths.orientation, faults=faults
        )

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def num_annotations(self) -> int:
        """Well-formed annotations of all images."""
        return self._num_annotations

    def __getitem__(self, index: int) -> Sample:
        return self.load_sample(index)

    def load_sample(self, index: int, at_least: tuple[int, int] | None = None) -> Sample:
        """Item ``index``, which may be reduced.

        Args:
            index: index of the item.
            at_least: (H, W) that are enough, see `load_pixels`; the target has the frame of the image.

        Raises:
            DataError: the file or an RLE cannot be decoded.

        """
        image = torch.from_numpy(self.load_pixels(index, at_least)).permute(2, 0, 1)
        target, problems = self.load_target(index, (image.shape[1], image.shape[2]))
        if problems and not self._warned and at_least is None:
            self._warned = True
            warn_of(self.annotation_file, problems, "; more of this kind are repaired silently")
        return image, target

    def keep_first(self, count: int) -> None:
        """Forget all but the first ``count`` images."""
        self.image_ids = self.image_ids[:count]
        self._image_sizes = self._image_sizes[:count]
        self._image_files = self._image_files[:count]

    def labels_of(self, index: int) -> set[int]:
        """Labels of the objects of item ``index``, crowds left out."""
        return {one.label for one in self.load_annotations(index) if not one.is_crowd}

    def weigh_masks(self, weights: Mapping[str, float]) -> None:
        """Give the masks of later targets weights by their ``mask_source``; boxes have 0, those of other sources 1.

        Raises:
            ConfigError: no annotation has one of the sources.

        """
        unknown = [source for source in weights if source not in self.mask_sources]
        if unknown:
            known = ", ".join(self.mask_sources) or "none at all"
            raise ConfigError(
                f"mask_weights: {self.annotation_file} has no mask_source {', '.join(unknown)}, only {known}"
            )
        boxes = {BOX_SOURCE: 0.0} if BOX_SOURCE in self.mask_sources else {}
        self._mask_weights = {**boxes, **weights}

    def image_path(self, index: int) -> Path:
        """File of item ``index``."""
        return self.image_dir / self._image_files[index]

    def load_image(self, index: int) -> Tensor:
        """Pixels of item ``index``: (3, H, W) uint8 RGB, 0..255.

        Raises:
            DataError: the file cannot be decoded.

        """
        return torch.from_numpy(self.load_pixels(index)).permute(2, 0, 1)

    def load_pixels(self, index: int, at_least: tuple[int, int] | None = None) -> Pixels:
        """Pixels of item ``index``: (H, W, 3) uint8 RGB, 0..255.

        Args:
            index: index of the item.
            at_least: (H, W) that are enough: a JPEG may be read at a half, a quarter or an eighth of its size if that
                is not smaller, which takes a fraction of the time. By default images have their own size.

        Raises:
            DataError: the file cannot be decoded.

        """
        path = self.image_path(index)
        height, width = self._image_sizes[index]
        try:
            file, num_bytes = self._image_file(index)
            with Image.open(file, formats=IMAGE_FORMATS) as opened:
                image: Image.Image = opened
                check_claim(image, num_bytes, path.name)
                stored = image.size
                is_reduced = at_least is not None and _reduce(image, (height, width), at_least)
                if self.orientation == "upright":
                    image = ImageOps.exif_transpose(image)
                elif self.orientation == "auto" and stored != (width, height):
                    upright = ImageOps.exif_transpose(image)
                    image = upright if is_reduced or upright.size == (width, height) else image
                return to_rgb_array(image)
        except Exception as error:
            # What a damaged file makes a decoder raise is not documented: OSError, SyntaxError, struct.error, ...
            reason = str(error) or type(error).__name__
            raise DataError(f"{path}: image {self.image_ids[index]} cannot be read: {reason}") from error

    def _image_file(self, index: int) -> tuple[Path | BytesIO, int]:
        """The image file of item ``index``, and its number of bytes."""
        path = self.image_path(index)
        return path, path.stat().st_size

    def order(self, random: np.random.Generator, shown: NDArray[np.int64]) -> NDArray[np.int64]:
        """A pass over images in random order.

        Args:
            random: decides.
            shown: (N,) index of each image of the pass.

        Returns:
            (N,) every number below N once: places in ``shown``.

        """
        return random.permutation(len(shown))

    @property
    def is_remote(self) -> bool:
        """Whether images come over a network, by a library whose connections a forked process must not use."""
        return False

    def image_size(self, index: int) -> tuple[int, int]:
        """(H, W) of item ``index`` as the JSON states it, or in the frame that ``orientation`` names."""
        return self._image_sizes[index]

    def _size_in_frame(self, index: int) -> tuple[int, int]:
        """The stated size, turned where the JSON states the size of the other frame."""
        stated = self._image_sizes[index]
        try:
            with Image.open(self.image_path(index), formats=IMAGE_FORMATS) as image:
                stored = (image.height, image.width)
                turns = image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
        except Exception:
            return stated  # reading its pixels says what is wrong
        size = stored[::-1] if turns and self.orientation == "upright" else stored
        return size if turns and stated in (stored, stored[::-1]) else stated

    def load_annotations(self, index: int) -> list[Annotation]:
        """Annotations of item ``index`` as the file has them, without what ``problems`` says was dropped."""
        annotations: list[Annotation] = pickle.loads(
            self._records[self._offsets[index] : self._offsets[index + 1]].data
        )
        return annotations

    def load_target(
        self, index: int, image_size: tuple[int, int] | None = None
    ) -> tuple[Target, list[AnnotationProblem]]:
        """Truth of item ``index``, and what was dropped or repaired to decode it.

        Args:
            index: index of the item.
            image_size: (H, W) of the pixels, by default what the JSON says. Annotations of another size are scaled to
                it if they have its aspect ratio (the image was resized), else cut or padded at the right and bottom.

        Raises:
            DataError: an RLE cannot be decoded.

        """
        image_id = self.image_ids[index]
        size = self._image_sizes[index] if image_size is None else image_size
        kept, problems = self.encode_objects(index, size)
        masks = torch.zeros((0, *size), dtype=torch.bool)
        if kept:
            try:
                masks = torch.from_numpy(decode_masks([item.rle for item in kept]))
            except ValueError:
                for item in kept:
                    try:
                        decode_masks([item.rle])
                    except ValueError as error:
                        raise self._undecodable(image_id, item.annotation, error) from error
                raise
        target = Target(
            boxes=torch.tensor([item.box for item in kept], dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor([item.annotation.label for item in kept], dtype=torch.int64),
            masks=masks,
            is_crowd=torch.tensor([item.annotation.is_crowd for item in kept], dtype=torch.bool),
            image_size=size,
            image_id=image_id,
            mask_weights=self._weights_of(kept),
        )
        return target, problems

    def _weights_of(self, kept: Sequence[EncodedObject]) -> Tensor | None:
        if not self._mask_weights:
            return None
        return torch.tensor([self._mask_weights.get(item.annotation.mask_source, 1.0) for item in kept])

    def encode_objects(
        self, index: int, size: tuple[int, int], faults: list[Fault] | None = None
    ) -> tuple[list[EncodedObject], list[AnnotationProblem]]:
        """The usable annotations of item ``index`` in the frame ``size`` (H, W), and what was repaired.

        Raises:
            Fault: a segmentation cannot be encoded; with ``faults`` it goes there, and the annotation is left out.

        """
        image_id, stated_size = self.image_ids[index], self._image_sizes[index]
        problems: list[AnnotationProblem] = []
        if size != stated_size:
            problems.append(
                AnnotationProblem(image_id, None, f"the file is {wxh(size)} px, the JSON says {wxh(stated_size)}")
            )
        kept: list[EncodedObject] = []
        for annotation in self.load_annotations(index):
            try:
                rle = encode_annotation(annotation, stated_size, size)
            except NoMask as error:
                problems.append(AnnotationProblem(image_id, annotation.annotation_id, f"{error}, dropped"))
                continue
            except (ValueError, TypeError, OverflowError) as error:
                fault = self._undecodable(image_id, annotation, error)
                if faults is None:
                    raise fault from error
                faults.append(fault)
                continue
            mask_box = box_of_rle(rle)
            if mask_box is None:
                problems.append(AnnotationProblem(image_id, annotation.annotation_id, "empty mask, dropped"))
                continue
            box, message = choose_box(annotation.bbox, mask_box, stated_size, size)
            if message:
                problems.append(AnnotationProblem(image_id, annotation.annotation_id, message))
            kept.append(EncodedObject(annotation, rle, box))
        return kept, problems

    def _undecodable(self, image_id: int, annotation: Annotation, error: Exception) -> Fault:
        where = f"image {image_id} annotation {annotation.annotation_id}"
        return Fault(self.annotation_file, "segmentation", where, f"segmentation cannot be decoded: {error}")


def _reduce(image: Image.Image, size: tuple[int, int], at_least: tuple[int, int]) -> bool:
    """Let a JPEG be read at a fraction of its size (H, W), if it has that size; returns whether it will be."""
    stored = (image.height, image.width)
    turns = stored != size and image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    if size != (stored[::-1] if turns else stored):
        return False
    image.draft(image.mode, at_least if turns else at_least[::-1])
    return (image.height, image.width) != stored


def _refuse(found: Sequence[Fault], faults: list[Fault] | None) -> None:
    if found and faults is None:
        raise found[0]
    if faults is not None:
        faults += found
