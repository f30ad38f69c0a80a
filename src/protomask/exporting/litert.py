"""A graph as a LiteRT file."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from protomask.errors import ExportError, MissingExtraError
from protomask.exporting.graphs import ExportGraph
from protomask.exporting.program import FirstOutputs
from protomask.runtimes.archive import add_texts
from protomask.runtimes.exported import first_line
from protomask.runtimes.info import METADATA_KEY, ExportInfo


def write_litert(
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
    """Write a .tflite file, see `protomask.exporting.formats.Writer`; it has no probe.

    What the file says of itself is in a ZIP archive behind it, as LiteRT has it for associated files.

    Raises:
        MissingExtraError: the converter is not installed.
        ExportError: the converter refuses the graph.

    """
    try:
        import litert_torch
    except ImportError as error:
        raise MissingExtraError(
            "writing a .tflite file needs more packages: pip install 'protomask[litert]' litert-torch"
        ) from error
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            litert_torch.convert(FirstOutputs(graph, len(output_names)).eval(), (example,)).export(str(path))
    except Exception as error:  # the converter's errors share no class but Exception
        raise ExportError(f"{path.name}: LiteRT cannot hold {info.model}: {first_line(error)}") from error
    add_texts(path, {METADATA_KEY: info.to_json()})
