"""A graph as an ncnn file."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from protomask.errors import MissingExtraError
from protomask.exporting.job import WriteJob, converting
from protomask.exporting.program import FirstOutputs
from protomask.runtimes.archive import add_texts
from protomask.runtimes.golden import GOLDEN_KEY
from protomask.runtimes.info import METADATA_KEY


def write_ncnn(job: WriteJob) -> None:
    """Write a .ncnn.param file and the .ncnn.bin beside it, see `protomask.exporting.job.WriteJob`; it has no probe.

    What the file says of itself is in a ZIP archive behind the .bin, which ncnn does not read.

    Raises:
        MissingExtraError: the converter is not installed.
        ExportError: the converter refuses the graph.

    """
    try:
        from pnnx import EXEC_PATH
    except ImportError as error:
        raise MissingExtraError("writing an ncnn file needs more packages: pip install 'protomask[ncnn]'") from error
    with converting(job, "ncnn cannot hold"), TemporaryDirectory(dir=job.path.parent.parent) as folder:
        graph = FirstOutputs(job.graph, len(job.output_names)).eval()
        example = job.example.float()  # ncnn computes in floats and has no operator that makes them of bytes
        traced = torch.jit.trace(graph, example, check_trace=False)  # type: ignore[no-untyped-call]
        traced.save(str(Path(folder, "graph.pt")))
        shape = f"inputshape={list(example.shape)}f32".replace(" ", "")
        done = subprocess.run(
            [EXEC_PATH, "graph.pt", shape, "fp16=0"], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"pnnx ended with exit code {done.returncode}")
        layers = Path(folder, "graph.ncnn.param").read_text()
        unknown = sorted({line.split()[0] for line in layers.splitlines() if "." in line.partition(" ")[0]})
        if unknown:
            raise RuntimeError(f"it has no {', '.join(unknown)}")
        job.path.write_text(_named(layers, job.output_names))
        Path(folder, "graph.ncnn.bin").replace(job.path.with_suffix(".bin"))
    add_texts(job.path.with_suffix(".bin"), {METADATA_KEY: job.info.to_json()})


def annotate_ncnn(path: Path, golden: str) -> None:
    """See `protomask.exporting.formats.Annotate`."""
    add_texts(path.with_suffix(".bin"), {GOLDEN_KEY: golden})


def _named(layers: str, output_names: Sequence[str]) -> str:
    """The text of a .param file, in which pnnx numbers the outputs, with their names."""
    names = {"in0": "image", **{f"out{index}": name for index, name in enumerate(output_names)}}
    return re.sub(r"(?<= )(in0|out\d+)(?=\s)", lambda found: names[found[0]], layers)
