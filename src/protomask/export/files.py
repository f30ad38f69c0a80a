"""From a model to one verified file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from protomask import __version__
from protomask.errors import ConfigError, DataError
from protomask.export.graphs import OUTPUT_NAMES, export_graph, wrap
from protomask.export.onnx import write_onnx
from protomask.export.openvino import write_openvino
from protomask.export.verify import Agreement, compare
from protomask.inference.predictor import Predictor
from protomask.inference.runtime import BAKED_OPTIONS, ExportInfo, in_file_size, load_exported
from protomask.models.families import family_of
from protomask.models.layers.folding import prepare_for_inference
from protomask.models.zoo import ZOO
from protomask.structures.geometry import ImageGeometry

INT8_MIN_SCORE = 0.3
"""8-bit files are compared where they matter; they are not expected to agree to the fourth digit."""


def export(
    predictor: Predictor,
    path: str | Path,
    *,
    images: Sequence[Tensor],
    calibration: Sequence[Tensor] | None = None,
    mask_size: tuple[int, int] | None = None,
    fixed_size: bool = False,
    licence: str | None = None,
    **thresholds: Any,
) -> Agreement:
    """Write a model to one file that does everything, after comparing what the file finds with what the model finds.

    Args:
        predictor: the model, on the CPU, in float32.
        path: file to write, .onnx or .xml (OpenVINO, with a .bin beside it); it appears whole, or not at all.
        images: (3, H, W) uint8 RGB each, that show what the model knows: they are compared.
        calibration: images of the same kind, some hundred, to make an 8-bit file; None for float32.
        mask_size: (h, w) of the masks; that of the prototypes when not given.
        fixed_size: the file takes images of the network's size alone, and does not resize.
        licence: of the weights; that of the zoo where it is a model of the zoo.
        thresholds: nms, iou_threshold, candidate_threshold, max_detections of the file; the model's own when not given.

    Returns:
        How the file's detections agree with the model's. Those of a float32 file are the same.

    Raises:
        ConfigError: the ending, a threshold, or a combination that has no file.
        ExportError: the file does not find what the model finds.
        MissingExtraError: a package is not installed.
        DataError: the file cannot be written.

    """
    path = Path(path)
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
    network = predictor.network.eval()
    config, geometry = network.config.for_prediction(**thresholds), network.geometry
    record = export_graph(config)
    if calibration is not None and path.suffix == ".xml" and not record.openvino_int8:
        raise ConfigError(f"int8: expected an .onnx file for {config.name}, which OpenVINO gets wrong in 8 bits")
    info = ExportInfo(
        config=config,
        class_names=network.class_names,
        mask_frame=family_of(config).mask_frame,
        input_size=geometry.image_size if fixed_size and isinstance(geometry, ImageGeometry) else None,
        precision="float32" if calibration is None else "int8",
        licence=licence or (ZOO[predictor.source].licence if predictor.source in ZOO else None),
        provenance={"source": Path(predictor.source).name},
        protomask_version=__version__,
    )
    # With the folded weights of predictions: exporters would fold and round them in their own ways.
    graph = wrap(prepare_for_inference(network), config, mask_size=mask_size, fixed_size=fixed_size).eval()
    if fixed_size:  # so that PyTorch gets the same rounded pixels
        images = [in_file_size(image, info) for image in images]
        calibration = calibration and [in_file_size(image, info) for image in calibration]
    example = images[0][None]
    with torch.no_grad():
        outputs = graph(example)  # anchors are made here: an exporter would keep imaginary ones
    names = [name for name in OUTPUT_NAMES if name != "mask_scores" or len(outputs) == len(OUTPUT_NAMES)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            written = Path(folder) / path.name
            write = write_onnx if path.suffix == ".onnx" else partial(write_openvino, through_onnx=record.through_onnx)
            write(
                graph, info, written, example=example, output_names=names, calibration=calibration,
                float_parts=record.float_parts,
            )  # fmt: skip
            settled = {name: getattr(config, name) for name in BAKED_OPTIONS}
            agreement = compare(
                predictor, load_exported(written), images,
                min_score=0.0 if calibration is None else INT8_MIN_SCORE, **settled,
            )  # fmt: skip
            if calibration is None:
                agreement.check(path.name, record.limits, masks=mask_size is None)
            for file in sorted(Path(folder).iterdir()):  # .bin before .xml: whoever sees the second has both
                file.replace(path.parent / file.name)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}") from error
    return agreement
