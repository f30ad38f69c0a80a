"""What the writers of all formats are given, see `protomask.exporting.formats`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from protomask.errors import ExportError
from protomask.exporting.graphs import ExportGraph
from protomask.runtimes.exported import first_line
from protomask.runtimes.info import ExportInfo


@dataclass(frozen=True, kw_only=True)
class WriteJob:
    """A graph to write to one file.

    Attributes:
        graph: as `protomask.exporting.graphs.wrap` makes it, in evaluation mode, on the CPU.
        info: goes into the file.
        path: path of the file.
        example: (1, 3, H, W) uint8, or (2, 3, H, W) where the file takes several images.
        output_names: names of the graph's outputs that the file has.
        part_names: names of those behind them, which it has not.
        probe: another file, which has them all, where the format has one; None for none.
        calibration: (3, H, W) uint8 images that give the ranges of 8-bit numbers; None leaves float32.
        record: of the family.

    """

    graph: nn.Module
    info: ExportInfo
    path: Path
    example: Tensor
    output_names: Sequence[str]
    part_names: Sequence[str] = ()
    probe: Path | None = None
    calibration: Sequence[Tensor] | None = None
    record: ExportGraph | None = None

    @property
    def all_names(self) -> list[str]:
        """Names of all outputs of the graph."""
        return [*self.output_names, *self.part_names]


@contextmanager
def without_gradients() -> Iterator[None]:
    """Export: no gradients, and no warnings of exporters about themselves."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def converting(job: WriteJob, cannot: str) -> Iterator[None]:
    """Run a converter, whose errors share no class but Exception.

    Args:
        job: what is converted.
        cannot: what the converter fails to do with the model, such as "LiteRT cannot hold".

    Raises:
        ExportError: the converter refuses the graph.

    """
    try:
        with without_gradients():
            yield
    except Exception as error:
        raise ExportError(f"{job.path.name}: {cannot} {job.info.model}: {first_line(error)}") from error
