"""A model to measure, and how it is to run, as one name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protomask.errors import ConfigError

if TYPE_CHECKING:
    from protomask.inference.base import ImagePredictor

PRECISIONS = ("float32", "bf16", "fp16")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model as a name with suffixes: ``SOURCE``, ``SOURCE@bf16``, ``SOURCE@compile``, ``SOURCE@fp16@compile``.

    Attributes:
        source: what `protomask.load` takes.
        precision: float32, bf16 or fp16.
        compile: whether the network is compiled.

    """

    source: str
    precision: str = "float32"
    compile: bool = False

    @classmethod
    def parse(cls, text: str, *, precision: str = "float32") -> ModelSpec:
        """Read a name with its suffixes; the name of a file that exists has none, even if it contains ``@``.

        Args:
            text: see the class.
            precision: where the text names none.

        Raises:
            ConfigError: no source, an unknown suffix, or two precisions.

        """
        if Path(text).is_file():
            return cls(source=text, precision=precision)
        folder, slash, name = text.rpartition("/")
        base, *suffixes = name.split("@")
        known = (*PRECISIONS, "compile")
        unknown = [suffix for suffix in suffixes if suffix not in known]
        if unknown or not base:
            raise ConfigError(f"model: expected NAME, or NAME@ and one of {', '.join(known)}, got {text!r}")
        chosen = [suffix for suffix in suffixes if suffix in PRECISIONS]
        if len(suffixes) != len(set(suffixes)) or len(chosen) > 1:
            raise ConfigError(f"model: expected each suffix and one precision at most once, got {text!r}")
        return cls(
            source=f"{folder}{slash}{base}",
            precision=chosen[0] if chosen else precision,
            compile="compile" in suffixes,
        )

    def __str__(self) -> str:
        precision = "" if self.precision == "float32" else f"@{self.precision}"
        return f"{self.source}{precision}{'@compile' if self.compile else ''}"

    def load(self, device: str = "auto") -> ImagePredictor:
        """The predictor; raises what `protomask.load` raises."""
        from protomask.inference.predictor import load

        options: dict[str, Any] = {}
        if self.precision != "float32":
            options["precision"] = self.precision
        if self.compile:
            options["compile"] = True
        return load(self.source, device=device, **options)
