"""A graph as an OpenVINO file, in float32 or quantised to 8 bits."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from protomask.errors import MissingExtraError
from protomask.export.onnx import write_onnx
from protomask.inference.runtime import METADATA_KEY, ExportInfo
from protomask.models.config import RCNNConfig


def write_openvino(
    graph: nn.Module,
    info: ExportInfo,
    path: Path,
    *,
    example: Tensor,
    output_names: Sequence[str],
    calibration: Sequence[Tensor] | None = None,
) -> None:
    """Translate a graph and write it to an .xml file and the .bin beside it.

    Graphs of YOLACT are made from PyTorch directly: OpenVINO's reader of ONNX files knows no antialiasing. Those
    of Mask R-CNN are made from an ONNX file, where shapes that depend on the image survive.

    Args:
        graph: one of `protomask.export.wrappers`, in evaluation mode, on the CPU.
        info: goes into the file's rt_info.
        path: .xml file.
        example: (1, 3, H, W) uint8; other sizes will do as well unless the file has a fixed one.
        output_names: names of the graph's outputs.
        calibration: (3, H, W) uint8 images that tell the ranges of 8-bit numbers; None leaves float32.

    Raises:
        MissingExtraError: OpenVINO, or for 8 bits NNCF, is not installed.

    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("writing an .xml file needs OpenVINO: pip install 'protomask[openvino]'") from error
    if calibration is not None:
        try:
            import nncf  # noqa: F401 - before the work begins
        except ImportError as error:
            raise MissingExtraError("8-bit files need NNCF: pip install 'protomask[int8]'") from error

    if isinstance(info.config, RCNNConfig):
        between = path.with_suffix(".onnx")
        write_onnx(graph, info, between, example=example, output_names=output_names)
        model = openvino.convert_model(between)
        between.unlink()
    else:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape = openvino.PartialShape([1, 3, *(info.input_size or (-1, -1))])
            model = openvino.convert_model(graph, example_input=example, input=shape)
    model.inputs[0].tensor.set_names({"image"})
    for output, name in zip(model.outputs, output_names, strict=True):
        output.tensor.set_names({name})
    if calibration is not None:
        model = _quantized(model, calibration)
    model.set_rt_info(info.to_json(), METADATA_KEY)
    openvino.save_model(model, path, compress_to_fp16=False)


def _quantized(model: Any, calibration: Sequence[Tensor]) -> Any:
    """The same with the network in 8 bits; what reads its output stays as it is."""
    import nncf

    nncf.set_log_level(logging.ERROR)
    images = nncf.Dataset([image[None].numpy() for image in calibration])
    # Its progress bars are no result of ours.
    with redirect_stdout(sys.stderr):
        return nncf.quantize(
            model,
            images,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(names=_reading_operations(model)),
        )


def _reading_operations(model: Any) -> list[str]:
    """Names of the operations before and after the network, and of its mask rescoring.

    OpenVINO names an operation after the module it comes from; what the graph does itself has no module.
    """
    names = [operation.get_friendly_name() for operation in model.get_ordered_ops()]
    return [name for name in names if name.startswith(("aten::", "__module.network.rescoring"))]
