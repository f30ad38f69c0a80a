"""The kinds of files that a graph can be written to, one record each; a new one is one more name here.

docs/export.md says what they have in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from protomask.errors import ConfigError
from protomask.exporting.aotinductor import write_compiled
from protomask.exporting.executorch import write_executorch
from protomask.exporting.graphs import export_graph
from protomask.exporting.job import WriteJob
from protomask.exporting.litert import write_litert
from protomask.exporting.ncnn import annotate_ncnn, write_ncnn
from protomask.exporting.onnx import annotate_onnx, write_onnx
from protomask.exporting.openvino import annotate_openvino, write_openvino
from protomask.exporting.program import annotate_archive, write_program
from protomask.models.config import ModelConfig
from protomask.runtimes.formats import SUFFIXES
from protomask.runtimes.info import Form


class Writer(Protocol):
    """Writes a graph to one file."""

    def __call__(self, job: WriteJob) -> None:
        """Write.

        Raises:
            MissingExtraError: a package, or a compiler, is not installed.

        """


class Annotate(Protocol):
    """Stores what `protomask.runtimes.golden` has to say, a JSON text, in a file that is written."""

    def __call__(self, path: Path, golden: str) -> None:
        """Store it."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of file.

    Attributes:
        name: as `protomask export` takes it.
        write: see `Writer`.
        annotate: see `Annotate`.
        has_probe: a second file is written, to compare what the network gives before NMS number by number.
        half: whether weights can be in half precision, in the form "candidates".
        int8: whether it can compute in 8 bits.
        is_static: it takes one image of the network's size, and no size in it can depend on the image.
        forms: that it has.

    """

    name: str
    write: Writer
    annotate: Annotate
    has_probe: bool = True
    half: bool = False
    int8: bool = False
    is_static: bool = False
    forms: tuple[Form, ...] = ("detections", "candidates")

    @property
    def suffix(self) -> str:
        """Ending of its files."""
        return SUFFIXES[self.name]


FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format(name="onnx", write=write_onnx, annotate=annotate_onnx, half=True, int8=True),
        Format(name="openvino", write=write_openvino, annotate=annotate_openvino, int8=True),
        Format(name="pt2", write=write_program, annotate=annotate_archive),
        # A second file would take as long to compile as the first.
        Format(name="aotinductor", write=write_compiled, annotate=annotate_archive, has_probe=False),
        Format(name="litert", write=write_litert, annotate=annotate_archive, has_probe=False, is_static=True),
        Format(name="executorch", write=write_executorch, annotate=annotate_archive, has_probe=False, is_static=True),
        # Its converter crashes on the operators of NMS (pnnx 20261020).
        Format(
            name="ncnn",
            write=write_ncnn,
            annotate=annotate_ncnn,
            has_probe=False,
            is_static=True,
            forms=("candidates",),
        ),
    )
}
"""Formats by name."""


def find_format(path: Path, name: str | None) -> Format:
    """The format of a name, or of the ending of a file.

    Raises:
        ConfigError: no such format, or the ending is another one's.

    """
    if name is None:
        for known in FORMATS.values():
            if path.name.endswith(known.suffix):
                return known
        endings = " or ".join(dict.fromkeys(known.suffix for known in FORMATS.values()))
        raise ConfigError(f"output: expected a file name ending in {endings}, got {path}")
    if name not in FORMATS:
        raise ConfigError(f"format: expected one of {', '.join(FORMATS)}, got {name!r}")
    if not path.name.endswith(FORMATS[name].suffix):
        raise ConfigError(f"output: expected a file name ending in {FORMATS[name].suffix} for {name}, got {path}")
    return FORMATS[name]


def check_static(format: Format, config: ModelConfig, form: Form) -> None:
    """Raises: ConfigError where the graph of a network has no fixed sizes, and the format knows no others."""
    if not format.is_static:
        return
    if not export_graph(config).has_sizes:
        raise ConfigError(
            f"format: expected one whose sizes may depend on the image for {config.name}, got {format.name}; there are "
            f"{', '.join(known.name for known in FORMATS.values() if not known.is_static)}"
        )
    if form == "detections" and config.nms == "batched" and getattr(config, "overlap", "box_iou") == "box_iou":
        raise ConfigError(f"nms: expected another than batched in a {format.name} file of detections, got batched")


def check_format(format: Format, *, form: Form, precision: str, int8: bool, dynamic_batch: bool) -> None:
    """Raises: ConfigError where a format has no such file."""
    if form not in format.forms:
        raise ConfigError(f"form: expected {' or '.join(format.forms)} for {format.name}, got {form}")
    if precision == "float16" and (form != "candidates" or not format.half):
        raise ConfigError("precision: expected float32, or an .onnx file in the form candidates, got float16")
    if int8 and not format.int8:
        fitting = " or ".join(known.name for known in FORMATS.values() if known.int8)
        raise ConfigError(f"int8: expected the format {fitting}, got {format.name}")
    if dynamic_batch and int8:
        raise ConfigError("dynamic_batch: expected none in 8 bits")
    if dynamic_batch and format.is_static:
        fitting = " or ".join(known.name for known in FORMATS.values() if not known.is_static)
        raise ConfigError(f"dynamic_batch: expected the format {fitting}, got {format.name}")
