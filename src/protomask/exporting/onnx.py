"""A graph as an ONNX file."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Collection
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from protomask.errors import MissingExtraError
from protomask.exporting.job import WriteJob, without_gradients
from protomask.exporting.program import dynamic_axes
from protomask.exporting.quantize import is_quantized, quantize, require_nncf
from protomask.models.layers.module import Module
from protomask.runtimes.golden import GOLDEN_KEY
from protomask.runtimes.info import BATCH_AXIS, METADATA_KEY, ExportInfo

_Network = TypeVar("_Network", bound=Module)
OPSET = 20
_LEAST_WEIGHTS = 64  # smaller tensors, such as the mean of the pixels, stay as they are


def write_onnx(job: WriteJob) -> None:
    """Write an .onnx file, see `protomask.exporting.job.WriteJob`.

    Raises:
        MissingExtraError: the packages that write ONNX, or for 8 bits NNCF, are not installed.

    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 - what the file is verified with
        import onnxscript  # noqa: F401 - what torch.onnx needs
    except ImportError as error:
        raise MissingExtraError("writing an .onnx file needs more packages: pip install 'protomask[onnx]'") from error
    if job.calibration is not None:
        require_nncf()

    info = job.info
    with without_gradients():
        program = torch.onnx.export(
            job.graph,
            (job.example,),
            input_names=["image"],
            output_names=job.all_names,
            dynamic_shapes=_dynamic_shapes(info),
            opset_version=OPSET,
            # The optimizer would fold batch norms, whose products half precision does not hold.
            optimize=info.precision != "float16",
            custom_translation_table=_translations(),
            verbose=False,
        )
    if program is None:  # only where torch.onnx writes the file itself
        raise RuntimeError("torch.onnx.export returned nothing")
    model = program.model
    model.metadata_props[METADATA_KEY] = info.to_json()
    nodes = list(model.graph.all_nodes())
    float_parts = () if job.record is None else job.record.float_parts
    left_out = [str(node.name) for node in nodes if not is_quantized(_module(node), float_parts)]
    for node in nodes:
        # Stack traces with the paths of this machine.
        node.metadata_props.clear()
        node.doc_string = None
    if info.precision == "float16":
        _fold_constants(model)
        _store_in_half(model, {name for name, _ in (*job.graph.named_parameters(), *job.graph.named_buffers())})
    if job.probe is not None:
        program.save(job.probe, external_data=False)
    _drop_outputs(model, len(job.output_names))
    if job.calibration is None:
        program.save(job.path, external_data=False)
    else:
        # ONNX Runtime knows no ranges of channels.
        onnx.save(quantize(program.model_proto, job.calibration, left_out, channel_ranges=False), job.path)


def _translations() -> dict[Any, Any]:
    """What ONNX has for operations of PyTorch that it does not know."""
    from protomask.exporting.voting_onnx import vote
    from protomask.ops import voting  # noqa: F401 - it makes the operation known

    return {
        torch.ops.torchvision.deform_conv2d.default: _deform_conv,
        torch.ops.protomask.count_votes.default: vote,
    }


def annotate_onnx(path: Path, golden: str) -> None:
    """See `protomask.exporting.formats.Annotate`."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(
        model, {**{entry.key: entry.value for entry in model.metadata_props}, GOLDEN_KEY: golden}
    )
    onnx.save(model, path)


def _dynamic_shapes(info: ExportInfo) -> dict[str, dict[int, Any]] | None:
    names = {0: BATCH_AXIS, 2: "height", 3: "width"}
    axes = {axis: names[axis] for axis in dynamic_axes(info)}
    return {"images" if info.form == "candidates" else "image": axes} if axes else None


def _drop_outputs(model: Any, count: int) -> None:
    """Keep the first ``count`` outputs, and what they need."""
    import onnx_ir.passes.common as passes

    if len(model.graph.outputs) > count:
        del model.graph.outputs[count:]
        passes.RemoveUnusedNodesPass()(model)


def _fold_constants(model: Any) -> None:
    """The part of the exporter's optimizer that leaves batch norms alone."""
    import onnx_ir.passes.common as passes
    import onnxscript.optimizer

    passes.InlinePass()(model)
    for _ in range(2):
        onnxscript.optimizer.fold_constants_ir(model)
        passes.RemoveUnusedNodesPass()(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.CommonSubexpressionEliminationPass()(model)
    passes.RemoveUnusedNodesPass()(model)


def _store_in_half(model: Any, weights: Collection[str]) -> None:
    """Weights in half precision; a runtime makes them float32 again when it loads the file, and computes in float32.

    Other constants stay, unless half precision holds the same numbers: rounded anchors would move boxes.
    """
    import onnx_ir as ir

    graph = model.graph
    for name, value in list(graph.initializers.items()):
        if value.const_value is None or value.const_value.dtype != ir.DataType.FLOAT:
            continue
        numbers = value.const_value.numpy()
        with np.errstate(over="ignore"):
            half = numbers.astype(np.float16)
        if numbers.size < _LEAST_WEIGHTS or not np.isfinite(half).all():
            continue
        if name not in weights and not np.array_equal(half, numbers):
            continue
        stored = ir.Value(name=f"{name}_half", shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT16))
        stored.const_value = ir.Tensor(half, name=stored.name)
        whole = ir.node("Cast", [stored], attributes={"to": int(ir.DataType.FLOAT)})
        whole.outputs[0].name = f"{name}_float"
        whole.outputs[0].shape, whole.outputs[0].type = value.shape, value.type
        value.replace_all_uses_with(whole.outputs[0])
        del graph.initializers[name]
        graph.initializers[stored.name] = stored
        graph.insert_before(graph[0], whole)


def rounded_to_half(network: _Network) -> _Network:
    """A copy with the weights that a file in half precision has."""
    rounded = deepcopy(network)
    with torch.no_grad():
        for tensor in (*rounded.parameters(), *rounded.buffers()):
            half = tensor.half()
            if tensor.dtype == torch.float32 and tensor.numel() >= _LEAST_WEIGHTS and half.isfinite().all():
                tensor.copy_(half)
    return rounded


def _module(node: Any) -> str:
    """Name of the innermost module that a node comes from, "" for what the graph does itself."""
    *modules, _ = literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "['']"))
    return str(modules[-1]) if modules else ""


def _deform_conv(
    input: Any, weight: Any, offset: Any, mask: Any, bias: Any, stride_h: int, stride_w: int, pad_h: int, pad_w: int,
    dilation_h: int, dilation_w: int, groups: int, offset_groups: int, use_mask: bool,
) -> Any:  # fmt: skip
    """`torchvision.ops.deform_conv2d` with a mask and without groups, by GridSample and MatMul.

    ONNX has DeformConv (opset 19), but not every runtime does.
    """
    from onnxscript import opset20 as op

    channels, height, width = input.shape[1:]
    out_channels, _, kernel_height, kernel_width = weight.shape
    rows, columns = offset.shape[2:]
    points = kernel_height * kernel_width
    ky, kx, y, x = np.meshgrid(
        np.arange(kernel_height) * dilation_h,
        np.arange(kernel_width) * dilation_w,
        np.arange(rows) * stride_h - pad_h,
        np.arange(columns) * stride_w - pad_w,
        indexing="ij",
    )
    place = np.stack((x + kx, y + ky), axis=-1).reshape(1, points * rows, columns, 2)
    # GridSample counts from -1, the centre of the first pixel, to 1, that of the last.
    scale = np.array([2 / max(width - 1, 1), 2 / max(height - 1, 1)])
    moved = op.Gather(_reshape(op, offset, -1, points, 2, rows, columns), _constant(op, np.array([1, 0])), axis=2)
    moved = _reshape(op, op.Transpose(moved, perm=[0, 1, 3, 4, 2]), -1, points * rows, columns, 2)
    grid = op.Add(
        op.Mul(moved, _constant(op, scale.astype(np.float32))), _constant(op, (place * scale - 1).astype(np.float32))
    )
    values = op.GridSample(input, grid, align_corners=1, mode="linear", padding_mode="zeros")
    values = op.Mul(
        _reshape(op, values, -1, channels, points, rows * columns), _reshape(op, mask, -1, 1, points, rows * columns)
    )
    out = op.MatMul(
        _reshape(op, weight, out_channels, channels * points),
        _reshape(op, values, -1, channels * points, rows * columns),
    )
    return op.Add(_reshape(op, out, -1, out_channels, rows, columns), _reshape(op, bias, 1, out_channels, 1, 1))


def _reshape(op: Any, tensor: Any, *shape: int) -> Any:
    return op.Reshape(tensor, _constant(op, np.array(shape, dtype=np.int64)))


def _constant(op: Any, values: Any) -> Any:
    from onnx.numpy_helper import from_array

    return op.Constant(value=from_array(values))
