"""Exported files behind the same `predict`: ONNX Runtime and OpenVINO instead of PyTorch.

`ExportInfo` is what such a file says of itself; `protomask.export` writes it and docs/export.md tells the contract.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import local
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from protomask.errors import CheckpointError, ConfigError, MissingExtraError
from protomask.inference.base import Clock, ImagePredictor
from protomask.models import families
from protomask.models.config import ModelConfig
from protomask.structures.geometry import ImageGeometry, ShortSideGeometry
from protomask.structures.instances import GridMasks, Instances, MaskSource, RegionMasks

METADATA_KEY = "protomask"
"""Of the JSON object in an ONNX file's metadata and in an OpenVINO file's rt_info."""
FORMAT_VERSION = "1"
BAKED_OPTIONS = ("nms", "iou_threshold", "candidate_threshold", "max_detections")
"""Options of `predict` that an exported file has settled."""
EXPORTED_SUFFIXES = (".onnx", ".xml")
Outputs = dict[str, NDArray[Any]]
_HINTS = {"float32": "f32", "bf16": "bf16", "fp16": "f16"}


@dataclass(frozen=True, kw_only=True)
class ExportInfo:
    """What an exported file says of itself.

    Attributes:
        config: of the network, with the thresholds that the file has.
        class_names: name of each label.
        mask_frame: what a mask's grid covers: "grid" the whole image, "region" the box of the instance.
        input_size: (H, W) of the only size the file takes; None where it takes any.
        precision: of the weights and the arithmetic in the file, "float32" or "int8".
        licence: of the weights, SPDX name; None where it is not known.
        provenance: where the weights come from; plain JSON types.
        protomask_version: that wrote the file.

    """

    config: ModelConfig
    class_names: tuple[str, ...]
    mask_frame: Literal["grid", "region"]
    input_size: tuple[int, int] | None = None
    precision: Literal["float32", "int8"] = "float32"
    licence: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    protomask_version: str

    def to_json(self) -> str:
        """One JSON object; ``thresholds`` repeats the part of ``config`` that every reader needs."""
        return json.dumps(
            {
                "format_version": FORMAT_VERSION,
                "protomask_version": self.protomask_version,
                "family": families.family_of(self.config).name,
                "config": self.config.to_dict(),
                "class_names": list(self.class_names),
                "thresholds": {name: getattr(self.config, name) for name in BAKED_OPTIONS},
                "mask_frame": self.mask_frame,
                "input_size": self.input_size,
                "precision": self.precision,
                "licence": self.licence,
                "provenance": self.provenance,
            }
        )

    @classmethod
    def from_json(cls, text: str | None, source: str) -> ExportInfo:
        """Inverse of `to_json`.

        Raises:
            CheckpointError: not written by protomask, or by a version that this one cannot read.

        """
        if text is None:
            raise CheckpointError(
                f"{source}: expected a file made by protomask export, found no {METADATA_KEY!r} entry"
            )
        try:
            values = json.loads(text)
            if values["format_version"] != FORMAT_VERSION:
                raise CheckpointError(
                    f"{source}: expected format version {FORMAT_VERSION}, got {values['format_version']}"
                )
            return cls(
                config=families.family(values["family"]).config.from_dict(values["config"]),
                class_names=tuple(values["class_names"]),
                input_size=None if values["input_size"] is None else tuple(values["input_size"]),
                **{name: values[name] for name in ("mask_frame", "precision", "licence", "provenance")},
                protomask_version=values["protomask_version"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{source}: its {METADATA_KEY!r} entry cannot be read: {error!r}") from error


class ExportedPredictor(ImagePredictor):
    """A file of `protomask export`, one image at a time on the CPU.

    Args:
        info: what the file says of itself.
        source: its path.

    """

    def __init__(self, info: ExportInfo, source: str) -> None:
        self.info = info
        self.source = source

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label."""
        return self.info.class_names

    @property
    def config(self) -> ModelConfig:
        """Of the network."""
        return self.info.config

    @property
    def most_detections(self) -> int:
        """No ``max_detections`` of one image can be above this: the file has settled it."""
        return self.config.max_detections

    @property
    def device(self) -> torch.device:
        """Where the file runs."""
        return torch.device("cpu")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(source={self.source!r})"

    @abstractmethod
    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """(1, 3, H, W) uint8 RGB to the outputs of the file by name; from any thread."""

    def predict_batch(
        self, images: Sequence[Tensor], *, timings: dict[str, float] | None = None, **options: Any
    ) -> list[Instances]:
        """See `ImagePredictor.predict_batch`; options that the file has settled cannot be changed.

        Raises:
            ConfigError: an option is out of range or differs from the file's.

        """
        score_threshold, max_detections = self._check_options(**options)
        clock = Clock(timings, self.device)
        found = []
        for image in images:
            prepared = in_file_size(image.cpu(), self.info)
            clock.stage("preprocess")
            outputs = self.run(prepared[None].numpy())
            clock.stage("network")
            size, given = (image.shape[1], image.shape[2]), (prepared.shape[1], prepared.shape[2])
            found.append(self._read(outputs, size, given, score_threshold, max_detections))
            clock.stage("postprocess")
        return found

    def _check_options(
        self, *, score_threshold: float = 0.0, max_detections: int | None = None, **settled: Any
    ) -> tuple[float, int | None]:
        if not 0 <= score_threshold <= 1:
            raise ConfigError(f"score_threshold: expected a number from 0 to 1, got {score_threshold}")
        limit = self.info.config.max_detections
        if max_detections is not None and not 1 <= max_detections <= limit:
            raise ConfigError(f"max_detections: {self.source} was exported for 1 to {limit}, got {max_detections}")
        for name, value in settled.items():
            if name not in BAKED_OPTIONS:
                raise ConfigError(f"{name}: no such option")
            own = getattr(self.info.config, name)
            if value is not None and value != own:
                raise ConfigError(
                    f"{name}: {self.source} was exported with {own}, got {value}; export the model again for another"
                )
        return score_threshold, max_detections

    def _read(
        self, outputs: Outputs, size: tuple[int, int], given: tuple[int, int], score_threshold: float,
        max_detections: int | None,
    ) -> Instances:  # fmt: skip
        # Rows of no score are padding.
        rows = np.flatnonzero(outputs["class_scores"] > score_threshold)[:max_detections]
        chosen = {name: torch.from_numpy(values[rows]) for name, values in outputs.items()}
        scale = [float(size[axis]) / given[axis] for axis in (1, 0)]
        boxes = chosen["boxes"] * torch.tensor([*scale, *scale])
        config = self.info.config
        masks: MaskSource
        if self.info.mask_frame == "region":
            continuous = families.family_of(config).continuous_masks(config)
            masks = RegionMasks(chosen["masks"], boxes, size, continuous=continuous)
        else:
            masks = GridMasks(chosen["masks"], size)
        return Instances(
            boxes=clip_boxes_to_image(boxes, size),
            labels=chosen["labels"],
            class_scores=chosen["class_scores"],
            masks=masks,
            image_size=size,
            class_names=self.class_names,
            mask_scores=chosen.get("mask_scores"),
        )


class OnnxPredictor(ExportedPredictor):
    """An exported .onnx file in ONNX Runtime.

    Args:
        path: the file.
        threads: that the runtime may use; its own choice (all cores) when not given.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        CheckpointError: not an ONNX file, or not one made by protomask.

    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("an .onnx file needs ONNX Runtime: pip install 'protomask[onnx]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        try:
            self._session = onnxruntime.InferenceSession(_existing(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own errors share no class but Exception
            raise CheckpointError(f"{path}: ONNX Runtime cannot read it: {_first_line(error)}") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        super().__init__(ExportInfo.from_json(metadata.get(METADATA_KEY), str(path)), str(path))
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """See `ExportedPredictor.run`."""
        return dict(zip(self._names, self._session.run(self._names, {"image": image}), strict=True))


class OpenVinoPredictor(ExportedPredictor):
    """An exported .xml file, and the .bin beside it, in OpenVINO.

    Args:
        path: the .xml file.
        precision: of the arithmetic; float32 gives the results of PyTorch.
        threads: that the runtime may use; its own choice (all cores) when not given.

    Raises:
        ConfigError: unknown precision.
        MissingExtraError: OpenVINO is not installed.
        CheckpointError: not an OpenVINO file, or not one made by protomask.

    """

    def __init__(
        self, path: str | Path, *, precision: Literal["float32", "bf16", "fp16"] = "float32", threads: int | None = None
    ) -> None:
        try:
            import openvino
        except ImportError as error:
            raise MissingExtraError("an .xml file needs OpenVINO: pip install 'protomask[openvino]'") from error
        if precision not in _HINTS:
            raise ConfigError(f"precision: expected one of {', '.join(_HINTS)}, got {precision!r}")
        hints: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            hints["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        try:
            model = core.read_model(_existing(path))
            text = model.get_rt_info(METADATA_KEY).astype(str) if model.has_rt_info(METADATA_KEY) else None
            info = ExportInfo.from_json(text, str(path))
            size = _one_size(info)
            if size is not None:
                model.reshape([1, 3, *size])  # what depends on it is worked out now
            self._compiled = core.compile_model(model, "CPU", hints)
        except RuntimeError as error:
            raise CheckpointError(f"{path}: OpenVINO cannot read it: {_first_line(error)}") from error
        super().__init__(info, str(path))
        self._requests = local()

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """See `ExportedPredictor.run`; the arrays are those of the next call of the same thread, too."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self._compiled.create_infer_request()
        results = self._requests.own.infer({"image": image}, share_inputs=True, share_outputs=True)
        return {output.any_name: results[output] for output in self._compiled.outputs}


def load_exported(
    path: str | Path, *, precision: Literal["float32", "bf16", "fp16"] = "float32"
) -> OnnxPredictor | OpenVinoPredictor:
    """The runtime for a file of `protomask export`, told by its ending.

    Args:
        path: .onnx or .xml file.
        precision: of the arithmetic, see `OpenVinoPredictor`.

    Raises:
        ConfigError: unknown precision; ONNX Runtime cannot change the precision.
        CheckpointError: missing file, or not one made by protomask.
        MissingExtraError: the runtime is not installed.

    """
    if Path(path).suffix == ".xml":
        return OpenVinoPredictor(path, precision=precision)
    if precision != "float32":
        raise ConfigError(
            f"precision: expected float32 for an .onnx file, got {precision!r}; an OpenVINO file has more"
        )
    return OnnxPredictor(path)


def in_file_size(image: Tensor, info: ExportInfo) -> Tensor:
    """An image in the size in which a file shall get it: resized by PyTorch where that is faster.

    Args:
        image: (3, H, W) uint8 RGB on the CPU.
        info: of the file.

    Returns:
        (3, h, w) uint8 RGB.

    """
    geometry = families.family_of(info.config).geometry(info.config)
    if isinstance(geometry, ShortSideGeometry):
        return image if geometry.resize_method == "float" else geometry.resize(image)
    return image if _one_size(info) is None else geometry.resize(image).round().to(torch.uint8)


def _one_size(info: ExportInfo) -> tuple[int, int] | None:
    """(H, W) in which a file gets every image: where it takes no other, or the resize has whole grey levels."""
    geometry = families.family_of(info.config).geometry(info.config)
    if isinstance(geometry, ImageGeometry) and (geometry.antialias or geometry.resize_method == "opencv"):
        return geometry.image_size
    return info.input_size


def _existing(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file")
    return Path(path)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
