"""A graph as an OpenVINO file, in float32 or quantised to 8 bits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from protomask.errors import MissingExtraError
from protomask.export.onnx import write_onnx
from protomask.export.quantize import quantize, require_nncf
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

    Graphs of YOLACT are made from PyTorch directly, where deformable convolutions are one operation. Those of Mask
    R-CNN are made from an ONNX file, where shapes that depend on the image survive.

    Args:
        graph: one of `protomask.export.wrappers`, in evaluation mode, on the CPU.
        info: goes into the file's rt_info.
        path: .xml file.
        example: (1, 3, H, W) uint8; other sizes will do as well unless the file has a fixed one.
        output_names: names of the graph's outputs.
        calibration: (3, H, W) uint8 images that tell the ranges of 8-bit numbers (YOLACT alone); None leaves float32.

    Raises:
        MissingExtraError: OpenVINO, or for 8 bits NNCF, is not installed.

    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("writing an .xml file needs OpenVINO: pip install 'protomask[openvino]'") from error
    if calibration is not None:
        require_nncf()

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
        names = [operation.get_friendly_name() for operation in model.get_ordered_ops()]
        # Operations are named after their module; what the graph does itself has none.
        left_out = [name for name in names if name.startswith(("aten::", "__module.network.rescoring"))]
        model = quantize(model, calibration, left_out)
    model.set_rt_info(info.to_json(), METADATA_KEY)
    openvino.save_model(model, path, compress_to_fp16=False)
