"""Weights files of other codebases: one table of the formats that can be read, by what their tensors are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from protomask.checkpoints import fcis_format, mmdet_yolact, mxnet_fcis, official_yolact
from protomask.checkpoints.foreign import ForeignFile, read_foreign
from protomask.checkpoints.io import build_fitting, fill_counters, load_exactly
from protomask.checkpoints.rcnn_formats import (
    RCNN_FORMATS,
    RCNNArchitecture,
    RCNNFormat,
    coco_names,
    rcnn_architecture,
)
from protomask.errors import CheckpointError, ProtomaskError
from protomask.models.families import RCNN, family_of
from protomask.models.network import Network
from protomask.models.zoo import ZOO, ZooEntry, zoo_entry


@dataclass(frozen=True, kw_only=True)
class ForeignFormat:
    """One kind of file that can be read.

    Attributes:
        name: of the codebase.
        recognises: whether these are the tensors of such a file.
        load: (path, content, zoo name or None, class names or None) to a network in evaluation mode.

    """

    name: str
    recognises: Callable[[Mapping[str, Tensor]], bool]
    load: Callable[[Path, ForeignFile, str | None, Sequence[str] | None], Network]


def load_foreign(
    path: str | Path,
    *,
    model: str | None = None,
    class_names: Sequence[str] | None = None,
) -> Network:
    """Read a file of another codebase into a new network, in evaluation mode.

    Args:
        path: ``.pth`` of the official YOLACT and Mask Scoring R-CNN, of MMDetection's YOLACT, Mask R-CNN and Mask
            Scoring R-CNN, of maskrcnn-benchmark, of torchvision's Mask R-CNN, ``.pkl`` of Detectron2's, or ``.params``
            of the official FCIS.
        model: zoo name; if not given, the name of an official YOLACT file says it (``yolact_base_54_800000.pth``),
            and the tensors of all others.
        class_names: of a model trained on classes other than COCO's, where the file does not hold them itself.

    Raises:
        CheckpointError: missing or unreadable file, no model that fits, or keys that do not fit.

    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file")
    if model is not None:
        zoo_entry(model)
    file = read_foreign(path)
    origin = next(known for known in FORMATS if known.recognises(file.tensors))
    try:
        return origin.load(path, file, model, class_names)
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:
        if isinstance(error, ProtomaskError):
            raise
        # A tensor that a key map rolls, cuts or joins has not the shape that it has in such files.
        raise CheckpointError(
            f"{path}: not a weights file of {origin.name}: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        ) from error


def _load_official_yolact(
    path: Path, file: ForeignFile, model: str | None, class_names: Sequence[str] | None
) -> Network:
    """The network of the zoo that the file name or the caller says."""
    name = model if model is not None else model_from_filename(path.name)
    tensors = official_yolact.rename(file.tensors)
    source = f"{path} as {name} ({_official(zoo_entry(name))})"
    network = build_fitting(name, _shapes(tensors), source=source, class_names=class_names)
    load_exactly(network, fill_counters(network, tensors), source=source)
    return network.eval()


def _load_mmdet_yolact(path: Path, file: ForeignFile, model: str | None, class_names: Sequence[str] | None) -> Network:
    """The network of the zoo with MMDetection's conventions."""
    name = model if model is not None else mmdet_yolact.model_of(file.tensors)
    if name is None:
        known = ", ".join(mmdet_yolact.MODEL_OF_BLOCKS.values())
        raise CheckpointError(
            f"{path}: cannot tell the model from the blocks of its backbone, expected those of one of {known}; "
            "say which with the setting model"
        )
    tensors = mmdet_yolact.rename(file.tensors)
    names = class_names or _fitting_names(file, len(tensors.get("semantic.bias", ())))
    source = f"{path} as {name} (of MMDetection)"
    network = build_fitting(name, _shapes(tensors), source=source, class_names=names, **mmdet_yolact.CONVENTIONS)
    load_exactly(network, fill_counters(network, tensors), source=source)
    return network.eval()


def _load_rcnn(
    origin: RCNNFormat, path: Path, file: ForeignFile, model: str | None, class_names: Sequence[str] | None
) -> Network:
    """A Mask R-CNN or Mask Scoring R-CNN in the conventions it was trained in."""
    tensors = origin.rename(file.tensors)
    source = f"{path} (of {origin.name})"
    found = rcnn_architecture(tensors, source=source)
    name = model if model is not None else _rcnn_model(found, source)
    if family_of(zoo_entry(name).preset()) is not RCNN:
        raise CheckpointError(f"{source}: expected a Mask R-CNN of the zoo to load it as, got model {name}")
    names = class_names or _fitting_names(file, found.num_classes) or coco_names(found.num_classes)
    if names is not None and len(names) != found.num_classes:
        raise CheckpointError(f"{source}: expected {found.num_classes} class names, got {len(names)}")
    network = build_fitting(
        name,
        _shapes(tensors),
        source=f"{source} as {name}",
        class_names=names,
        num_classes=found.num_classes,
        conventions=origin.conventions(path.name, file.config_text),
    )
    load_exactly(network, fill_counters(network, tensors), source=f"{source} as {name}")
    return network.eval()


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in tensors.items()}


def _fitting_names(file: ForeignFile, num_classes: int) -> tuple[str, ...] | None:
    """Class names that a file holds, unless they are not those of its tensors."""
    return file.class_names if file.class_names and len(file.class_names) == num_classes else None


def _rcnn_model(found: RCNNArchitecture, source: str) -> str:
    """Zoo name of an architecture."""
    for name, entry in ZOO.items():
        preset = entry.preset()
        values = preset.to_dict()
        if family_of(preset) is RCNN and all(values[option] == value for option, value in found.options.items()):
            return name
    mask_iou = "with" if found.mask_iou_head else "without"
    raise CheckpointError(
        f"{source}: no model of the zoo has a {found.backbone} and {found.version} heads {mask_iou} mask IoU head"
    )


def _official(entry: ZooEntry) -> str:
    return f"official name {entry.official_name}" if entry.official_name else "no official name"


def model_from_filename(filename: str) -> str:
    """Zoo name from an official file name such as ``yolact_base_54_800000.pth``.

    Raises:
        CheckpointError: the name says nothing; the message says how to name the model.

    """
    stem = filename.partition(".")[0]
    names = {entry.official_name: name for name, entry in ZOO.items() if entry.official_name}
    names |= {name: name for name in ZOO}
    fitting = [official for official in names if stem == official or stem.startswith(f"{official}_")]
    if not fitting:
        raise CheckpointError(
            f"{filename}: cannot tell the model from the file name; say which with the setting model, "
            f"one of {', '.join(ZOO)}"
        )
    return names[max(fitting, key=len)]


FORMATS: tuple[ForeignFormat, ...] = (
    *(
        ForeignFormat(name=known.name, recognises=known.recognises, load=partial(_load_rcnn, known))
        for known in RCNN_FORMATS
    ),
    ForeignFormat(name="official FCIS", recognises=mxnet_fcis.recognises, load=fcis_format.load),
    ForeignFormat(name="mmdetection YOLACT", recognises=mmdet_yolact.recognises, load=_load_mmdet_yolact),
    # Whatever no other format has: its file name or the caller says what it is, and the keys that differ are listed.
    ForeignFormat(name="official YOLACT", recognises=lambda tensors: True, load=_load_official_yolact),
)
"""The first that recognises a file reads it."""
