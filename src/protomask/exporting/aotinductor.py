"""A graph as machine code of AOTInductor, in a .pt2 file."""

from __future__ import annotations

import os
import shutil

import torch

from protomask.errors import MissingExtraError
from protomask.exporting.job import WriteJob, converting
from protomask.exporting.program import export_program
from protomask.runtimes.archive import add_texts
from protomask.runtimes.info import METADATA_KEY

_COMPILERS = ("g++", "clang++", "c++", "cl")


def require_compiler() -> None:
    """Raises: MissingExtraError if there is no C++ compiler: asked before the work begins."""
    wanted = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ([wanted] if wanted else _COMPILERS)):
        raise MissingExtraError(
            f"compiling with AOTInductor needs a C++ compiler, found none of {wanted or ', '.join(_COMPILERS)}; "
            "install one (on Debian and Ubuntu: apt install g++), or name it in the environment variable CXX"
        )


def write_compiled(job: WriteJob) -> None:
    """Write a .pt2 file, see `protomask.exporting.job.WriteJob`; it has no probe.

    Raises:
        MissingExtraError: there is no C++ compiler.
        ExportError: the compiler refuses the graph.

    """
    require_compiler()
    program = export_program(job.graph, job.info, job.example, job.output_names)
    with converting(job, "AOTInductor cannot compile"):
        torch._inductor.aoti_compile_and_package(program, package_path=str(job.path))
    add_texts(job.path, {METADATA_KEY: job.info.to_json()})
