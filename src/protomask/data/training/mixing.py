"""Training images made of several images: mosaic and copy-paste."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import masks_to_boxes

from protomask.data.coco.dataset import CocoDataset
from protomask.data.training.augmentation import AugmentationConfig
from protomask.data.training.transforms import MIN_SIDE, TrainTransform
from protomask.ops.geometry import Geometry
from protomask.structures.target import Target

Sample = tuple[Tensor, Target]

_MARGIN = 0.25  # smallest distance of the meeting point of a mosaic from the border, as a share of the side


class TrainingImages:
    """The images of a data set as training sees them: augmented, and mixed where the augmentation says so.

    Random numbers come from torch's global generator.

    Args:
        dataset: images and truth, not augmented.
        augmentation: probabilities and strengths.
        geometry: geometry of the model.
        shown: indices of the images that a pass shows, some of them perhaps several times; each once by default.

    """

    def __init__(
        self,
        dataset: CocoDataset,
        augmentation: AugmentationConfig,
        geometry: Geometry,
        *,
        shown: NDArray[np.int64] | None = None,
    ) -> None:
        self.dataset = dataset
        self.shown = np.arange(len(dataset)) if shown is None else shown
        self.augmentation = augmentation
        self.transform = TrainTransform(augmentation, geometry)
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.shown)

    def order(self, random: np.random.Generator) -> NDArray[np.int64]:
        """See `protomask.data.training.loader.TrainingDataset.order`."""
        return self.dataset.order(random, self.shown)

    @property
    def is_remote(self) -> bool:
        """See `CocoDataset.is_remote`."""
        return self.dataset.is_remote

    def draw(self, index: int, *, scale: float = 1.0, mixes: bool = True, recent: Sequence[int] = ()) -> Sample:
        """One training sample.

        Args:
            index: place of the image in a pass; it is the first of several if it is mixed.
            scale: size of the network frame relative to the model's, see `TrainTransform.frame`.
            mixes: whether it may be mixed with other images.
            recent: places of the images to choose those from; any by default.

        Returns:
            image (3, h, w) uint8 RGB and its truth in that frame.

        """
        augmentation = self.augmentation
        mosaic, paste = torch.rand(2).tolist() if mixes and (augmentation.mosaic or augmentation.copy_paste) else (1, 1)
        if mosaic < augmentation.mosaic:
            sample = self._mosaic(index, scale, recent)
        else:
            sample = self.transform(*self._load(index), scale=scale)
        if paste < augmentation.copy_paste:
            other = self.transform.window(*self._load(self._other(recent)), sample[1].image_size, scale)
            sample = paste_objects(sample, other)
        return sample

    def _load(self, place: int) -> Sample:
        """The image at a place, decoded no larger than any augmentation needs, or as it was kept."""
        index = int(self.shown[place])
        sample = self._kept.pop(index, None)
        if sample is None:
            sample = self.dataset.load_sample(index, self.transform.enough(self.dataset.image_size(index)))
        if self.augmentation.mix_from:
            self._kept[index] = sample  # now the last to be forgotten
            if len(self._kept) > self.augmentation.mix_from:
                del self._kept[next(iter(self._kept))]
        return sample

    def _other(self, recent: Sequence[int]) -> int:
        place = int(torch.randint(len(recent) or len(self), ()))
        return recent[place] if recent else place

    def _mosaic(self, index: int, scale: float, recent: Sequence[int]) -> Sample:
        """Four images around a point, each with large-scale jitter; the truth has the id of the first."""
        first = self._load(index)
        height, width = self.transform.frame(first[1].image_size, scale)
        y, x = (_MARGIN + (1 - 2 * _MARGIN) * torch.rand(2)).tolist()
        middle_y, middle_x = round(y * height), round(x * width)
        canvas = first[0].new_zeros(3, height, width)
        targets = []
        for number, (top, bottom, left, right) in enumerate(
            (rows + columns)
            for rows in ((0, middle_y), (middle_y, height))
            for columns in ((0, middle_x), (middle_x, width))
        ):
            source = first if number == 0 else self._load(self._other(recent))
            image, target = self.transform.window(*source, (bottom - top, right - left), scale)
            canvas[:, top:bottom, left:right] = image
            masks = target.masks.new_zeros(len(target), height, width)
            masks[:, top:bottom, left:right] = target.masks
            shift = target.boxes.new_tensor([left, top, left, top])
            targets.append(replace(target, boxes=target.boxes + shift, masks=masks, image_size=(height, width)))
        return canvas, join_targets(targets)


def join_targets(targets: list[Target]) -> Target:
    """The objects of several targets of one frame, with the id of the first."""
    return replace(
        targets[0],
        boxes=torch.cat([target.boxes for target in targets]),
        labels=torch.cat([target.labels for target in targets]),
        masks=torch.cat([target.masks for target in targets]),
        is_crowd=torch.cat([target.is_crowd for target in targets]),
        mask_weights=None
        if all(target.mask_weights is None for target in targets)
        else torch.cat([target.mask_trust for target in targets]),
    )


def paste_objects(sample: Sample, other: Sample) -> Sample:
    """Paste a random part of the objects of one image over another of the same size (Ghiasi et al. 2021, section 3).

    What they hide is cut from the objects below, which are dropped where (nearly) nothing of them is left. Crowds are
    not pasted, nor objects whose masks cannot be trusted at all.
    """
    image, target = sample
    source, pasted = other
    pasted = pasted[~pasted.is_crowd & (pasted.mask_trust > 0)]
    if len(pasted) == 0:
        return sample
    count = int(torch.randint(1, len(pasted) + 1, ()))
    pasted = pasted[torch.randperm(len(pasted))[:count]]
    cover = pasted.masks.any(dim=0)
    visible = target.masks & ~cover
    hidden = (visible != target.masks).flatten(1).any(dim=1)
    left = visible.flatten(1).any(dim=1)
    boxes = target.boxes.clone()
    cut = hidden & left
    if bool(cut.any()):
        # masks_to_boxes gives the last pixel, boxes end behind it.
        boxes[cut] = masks_to_boxes(visible[cut]) + boxes.new_tensor([0, 0, 1, 1])
    keep = left & ((boxes[:, 2:] - boxes[:, :2]) > MIN_SIDE).all(dim=1)
    below = replace(target, boxes=boxes, masks=visible)[keep]
    return torch.where(cover, source, image), join_targets([below, pasted])
