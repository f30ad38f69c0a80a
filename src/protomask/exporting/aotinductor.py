"""A graph as machine code of AOTInductor, in a .pt2 file."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from protomask.errors import ExportError, MissingExtraError
from protomask.exporting.graphs import ExportGraph
from protomask.exporting.program import export_program
from protomask.runtimes.archive import add_texts
from protomask.runtimes.exported import first_line
from protomask.runtimes.info import METADATA_KEY, ExportInfo

_COMPILERS = ("g++", "clang++", "c++", "cl")


def require_compiler() -> None:
    """Raises: MissingExtraError if there is no C++ compiler: asked before the work begins."""
    wanted = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ([wanted] if wanted else _COMPILERS)):
        raise MissingExtraError(
            f"compiling with AOTInductor needs a C++ compiler, found none of {wanted or ', '.join(_COMPILERS)}; "
            "install one (on Debian and Ubuntu: apt install g++), or name it in the environment variable CXX"
        )


def write_compiled(
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
    """Write a .pt2 file, see `protomask.exporting.formats.Writer`; it has no probe.

    Raises:
        MissingExtraError: there is no C++ compiler.
        ExportError: the compiler refuses the graph.

    """
    require_compiler()
    program = export_program(graph, info, example, output_names)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    except Exception as error:  # compilers' errors share no class but Exception
        raise ExportError(f"{path.name}: AOTInductor cannot compile {info.model}: {first_line(error)}") from error
    add_texts(path, {METADATA_KEY: info.to_json()})
