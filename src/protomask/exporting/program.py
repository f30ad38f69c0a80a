"""A graph as a program of `torch.export`, in a .pt2 file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from protomask.exporting.job import WriteJob, without_gradients
from protomask.runtimes.archive import add_texts
from protomask.runtimes.golden import GOLDEN_KEY
from protomask.runtimes.info import METADATA_KEY, ExportInfo


class Named(nn.Module):
    """A graph that returns its first outputs by name.

    Args:
        graph: takes a batch of images; it is run, never changed.
        names: of its outputs; those behind them are dropped.

    """

    def __init__(self, graph: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.wrapped = graph  # no exporter has an attribute of this name
        self.names = tuple(names)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """The outputs by name."""
        return dict(zip(self.names, self.wrapped(image), strict=False))


class FirstOutputs(nn.Module):
    """A graph that returns its first outputs, for files that know no names.

    Args:
        graph: takes a batch of images; it is run, never changed.
        count: of the outputs; those behind them are dropped.

    """

    def __init__(self, graph: nn.Module, count: int) -> None:
        super().__init__()
        self.wrapped = graph
        self.count = count

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """The outputs in their order."""
        return tuple(self.wrapped(image)[: self.count])


def export_program(graph: nn.Module, info: ExportInfo, example: Tensor, names: Sequence[str]) -> Any:
    """A graph as `torch.export.ExportedProgram`, which returns its outputs by name."""
    with without_gradients():
        program = torch.export.export(
            Named(graph, names).eval(), (example,), dynamic_shapes={"image": dynamic_axes(info)}, strict=False
        )
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # with the paths of this machine
    return program


def dynamic_axes(info: ExportInfo, dynamic: Any = torch.export.Dim.DYNAMIC) -> dict[int, Any]:
    """Axes of the image whose size the file leaves open, and what an exporter calls them."""
    axes = (0,) if info.takes_batches else ()
    return dict.fromkeys(axes if info.input_size else (*axes, 2, 3), dynamic)


def write_program(job: WriteJob) -> None:
    """Write a .pt2 file, see `protomask.exporting.job.WriteJob`."""
    for file, names in ((job.path, job.output_names), (job.probe, job.all_names)):
        if file is not None:
            torch.export.save(export_program(job.graph, job.info, job.example, names), file)
            add_texts(file, {METADATA_KEY: job.info.to_json()})


def annotate_archive(path: Path, golden: str) -> None:
    """See `protomask.exporting.formats.Annotate`."""
    add_texts(path, {GOLDEN_KEY: golden})
