"""Official files of FCIS: which network one holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from protomask.checkpoints.foreign import ForeignFile
from protomask.checkpoints.io import build_fitting, fill_counters, load_exactly
from protomask.checkpoints.mxnet_fcis import CONVENTIONS, rename
from protomask.errors import CheckpointError
from protomask.models.fcis.config import GROUPS, FCISConfig
from protomask.models.network import Network
from protomask.models.zoo import COCO_CLASS_NAMES, PASCAL_CLASS_NAMES, zoo_entry

_MODEL_OF_BLOCKS = {6: "fcis_resnet50", 23: "fcis_resnet101"}
_NAMES = {len(names): names for names in (COCO_CLASS_NAMES, PASCAL_CLASS_NAMES)}
_ANCHOR_SIZES = {12: (64.0, 128.0, 256.0, 512.0), 9: (128.0, 256.0, 512.0)}
"""Sizes by the number of anchors in a cell: those of COCO, and of Pascal VOC."""


def load(path: Path, file: ForeignFile, model: str | None, class_names: Sequence[str] | None) -> Network:
    """The network of an official file, in evaluation mode and in the conventions it was trained in.

    Raises:
        CheckpointError: no model that fits, or tensors that do not fit it.

    """
    tensors = rename(file.tensors)
    source = f"{path} (of the official FCIS)"
    blocks = len({key.split(".")[3] for key in tensors if key.startswith("backbone.body.layer3.")})
    name = model if model is not None else _MODEL_OF_BLOCKS.get(blocks)
    if name is None:
        expected = " or ".join(f"{count} ({known})" for count, known in _MODEL_OF_BLOCKS.items())
        raise CheckpointError(f"{source}: expected {expected} blocks in res4, found {blocks}")
    if not isinstance(zoo_entry(name).preset(), FCISConfig):
        raise CheckpointError(f"{source}: expected an FCIS of the zoo to load it as, got model {name}")
    classes = len(tensors["score_maps.weight"]) // (2 * GROUPS**2) - 1
    names = class_names or _NAMES.get(classes)
    if names is not None and len(names) != classes:
        raise CheckpointError(f"{source}: expected {classes} class names, got {len(names)}")
    if classes < 1:
        raise CheckpointError(f"{source}: expected the maps of at least one class and the background")
    anchors = len(tensors["rpn.logits.weight"]) // 2
    network = build_fitting(
        name,
        {key: tuple(tensor.shape) for key, tensor in tensors.items()},
        source=f"{source} as {name}",
        class_names=names,
        num_classes=classes,
        **CONVENTIONS,
        **({"anchor_sizes": _ANCHOR_SIZES[anchors]} if anchors in _ANCHOR_SIZES else {}),
    )
    load_exactly(network, fill_counters(network, tensors), source=f"{source} as {name}")
    return network.eval()
