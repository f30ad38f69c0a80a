"""A model to measure, and how it is to run, as one name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from protomask.api import Precision, Runtime, load
from protomask.errors import ConfigError

if TYPE_CHECKING:
    from protomask.inference.predictor import Predictor

PRECISIONS: tuple[str, ...] = get_args(Precision)
RUNTIMES = ("torch", "onnx", "openvino")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model as a name with suffixes: ``SOURCE``, ``SOURCE@torch``, ``SOURCE@bf16``, ``SOURCE@fp16@compile``.

    Attributes:
        source: what `protomask.load` takes.
        precision: float32, bf16 or fp16.
        compile: whether the network is compiled.
        runtime: what runs the network, as in `protomask.load`.

    """

    source: str
    precision: Precision = "float32"
    compile: bool = False
    runtime: Runtime = "auto"

    @classmethod
    def parse(cls, text: str, *, precision: Precision = "float32") -> ModelSpec:
        """Read a name with its suffixes; the name of a file or folder that exists has none, even if it contains ``@``.

        Args:
            text: see the class.
            precision: where the text names none.

        Raises:
            ConfigError: no source, an unknown suffix, or two of one kind.

        """
        if text and Path(text).exists():
            return cls(source=text, precision=precision)
        folder, slash, name = text.rpartition("/")
        base, *suffixes = name.split("@")
        known = (*PRECISIONS, *RUNTIMES, "compile")
        unknown = [suffix for suffix in suffixes if suffix not in known]
        if unknown or not base:
            raise ConfigError(f"model: expected NAME, or NAME@ and one of {', '.join(known)}, got {text!r}")
        precisions, runtimes = ([suffix for suffix in suffixes if suffix in of] for of in (PRECISIONS, RUNTIMES))
        if len(suffixes) != len(set(suffixes)) or len(precisions) > 1 or len(runtimes) > 1:
            raise ConfigError(f"model: expected each suffix, one precision and one runtime at most once, got {text!r}")
        return cls(
            source=f"{folder}{slash}{base}",
            precision=cast(Precision, precisions[0]) if precisions else precision,
            compile="compile" in suffixes,
            runtime=cast(Runtime, runtimes[0]) if runtimes else "auto",
        )

    def __str__(self) -> str:
        runtime = "" if self.runtime == "auto" else f"@{self.runtime}"
        precision = "" if self.precision == "float32" else f"@{self.precision}"
        return f"{self.source}{runtime}{precision}{'@compile' if self.compile else ''}"

    def load(self, device: str = "auto", *, threads: int | None = None) -> Predictor:
        """The predictor; raises what `protomask.load` raises."""
        return load(
            self.source,
            runtime=self.runtime,
            device=device,
            precision=self.precision,
            compile=self.compile,
            threads=threads,
        )
