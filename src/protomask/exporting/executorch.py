"""A graph as an ExecuTorch file."""

from __future__ import annotations

import logging
from copy import deepcopy
from itertools import chain

import torch
from torch import Tensor, nn

from protomask.errors import MissingExtraError
from protomask.exporting.job import WriteJob, converting
from protomask.exporting.program import FirstOutputs
from protomask.runtimes.archive import add_texts
from protomask.runtimes.info import METADATA_KEY


def write_executorch(job: WriteJob) -> None:
    """Write a .pte file for XNNPACK, see `protomask.exporting.job.WriteJob`; it has no probe.

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
    with converting(job, "ExecuTorch cannot hold"):
        graph = FirstOutputs(without_norms(job.graph), len(job.output_names)).eval()
        lowered = to_edge_transform_and_lower(
            torch.export.export(graph, (job.example,), strict=False),
            partitioner=[XnnpackPartitioner()],
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        job.path.write_bytes(lowered.to_executorch().buffer)
    add_texts(job.path, {METADATA_KEY: job.info.to_json()})


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
