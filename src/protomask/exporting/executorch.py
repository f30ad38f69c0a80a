"""A graph as an ExecuTorch file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from copy import deepcopy
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from protomask.errors import ExportError, MissingExtraError
from protomask.exporting.graphs import ExportGraph
from protomask.exporting.program import FirstOutputs
from protomask.runtimes.archive import add_texts
from protomask.runtimes.exported import first_line
from protomask.runtimes.info import METADATA_KEY, ExportInfo


def write_executorch(
    graph: nn.Module,
    info: ExportInfo,
    path: Path,
    *,
    example: Tensor,
    output_names: Sequence[str],
    part_names: Sequence[str] = (),
    probe: Path | None = None,
    calibration: Sequence[Tensor] | None = None,
    record: ExportGraph | None = None,
) -> None:
    """Write a .pte file for XNNPACK, see `protomask.exporting.formats.Writer`; it has no probe.

    What the file says of itself is in a ZIP archive behind it, which ExecuTorch does not read.

    Raises:
        MissingExtraError: ExecuTorch is not installed.
        ExportError: ExecuTorch refuses the graph.

    """
    try:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
    except ImportError as error:
        raise MissingExtraError(
            "writing a .pte file needs more packages: pip install 'protomask[executorch]'"
        ) from error
    logging.getLogger("executorch").setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                FirstOutputs(without_norms(graph), len(output_names)).eval(), (example,), strict=False
            )
            lowered = to_edge_transform_and_lower(
                program,
                partitioner=[XnnpackPartitioner()],
                compile_config=EdgeCompileConfig(_check_ir_validity=False),
            )
            path.write_bytes(lowered.to_executorch().buffer)
    except Exception as error:  # the converter's errors share no class but Exception
        raise ExportError(f"{path.name}: ExecuTorch cannot hold {info.model}: {first_line(error)}") from error
    add_texts(path, {METADATA_KEY: info.to_json()})


class ScaleAndShift(nn.Module):
    """What a batch norm does in evaluation mode, (B, C, h, w) to the same shape.

    Args:
        norm: has its statistics.

    """

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
        self.register_buffer("scale", scale[:, None, None].clone())
        self.register_buffer("shift", (norm.bias.detach() - norm.running_mean * scale)[:, None, None].clone())

    def forward(self, x: Tensor) -> Tensor:
        """A product and a sum for each channel."""
        return x * self.scale + self.shift


def without_norms(graph: nn.Module) -> nn.Module:
    """A copy whose batch norms are products and sums; it shares all other tensors.

    ExecuTorch folds a batch norm into the convolution before it. Where pyramid levels share a convolution and each has
    a batch norm of its own, it gives all levels what it folded for one of them (seen in ExecuTorch 1.5.1).
    """
    shared = {id(tensor): tensor for tensor in chain(graph.parameters(), graph.buffers())}
    copied = deepcopy(graph, shared)
    for module in list(copied.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.BatchNorm2d and child.affine and child.track_running_stats:
                setattr(module, name, ScaleAndShift(child))
    return copied
