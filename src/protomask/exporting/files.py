"""From a model to one verified file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from torch import Tensor

from protomask import __version__
from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError, DataError
from protomask.exporting.graphs import OUTPUT_NAMES, Candidates, export_graph, wrap
from protomask.exporting.onnx import write_onnx
from protomask.exporting.openvino import write_openvino
from protomask.exporting.verify import Agreement, compare
from protomask.images.decode import Pixels
from protomask.models.config import ModelConfig
from protomask.models.families import family_of
from protomask.models.layers.folding import prepare_for_inference
from protomask.models.zoo import ZOO
from protomask.ops.geometry import Geometry, ImageGeometry, ShortSideGeometry
from protomask.runtimes.info import (
    AnyInput,
    ExportInfo,
    FixedInput,
    Form,
    InputRule,
    ShortSideInput,
    Thresholds,
)
from protomask.runtimes.load import load_exported
from protomask.torch_runtime.predictor import TorchPredictor

INT8_MIN_SCORE = 0.3
"""8-bit files are compared where they matter; they are not expected to agree to the fourth digit."""


def export(
    predictor: TorchPredictor,
    path: str | Path,
    *,
    images: Sequence[Pixels],
    options: PredictOptions | None = None,
    form: Form = "detections",
    precision: Literal["float32", "float16"] = "float32",
    calibration: Sequence[Pixels] | None = None,
    mask_size: tuple[int, int] | None = None,
    fixed_size: bool = False,
    licence: str | None = None,
) -> Agreement:
    """Write a model to one file, after comparing what the file finds with what the model finds.

    Args:
        predictor: the model, on the CPU, in float32.
        path: file to write, .onnx or .xml (OpenVINO, with a .bin beside it); it appears whole, or not at all.
        images: (H, W, 3) uint8 RGB each, that show what the model knows: they are compared.
        options: nms, iou_threshold, candidate_threshold and max_detections that the file settles; the model's own where
            they say nothing.
        form: "detections" goes from the pixels of an image to masks, for any runtime; "candidates" ends before NMS and
            leaves every option of a prediction, and the batch size, to `protomask.load`.
        precision: of the weights in a file of candidates; half precision halves it. Arithmetic stays in float32.
        calibration: images of the same kind, some hundred, to make an 8-bit file; None for float32.
        mask_size: (h, w) of the masks; that of the prototypes when not given.
        fixed_size: the file takes only images of the network's size, and does not resize.
        licence: of the weights; that of the zoo where it is a model of the zoo.

    Returns:
        How the file's detections agree with the model's. Those of a float32 file are the same.

    Raises:
        ConfigError: the ending, a threshold, or a combination that has no file.
        ExportError: the file does not find what the model finds.
        MissingExtraError: a package is not installed.
        DataError: the file cannot be written.

    """
    path, options = Path(path), options or PredictOptions()
    if path.suffix not in (".onnx", ".xml"):
        raise ConfigError(f"output: expected a file name ending in .onnx or .xml, got {path}")
    if not images:
        raise ConfigError("images: expected at least one to verify the file with, got none")
    if calibration is not None and not calibration:
        raise ConfigError("calibration: expected at least one image, got none")
    if predictor.device.type != "cpu" or predictor.precision != "float32":
        raise ConfigError(
            f"model: expected it on the CPU in float32, got {predictor.device.type} and {predictor.precision}"
        )
    network = predictor.network
    config = family_of(network.config).settle(network.config, options)
    record = export_graph(config)
    candidates = _candidates(record.candidates, config, mask_size, fixed_size) if form == "candidates" else None
    if precision == "float16" and (candidates is None or path.suffix == ".xml"):
        raise ConfigError("precision: expected float32, or an .onnx file in the form candidates, got float16")
    if calibration is not None and path.suffix == ".xml" and not record.openvino_int8:
        raise ConfigError(f"int8: expected an .onnx file for {config.name}, which OpenVINO gets wrong in 8 bits")
    info = ExportInfo(
        model=config.name,
        family=family_of(config).name,
        class_names=network.class_names,
        form=form,
        input=_input_rule(network.geometry, fixed_size=fixed_size or candidates is not None),
        mask_frame=family_of(config).mask_frame,
        continuous_masks=family_of(config).continuous_masks(config),
        thresholds=Thresholds(
            nms=config.nms,
            iou_threshold=config.iou_threshold,
            candidate_threshold=config.candidate_threshold,
            max_detections=config.max_detections,
        ),
        rule=None if candidates is None else candidates.rule(network.config),
        precision=precision if calibration is None else "int8",
        licence=licence or (ZOO[predictor.source].licence if predictor.source in ZOO else None),
        provenance={"source": Path(predictor.source).name},
        config=config.to_dict(),
        protomask_version=__version__,
    )
    # With the folded weights of predictions: exporters would fold and round them in their own ways. Weights in half
    # precision are the network's own, which a runtime folds. The layout that predictions like best would leave
    # transpositions in the file.
    prepared = prepare_for_inference(network, fold=precision == "float32", contiguous=True)
    if candidates is None:
        graph = wrap(prepared, config, mask_size=mask_size, fixed_size=fixed_size).eval()
    else:
        graph = candidates.graph(prepared).eval()
    if info.input_size is not None and info.form == "detections":  # so that PyTorch gets the same rounded pixels
        images = [info.input.prepare(image) for image in images]
    quantizing = None if calibration is None else [_tensor(info.input.prepare(image))[0] for image in calibration]
    example = _tensor(info.input.prepare(images[0]))
    if candidates is not None:
        example = example.repeat(2, 1, 1, 1)  # of a single image the exporter would make a constant
    with torch.no_grad():
        outputs = graph(example)  # anchors are made here: an exporter would keep imaginary ones
    names = [name for name in OUTPUT_NAMES if name != "mask_scores" or len(outputs) == len(OUTPUT_NAMES)]
    if candidates is not None:
        names = list(candidates.output_names)
    low = 0.0 if calibration is None else INT8_MIN_SCORE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            written = Path(folder) / path.name
            write = write_onnx if path.suffix == ".onnx" else partial(write_openvino, through_onnx=record.through_onnx)
            write(
                graph, info, written, example=example, output_names=names, calibration=quantizing,
                float_parts=record.float_parts,
            )  # fmt: skip
            agreement = compare(
                predictor,
                load_exported(written),
                images,
                options=options.replace(score_threshold=low),
                settled=None if form == "candidates" else PredictOptions(score_threshold=low),
            )
            if calibration is None:
                agreement.check(path.name, record.limits, masks=mask_size is None)
            for file in sorted(Path(folder).iterdir()):  # .bin before .xml: whoever sees the second has both
                file.replace(path.parent / file.name)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}") from error
    return agreement


def _candidates(
    known: Candidates | None, config: ModelConfig, mask_size: tuple[int, int] | None, fixed_size: bool
) -> Candidates:
    if known is None:
        raise ConfigError(f"form: expected detections for {config.name}, got candidates")
    if mask_size is not None or fixed_size:
        raise ConfigError("mask_size, fixed_size: expected none in the form candidates, whose input has one size")
    return known


def _input_rule(geometry: Geometry, *, fixed_size: bool) -> InputRule:
    """How readers of the file prepare images: by themselves where the graph could only be slower, or less exact."""
    method = geometry.byte_method
    if isinstance(geometry, ImageGeometry):
        if method is None and not fixed_size:
            return AnyInput()
        return FixedInput(size=geometry.image_size, method=method or "bilinear", any_size=not fixed_size)
    assert isinstance(geometry, ShortSideGeometry)
    if method is None:
        return AnyInput()
    return ShortSideInput(
        image_size=geometry.image_size,
        max_image_size=geometry.max_image_size,
        rounding=geometry.rounding,
        method=method,
    )


def _tensor(image: Pixels) -> Tensor:
    """(H, W, 3) array to (1, 3, H, W) tensor."""
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()[None]
