"""The two objects that everything passes around: `Target`, the truth of an image, and `Instances`, what was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from protomask.errors import ConfigError, DataError
from protomask.ops.masks import (
    GridWindow,
    MaskWindow,
    Polygon,
    Runs,
    assemble_windows,
    cut_windows,
    encode_runs,
    interpolate_runs,
    mask_runs,
    mask_to_polygons,
    region_lines,
    resized_line,
    runs_to_window,
)

Index = Tensor | slice | int | Sequence[int]
_CHUNK_BYTES = 16 << 20
_MASKS_AT_ONCE = 16
"""Computed together: enough for speed, few enough for the memory of masks that are all noise."""


def _check(name: str, tensor: Tensor, shape: tuple[int | None, ...], dtype: torch.dtype) -> None:
    matches = tensor.dim() == len(shape) and all(
        want is None or want == got for want, got in zip(shape, tensor.shape, strict=False)
    )
    if not matches or tensor.dtype != dtype:
        wanted = ", ".join("*" if size is None else str(size) for size in shape)
        got = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
        raise DataError(f"{name}: expected {dtype} of shape ({wanted}), got {got}")


def _as_index(index: Index, length: int) -> Tensor | slice:
    """An index that always keeps the instance dimension."""
    if isinstance(index, int):
        if not -length <= index < length:
            raise IndexError(f"instance {index} of {length}")
        return torch.tensor([index % length])
    if isinstance(index, Tensor) and index.dim() > 0:
        return index
    if isinstance(index, slice):
        return index
    chosen = torch.as_tensor(index)
    # Of an empty list torch cannot tell that it holds indices.
    return chosen.reshape(-1) if chosen.numel() else torch.zeros(0, dtype=torch.int64)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Truth of one image: N annotated objects in the frame ``image_size``.

    Attributes:
        boxes: (N, 4) float32, xyxy, pixels of the frame.
        labels: (N,) int64, 0-based, background excluded.
        masks: (N, H, W) bool, same frame.
        is_crowd: (N,) bool; crowd regions excuse detections but are no objects to learn.
        image_size: (H, W) of the frame.
        image_id: id in the data set, used by messages and results.

    Raises:
        DataError: a tensor has the wrong shape or dtype.

    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor
    is_crowd: Tensor
    image_size: tuple[int, int]
    image_id: int | None = None

    def __post_init__(self) -> None:
        count = len(self.labels)
        name = f"target of image {self.image_id}"
        _check(f"{name}: boxes", self.boxes, (count, 4), torch.float32)
        _check(f"{name}: labels", self.labels, (count,), torch.int64)
        _check(f"{name}: masks", self.masks, (count, *self.image_size), torch.bool)
        _check(f"{name}: is_crowd", self.is_crowd, (count,), torch.bool)

    @classmethod
    def empty(cls, image_size: tuple[int, int], image_id: int | None = None) -> Target:
        """Truth of an image without objects."""
        return cls(
            boxes=torch.zeros(0, 4),
            labels=torch.zeros(0, dtype=torch.int64),
            masks=torch.zeros(0, *image_size, dtype=torch.bool),
            is_crowd=torch.zeros(0, dtype=torch.bool),
            image_size=image_size,
            image_id=image_id,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Index) -> Target:
        chosen = _as_index(index, len(self))
        return replace(
            self,
            boxes=self.boxes[chosen],
            labels=self.labels[chosen],
            masks=self.masks[chosen],
            is_crowd=self.is_crowd[chosen],
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Target:
        """The same truth with its tensors on another device."""
        return replace(
            self,
            boxes=self.boxes.to(device, non_blocking=non_blocking),
            labels=self.labels.to(device, non_blocking=non_blocking),
            masks=self.masks.to(device, non_blocking=non_blocking),
            is_crowd=self.is_crowd.to(device, non_blocking=non_blocking),
        )


class MaskSource(Protocol):
    """Where the masks of N instances come from; they become dense (N, H, W) bool arrays only when asked."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor | slice) -> MaskSource: ...

    def runs(self) -> Iterator[Runs]:
        """The masks in order, each as the runs of its pixels in the original frame."""
        ...


class DenseMasks:
    """Masks that are already an (N, H, W) bool array."""

    def __init__(self, masks: Tensor) -> None:
        self._masks = masks

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, index: Tensor | slice) -> DenseMasks:
        return DenseMasks(self._masks[index])

    def runs(self) -> Iterator[Runs]:
        return map(mask_runs, self._masks)


class GridMasks:
    """Mask probabilities on the prototype grid, enlarged to the original frame when asked.

    Kept are the cells that decide what a mask is, not whole grids. The masks are those of `F.interpolate` of the whole
    grid (bilinear, align_corners=False) and ``> threshold``, but for pixels whose interpolated value is within 1e-6 of
    the threshold, where the rounding of either decides.

    Args:
        mask_probs: (N, h, w) float in [0, 1], cropped to the boxes, on the prototype grid of the whole image.
        image_size: (H, W) of the original image.
        threshold: a pixel belongs to the mask if its interpolated probability is above this; at least 0.

    """

    def __init__(self, mask_probs: Tensor, image_size: tuple[int, int], threshold: float = 0.5) -> None:
        self._grid_size = (mask_probs.shape[1], mask_probs.shape[2])
        self._windows = cut_windows(mask_probs, threshold=threshold)
        self.image_size = image_size
        self.threshold = threshold

    @classmethod
    def assemble(
        cls, prototypes: Tensor, mask_coefficients: Tensor, boxes: Tensor, image_size: tuple[int, int]
    ) -> GridMasks:
        """From prototypes, computed inside the boxes alone; arguments as in `protomask.ops.masks.assemble_windows`."""
        masks = cls(prototypes.new_zeros(0, *prototypes.shape[:2]), image_size)
        masks._windows = assemble_windows(prototypes, mask_coefficients, boxes)
        return masks

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: Tensor | slice) -> GridMasks:
        chosen = copy(self)
        chosen._windows = [self._windows[place] for place in torch.arange(len(self))[index].tolist()]
        return chosen

    def runs(self) -> Iterator[Runs]:
        rows, columns = (resized_line(*sizes) for sizes in zip(self._grid_size, self.image_size, strict=True))
        for start in range(0, len(self), _MASKS_AT_ONCE):
            windows = self._windows[start : start + _MASKS_AT_ONCE]
            yield from interpolate_runs(windows, rows, columns, self.image_size[0], threshold=self.threshold)


class RegionMasks:
    """Mask probabilities on a grid of each box, enlarged to the original frame when asked (Mask R-CNN).

    Args:
        mask_probs: (N, m, m) float32 in [0, 1].
        boxes: (N, 4) float32 xyxy, pixels of the original image.
        image_size: (H, W) of the original image.
        continuous: see `protomask.ops.masks.region_lines`; a probability of exactly a half belongs to such a mask.

    """

    def __init__(self, mask_probs: Tensor, boxes: Tensor, image_size: tuple[int, int], *, continuous: bool) -> None:
        self.mask_probs = mask_probs
        self.boxes = boxes
        self.image_size = image_size
        self.continuous = continuous

    def __len__(self) -> int:
        return len(self.mask_probs)

    def __getitem__(self, index: Tensor | slice) -> RegionMasks:
        return RegionMasks(self.mask_probs[index], self.boxes[index], self.image_size, continuous=self.continuous)

    def runs(self) -> Iterator[Runs]:
        # At least a half is more than the number before it.
        threshold = float(np.nextafter(np.float32(0.5), np.float32(0))) if self.continuous else 0.5
        for probs, (x1, y1, x2, y2) in zip(self.mask_probs.float().numpy(), self.boxes.tolist(), strict=True):
            rows, columns = region_lines((x1, y1, x2, y2), len(probs), self.image_size, continuous=self.continuous)
            window = GridWindow(0, 0, probs)
            yield from interpolate_runs([window], rows, columns, self.image_size[0], threshold=threshold)


class RunMasks:
    """Masks that are already runs of pixels in the original frame."""

    def __init__(self, masks: Sequence[Runs]) -> None:
        self._masks = masks

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, index: Tensor | slice) -> RunMasks:
        return RunMasks([self._masks[place] for place in torch.arange(len(self))[index].tolist()])

    def runs(self) -> Iterator[Runs]:
        return iter(self._masks)


class Instances:
    """What was found in one image, best first, in the frame of the original image.

    Args:
        boxes: (N, 4) float32, xyxy, pixels of the original image.
        labels: (N,) int64, 0-based, background excluded.
        class_scores: (N,) float32 in [0, 1]: how sure the class is.
        masks: (N, H, W) bool, or a `MaskSource` that makes them on demand.
        image_size: (H, W) of the original image.
        class_names: name of each label.
        mask_scores: (N,) float32 estimate of the mask's IoU, or None where the model has no such branch.

    Raises:
        DataError: a tensor has the wrong shape or dtype.

    """

    def __init__(
        self,
        *,
        boxes: Tensor,
        labels: Tensor,
        class_scores: Tensor,
        masks: Tensor | MaskSource,
        image_size: tuple[int, int],
        class_names: Sequence[str],
        mask_scores: Tensor | None = None,
    ) -> None:
        count = len(labels)
        self._dense: Tensor | None = None
        _check("boxes", boxes, (count, 4), torch.float32)
        _check("labels", labels, (count,), torch.int64)
        _check("class_scores", class_scores, (count,), torch.float32)
        if mask_scores is not None:
            _check("mask_scores", mask_scores, (count,), torch.float32)
        if isinstance(masks, Tensor):
            _check("masks", masks, (count, *image_size), torch.bool)
            self._dense = masks
            masks = DenseMasks(masks)
        elif len(masks) != count:
            raise DataError(f"masks: expected {count}, got {len(masks)}")
        if count and not 0 <= int(labels.min()) <= int(labels.max()) < len(class_names):
            raise DataError(
                f"labels: expected 0..{len(class_names) - 1} for {len(class_names)} class names, "
                f"got {int(labels.min())}..{int(labels.max())}"
            )
        self.boxes = boxes
        self.labels = labels
        self.class_scores = class_scores
        self.mask_scores = mask_scores
        self.image_size = image_size
        self.class_names = tuple(class_names)
        self._mask_source: MaskSource = masks

    @property
    def scores(self) -> Tensor:
        """(N,) float32 ranking score: class score times mask score where the model has one."""
        return self.class_scores if self.mask_scores is None else self.class_scores * self.mask_scores

    @property
    def masks(self) -> Tensor:
        """(N, H, W) bool in the original frame, made on first use and kept."""
        if self._dense is None:
            self._dense = self._paint(self._mask_source)
        return self._dense

    def iter_masks(self) -> Iterator[Tensor]:
        """The masks in order as (n, H, W) bool chunks whose memory does not grow with N."""
        height, width = self.image_size
        step = max(1, _CHUNK_BYTES // max(height * width, 1))
        for start in range(0, len(self), step):
            yield self._paint(self._mask_source[start : start + step])

    def _paint(self, source: MaskSource) -> Tensor:
        masks = torch.zeros(len(source), *self.image_size, dtype=torch.bool)
        for mask, own in zip(masks, source.runs(), strict=True):
            top, left, part = runs_to_window(own, self.image_size[0])
            mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        return masks

    def runs(self) -> Iterator[Runs]:
        """The masks in order, each as the runs of its pixels, see `protomask.ops.masks.Runs`."""
        return self._mask_source.runs()

    def windows(self) -> Iterator[MaskWindow]:
        """The masks in order, each on the part of the original frame that it occupies: memory grows with their area."""
        for runs in self.runs():
            yield runs_to_window(runs, self.image_size[0])

    def rle(self) -> list[dict[str, Any]]:
        """COCO run-length encoding of every mask: ``{"size": [H, W], "counts": str}``."""
        runs = self.runs()
        codes: list[dict[str, Any]] = []
        while some := list(islice(runs, _MASKS_AT_ONCE)):
            codes += [dict(rle) for rle in encode_runs(some, self.image_size)]
        return codes

    def polygons(self) -> list[list[Polygon]]:
        """Exact outlines of every mask: its separate parts, each with its holes, in pixels of the original image."""
        return [mask_to_polygons(mask, offset=(left, top)) for top, left, mask in self.windows()]

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Instances]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: Index) -> Instances:
        chosen = _as_index(index, len(self))
        return Instances(
            boxes=self.boxes[chosen],
            labels=self.labels[chosen],
            class_scores=self.class_scores[chosen],
            mask_scores=None if self.mask_scores is None else self.mask_scores[chosen],
            masks=self._mask_source[chosen],
            image_size=self.image_size,
            class_names=self.class_names,
        )

    def of_classes(self, class_names: Sequence[str]) -> Instances:
        """The instances of these classes alone, their labels counted in this order.

        Raises:
            ConfigError: a class that the model does not know.

        """
        unknown = [name for name in class_names if name not in self.class_names]
        if unknown:
            raise ConfigError(f"class_names: expected names of the model's classes, got {', '.join(unknown)}")
        new_label = torch.full((len(self.class_names),), -1)
        new_label[[self.class_names.index(name) for name in class_names]] = torch.arange(len(class_names))
        chosen = self[new_label[self.labels] >= 0]
        return Instances(
            boxes=chosen.boxes,
            labels=new_label[chosen.labels],
            class_scores=chosen.class_scores,
            mask_scores=chosen.mask_scores,
            masks=chosen._mask_source,
            image_size=self.image_size,
            class_names=class_names,
        )

    def __repr__(self) -> str:
        height, width = self.image_size
        found = ", ".join(
            f"{self.class_names[label]} {score:.2f}"
            for label, score in zip(self.labels[:5].tolist(), self.scores[:5].tolist(), strict=True)
        )
        more = ", ..." if len(self) > 5 else ""
        return f"Instances({len(self)} in {width}x{height}: {found}{more})"

    def to_coco(self, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """COCO result rows (https://cocodataset.org/#format-results).

        ``score`` is the ranking score; ``class_score`` is added where the two differ, because COCO ranks boxes by the
        class score alone.

        Args:
            image_id: id of the image in the data set.
            category_ids: category id of each label; label + 1 when not given.

        """
        ids = category_ids if category_ids is not None else range(1, len(self.class_names) + 1)
        if len(ids) < len(self.class_names):
            raise DataError(f"category_ids: expected one for each of {len(self.class_names)} classes, got {len(ids)}")
        rows = []
        columns = zip(
            self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), self.class_scores.tolist(), self.rle(),
            strict=True,
        )  # fmt: skip
        for (x1, y1, x2, y2), label, score, class_score, rle in columns:
            row: dict[str, Any] = {
                "image_id": image_id,
                "category_id": ids[label],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
                "segmentation": rle,
            }
            if self.mask_scores is not None:
                row["class_score"] = class_score
            rows.append(row)
        return rows

    def to_supervision(self) -> Any:
        """The same as `supervision.Detections`, with ``class_name`` in its data."""
        import supervision as sv

        return sv.Detections(
            xyxy=self.boxes.cpu().numpy().astype(np.float32).reshape(-1, 4),
            mask=self.masks.cpu().numpy(),
            confidence=self.scores.cpu().numpy(),
            class_id=self.labels.cpu().numpy().astype(int),
            data={"class_name": np.array([self.class_names[label] for label in self.labels.tolist()], dtype=str)},
        )

    def draw(self, image: np.ndarray | Tensor | Any, **options: Any) -> np.ndarray:
        """The image with masks, boxes, classes and scores drawn on it.

        Args:
            image: (H, W, 3) uint8 RGB array, (3, H, W) uint8 tensor, PIL image or a path: the image that was predicted.
            options: see `protomask.inference.draw.draw_instances`.

        Returns:
            (H, W, 3) uint8 RGB.

        """
        # The drawing code lies above this layer; a result still knows how to show itself.
        from importlib import import_module

        drawn: np.ndarray = import_module("protomask.inference.draw").draw_instances(image, self, **options)
        return drawn
