"""The models that ship with the package, as ONNX files, and the sample images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path

SHIPPED = {name: f"{name}.onnx" for name in ("everyday", "shapes", "nuclei", "yolact_nano")}
"""File in the folder ``weights`` of the package, by the name of the model."""


SAMPLES = Path(str(files("protomask"))) / "samples"
"""Folder of the sample images: photographs and synthetic scenes."""


def sample_images(class_names: Sequence[str]) -> list[Path]:
    """The sample images in which a model of these classes can find something."""
    known = set(class_names)
    kinds = [("photo", {"person"}), ("scene", {"disk", "ring", "star"})]
    return [path for kind, shown in kinds if shown <= known for path in sorted(SAMPLES.glob(f"{kind}_*.jpg"))]


def shipped_file(name: str) -> AbstractContextManager[Path]:
    """The file of a shipped model, which exists while the context lasts."""
    return as_file(files("protomask") / "weights" / SHIPPED[name])
