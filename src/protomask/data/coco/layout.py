"""Where the files of a data set are."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from protomask.data.coco.schema import Fault, few
from protomask.errors import DataError


@dataclass(frozen=True, kw_only=True)
class DatasetPaths:
    """Paths of the two splits of a data set; all four exist."""

    train_annotations: Path
    train_images: Path
    val_annotations: Path
    val_images: Path


def open_dataset(path: str | Path) -> DatasetPaths:
    """Find the four parts of a data set.

    Args:
        path: a folder with ``annotations/{train,val}.json`` and ``images/{train,val}/``, or a YAML file with exactly
            the keys ``train_annotations``, ``train_images``, ``val_annotations``, ``val_images`` (paths relative to the
            YAML).

    Raises:
        DataError: a part is missing; the message names the expected path.

    """
    path = Path(path)
    if path.is_dir():
        parts = {
            f"{split}_{kind}": path / kind / (f"{split}.json" if kind == "annotations" else split)
            for split in ("train", "val")
            for kind in ("annotations", "images")
        }
    elif path.suffix.lower() in (".yaml", ".yml"):
        parts = _read_dataset_yaml(path)
    else:
        raise DataError(
            f"dataset {path}: expected a folder with annotations/{{train,val}}.json and images/{{train,val}}/, "
            f"or a .yaml file naming these four paths; got "
            f"{'a file of another kind' if path.exists() else 'a path that does not exist'}"
        )
    for name, part in parts.items():
        is_there = part.is_file() if name.endswith("annotations") else part.is_dir()
        if not is_there:
            kind = "file" if name.endswith("annotations") else "folder"
            raise DataError(f"dataset {path}: {name} is missing, expected the {kind} {part}")
    return DatasetPaths(**parts)


def _read_dataset_yaml(path: Path) -> dict[str, Path]:
    import yaml

    expected = list(DatasetPaths.__dataclass_fields__)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"dataset {path}: cannot be read as YAML: {error}") from error
    keys = sorted(map(str, content)) if isinstance(content, dict) else []
    if keys != sorted(expected) or not all(isinstance(content[key], str) for key in keys):
        got = keys if isinstance(content, dict) else type(content).__name__
        raise DataError(f"dataset {path}: expected the keys {expected}, each with one path; got {got}")
    return {key: path.parent / content[key] for key in expected}


def find_images(file_names: Sequence[str], image_dir: Path, annotation_file: Path) -> tuple[list[str], list[Fault]]:
    """Look for image files; each folder is listed once instead of asking for every file.

    Args:
        file_names: as the annotation file has them, with or without subfolders.
        image_dir: folder of the images.
        annotation_file: for messages.

    Returns:
        Path of each image relative to ``image_dir``, and a fault if any is missing.

    Raises:
        Fault: there is no such folder.

    """
    if not image_dir.is_dir():
        reason = f"expected the images in the folder {image_dir}, which does not exist"
        raise Fault(annotation_file, "image folder", "", reason)
    listings: dict[str, set[str]] = defaultdict(set)
    listed: set[str] = set()

    def exists(path: PurePosixPath) -> bool:
        folder = str(path.parent)
        if folder not in listed:
            listed.add(folder)
            if (image_dir / folder).is_dir():
                with os.scandir(image_dir / folder) as entries:
                    listings[folder] = {entry.name for entry in entries}
        return path.name in listings[folder]

    found: list[str] = []
    missing: list[str] = []
    for name in file_names:
        path = PurePosixPath(name.replace("\\", "/"))
        choice = next((candidate for candidate in (path, PurePosixPath(path.name)) if exists(candidate)), None)
        if choice is None:
            missing.append(name)
        found.append(str(choice or path))
    if not missing:
        return found, []
    reason = f"{len(missing)} of {len(file_names)} image files are missing in {image_dir}: {few(missing)}"
    return found, [Fault(annotation_file, "missing files", "", reason, missing)]
