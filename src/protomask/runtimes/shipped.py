"""The models that ship with the package, as ONNX files."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path

SHIPPED = {"yolact_nano": "yolact_nano.onnx", "nuclei": "nuclei.onnx"}
"""File in the folder ``weights`` of the package, by the name of the model."""


def shipped_file(name: str) -> AbstractContextManager[Path]:
    """The file of a shipped model, which exists while the context lasts."""
    return as_file(files("protomask") / "weights" / SHIPPED[name])
