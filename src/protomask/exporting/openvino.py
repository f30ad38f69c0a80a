"""A graph as an OpenVINO file, in float32 or quantised to 8 bits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from protomask.errors import MissingExtraError
from protomask.exporting.onnx import write_onnx
from protomask.exporting.quantize import quantize, require_nncf
from protomask.runtimes.info import METADATA_KEY, ExportInfo


def write_openvino(
    graph: nn.Module,
    info: ExportInfo,
    path: Path,
    *,
    example: Tensor,
    output_names: Sequence[str],
    part_names: Sequence[str] = (),
    probe: Path | None = None,
    calibration: Sequence[Tensor] | None = None,
    through_onnx: bool = False,
    float_parts: Sequence[str] = (),
) -> None:
    """Translate a graph and write it to an .xml file and the .bin beside it.

    Args:
        graph: as `protomask.exporting.graphs.wrap` makes it, in evaluation mode, on the CPU.
        info: goes into the file's rt_info.
        path: .xml file.
        example: (1, 3, H, W) uint8; other sizes will do as well unless the file has a fixed one.
        output_names: names of the graph's outputs that the file has.
        part_names: names of those behind them, which it has not.
        probe: another .xml file, which has them all; None for none.
        calibration: (3, H, W) uint8 images that give the ranges of 8-bit numbers; None leaves float32.
        through_onnx: translate an ONNX file of the graph, see `protomask.exporting.graphs.ExportGraph`.
        float_parts: attributes of the network that stay in float32.

    Raises:
        MissingExtraError: OpenVINO, or for 8 bits NNCF, is not installed.

    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("writing an .xml file needs OpenVINO: pip install 'protomask[openvino]'") from error
    if calibration is not None:
        require_nncf()

    names = [*output_names, *part_names]
    if through_onnx:
        between = path.with_suffix(".onnx")
        write_onnx(graph, info, between, example=example, output_names=names)
        model = openvino.convert_model(between)
        between.unlink()
    else:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch = -1 if info.form == "candidates" else 1
            shape = openvino.PartialShape([batch, 3, *(info.input_size or (-1, -1))])
            model = openvino.convert_model(graph, example_input=example, input=shape)
    model.set_friendly_name(info.model)  # otherwise a number that differs from run to run
    model.inputs[0].tensor.set_names({"image"})
    for output, name in zip(model.outputs, names, strict=True):
        output.tensor.set_names({name})
    model.set_rt_info(info.to_json(), METADATA_KEY)
    if probe is not None:
        openvino.save_model(model, probe, compress_to_fp16=False)
    for result in model.get_results()[len(output_names) :]:
        model.remove_result(result)
    if calibration is not None:
        operations = [operation.get_friendly_name() for operation in model.get_ordered_ops()]
        # Operations are named after their module; what the graph does itself has none.
        kept = ("aten::", *(f"__module.network.{part}" for part in float_parts))
        left_out = [name for name in operations if name.startswith(kept)]
        model = quantize(model, calibration, left_out)
        model.set_rt_info(info.to_json(), METADATA_KEY)
    openvino.save_model(model, path, compress_to_fp16=False)
