"""Foreign files of Mask R-CNN: which codebase one comes from, and which network it holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from protomask.checkpoints import detectron2, maskrcnn_benchmark, mmdet_rcnn, torchvision_rcnn
from protomask.errors import CheckpointError
from protomask.models.rcnn.conventions import Conventions
from protomask.models.zoo import COCO_CLASS_NAMES


@dataclass(frozen=True, kw_only=True)
class RCNNFormat:
    """One codebase whose files can be read.

    Attributes:
        name: of the codebase.
        signature: keys that its files have and no other format's have all of.
        rename: tensors of a file under our names, the background first in each layer that has a row for it.
        conventions: of a file, from its name (without folders) and the text of its config (None where it has none).

    """

    name: str
    signature: tuple[str, ...]
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    conventions: Callable[[str, str | None], Conventions]

    def recognises(self, keys: Iterable[str]) -> bool:
        """Whether a file with these keys is of this format."""
        return set(keys).issuperset(self.signature)


RCNN_FORMATS: tuple[RCNNFormat, ...] = tuple(
    RCNNFormat(name=name, signature=module.SIGNATURE, rename=module.rename, conventions=module.conventions)
    for name, module in (
        ("torchvision", torchvision_rcnn),
        ("maskrcnn-benchmark", maskrcnn_benchmark),
        ("detectron2", detectron2),
        ("mmdetection", mmdet_rcnn),
    )
)


@dataclass(frozen=True, kw_only=True)
class RCNNArchitecture:
    """What the tensors of a Mask R-CNN tell about the network they belong to.

    Attributes:
        backbone: of the pyramid.
        version: "v2" is torchvision's newer one: batch norm in the pyramid and the heads, a deeper RPN and box head.
        mask_iou_head: it is a Mask Scoring R-CNN.
        num_classes: without the background.

    """

    backbone: Literal["resnet50", "resnet101"]
    version: Literal["v1", "v2"]
    mask_iou_head: bool
    num_classes: int

    @property
    def options(self) -> dict[str, Any]:
        """Fields of `protomask.models.rcnn.config.RCNNConfig` that the tensors settle."""
        return {
            "backbone": self.backbone,
            "convolutional_heads": self.version == "v2",
            "mask_iou": self.mask_iou_head,
        }


_BACKBONES: dict[int, Literal["resnet50", "resnet101"]] = {6: "resnet50", 23: "resnet101"}


def rcnn_architecture(tensors: Mapping[str, Tensor], *, source: str) -> RCNNArchitecture:
    """The network that tensors under our names belong to.

    Args:
        tensors: as `RCNNFormat.rename` returns them.
        source: what to call the file in errors.

    Raises:
        CheckpointError: a backbone other than ResNet-50 or ResNet-101, or no box predictor.

    """
    matches = [re.match(r"backbone\.body\.layer3\.(\d+)\.conv3\.weight", key) for key in tensors]
    blocks = len({match[1] for match in matches if match})
    if blocks not in _BACKBONES:
        expected = " or ".join(f"{count} ({name})" for count, name in _BACKBONES.items())
        raise CheckpointError(
            f"{source}: expected {expected} bottleneck blocks in the backbone's layer3, found {blocks}"
        )
    if "box_predictor.cls_score.weight" not in tensors:
        raise CheckpointError(f"{source}: expected a layer that predicts classes, box_predictor.cls_score, found none")
    return RCNNArchitecture(
        backbone=_BACKBONES[blocks],
        version="v2" if "rpn_head.conv.1.0.weight" in tensors else "v1",
        mask_iou_head="mask_iou_head.iou.weight" in tensors,
        num_classes=len(tensors["box_predictor.cls_score.weight"]) - 1,
    )


def coco_names(num_classes: int) -> tuple[str, ...] | None:
    """Class names of a file that has none and this many classes: COCO's 80, or torchvision's 90 with unused ones."""
    return {80: COCO_CLASS_NAMES, 90: torchvision_rcnn.coco_id_names()}.get(num_classes)
