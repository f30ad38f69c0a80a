"""Folders of small images for bulk prediction."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from PIL import Image

SCENE = Path(str(files("protomask"))) / "samples" / "scene_1.jpg"
"""In which the shipped model finds something."""


def write_images(folder: Path, names: Iterable[str], *, broken: Iterable[str] = ()) -> Path:
    """Writes parts of a scene under these names, and files that are not images under the others."""
    with Image.open(SCENE) as scene:
        for number, name in enumerate(names):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            left = 8 * (number % 8)
            scene.crop((left, 20, left + 96, 100)).save(path)
    for name in broken:
        (folder / name).write_bytes(b"no image")
    return folder
