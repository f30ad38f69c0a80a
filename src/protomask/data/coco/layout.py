"""Where the files of a data set are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, get_args

from protomask.data.recognition import conversion_hint
from protomask.errors import DataError
from protomask.structures.coco_json import NAMED, Fault, few, shown
from protomask.structures.file_names import FileNames, with_slashes

Orientation = Literal["auto", "upright", "stored"]
"""Frame of the annotations of images with an EXIF orientation, see `protomask.data.coco.dataset.CocoDataset`."""
_ORIENTATION_KEY = "exif_orientation"
_PATHS = ("train_annotations", "train_images", "val_annotations", "val_images")
_MAX_YAML_BYTES = 1 << 24


@dataclass(frozen=True, kw_only=True)
class DatasetPaths:
    """Paths of the two splits of a data set, which all exist, and how its images are turned."""

    train_annotations: Path
    train_images: Path
    val_annotations: Path
    val_images: Path
    orientation: Orientation = "auto"


def open_dataset(path: str | Path) -> DatasetPaths:
    """Find the four parts of a data set.

    Args:
        path: a folder with ``annotations/{train,val}.json`` and ``images/{train,val}/``, or a YAML file with the keys
            ``train_annotations``, ``train_images``, ``val_annotations``, ``val_images`` (paths relative to the YAML)
            and, if wanted, ``exif_orientation``: auto, upright or stored, see
            `protomask.data.coco.dataset.CocoDataset`.

    Raises:
        DataError: a part is missing; the message names the expected path, and how another layout is converted.

    """
    path = Path(path)
    orientation: Orientation = "auto"
    hint = ""
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise DataError(f"dataset {path}: {error.strerror or error}") from error
    if is_folder:
        parts = {
            f"{split}_{kind}": path / kind / (f"{split}.json" if kind == "annotations" else split)
            for split in ("train", "val")
            for kind in ("annotations", "images")
        }
        hint = conversion_hint(path)
    elif path.suffix.lower() in (".yaml", ".yml"):
        parts, orientation = _read_dataset_yaml(path)
    else:
        raise DataError(
            f"dataset {path}: expected a folder with annotations/{{train,val}}.json and images/{{train,val}}/, "
            f"or a .yaml file naming these four paths; got "
            f"{'a file of another kind' if path.exists() else 'a path that does not exist'}{conversion_hint(path)}"
        )
    for name, part in parts.items():
        try:
            is_there = part.is_file() if name.endswith("annotations") else part.is_dir()
        except OSError as error:
            raise DataError(f"dataset {path}: {name}: {error.strerror or error}") from error
        if not is_there:
            kind = "file" if name.endswith("annotations") else "folder"
            raise DataError(f"dataset {path}: {name} is missing, expected the {kind} {part}{hint}")
    return DatasetPaths(**parts, orientation=orientation)


def read_yaml(path: Path) -> Any:
    """Content of a YAML file of plain values.

    Raises:
        DataError: it cannot be read, or is no such file.

    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses aliases: a few of them make a short file endless."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise yaml.YAMLError("aliases are not read")
            return super().compose_node(parent, index)

    try:
        if path.stat().st_size > _MAX_YAML_BYTES:
            raise DataError(f"{path}: cannot be read as YAML: it is too large")
        return yaml.load(path.read_bytes().decode("utf-8-sig"), Loader)
    except (OSError, ValueError, RecursionError, OverflowError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML: {error}") from error


def _read_dataset_yaml(path: Path) -> tuple[dict[str, Path], Orientation]:
    try:
        content = read_yaml(path)
    except DataError as error:
        raise DataError(f"dataset {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"dataset {path}: expected the keys {list(_PATHS)}, each with one path; got {shown(content)}")
    content = dict(content)
    orientation = content.pop(_ORIENTATION_KEY, "auto")
    if orientation not in get_args(Orientation):
        known = ", ".join(get_args(Orientation))
        raise DataError(f"dataset {path}: {_ORIENTATION_KEY}: expected one of {known}; got {shown(orientation)}")
    if set(content) != set(_PATHS) or not all(isinstance(content[key], str) for key in _PATHS):
        keys = few(sorted(map(str, content)))
        hint = conversion_hint(path) if path.is_file() else ""
        raise DataError(f"dataset {path}: expected the keys {list(_PATHS)}, each with one path; got {keys}{hint}")
    return {key: path.parent / content[key] for key in _PATHS}, orientation


class FoundImages(NamedTuple):
    """Result of `find_images`.

    Attributes:
        files: path of each image relative to the folder.
        faults: one fault if any file is missing.
        respelled: names whose files are spelled in another way, with the file's.
        elsewhere: names whose files lie in another folder than they say, with the file's.

    """

    files: list[str]
    faults: list[Fault]
    respelled: list[tuple[str, str]]
    elsewhere: list[tuple[str, str]]


def find_images(file_names: Sequence[str], image_dir: Path, annotation_file: Path) -> FoundImages:
    """Look for image files; each folder is listed once instead of asking for every file.

    A file is also found without the subfolders of its name, in another spelling (`FileNames`), and in any folder below
    ``image_dir``, if only one fits.

    Args:
        file_names: as the annotation file has them, with or without subfolders.
        image_dir: folder of the images.
        annotation_file: for messages.

    Raises:
        Fault: there is no such folder.

    """
    if not image_dir.is_dir():
        reason = f"expected the images in the folder {image_dir}, which does not exist"
        raise Fault(annotation_file, "image folder", "", reason)
    listings: dict[str, dict[str, None]] = {}

    def listing(folder: str) -> dict[str, None]:
        if folder not in listings:
            listings[folder] = {}
            with suppress(OSError, ValueError), os.scandir(image_dir / folder) as entries:
                listings[folder] = dict.fromkeys(entry.name for entry in entries)
        return listings[folder]

    found: list[str] = []
    missing: list[str] = []
    respelled: list[tuple[str, str]] = []
    elsewhere: list[tuple[str, str]] = []
    every: _Below | None = None
    for name in file_names:
        path = PurePosixPath(with_slashes(name))
        choices = (path, PurePosixPath(path.name))
        choice = next((one for one in choices if one.name in listing(str(one.parent))), None)
        if choice is None:
            every = every or _Below(image_dir)
            spelled = every.paths.find(str(path)) or every.paths.find(path.name)
            deeper = [] if spelled else every.named(path.name)
            if spelled is not None:
                respelled.append((name, spelled))
                choice = PurePosixPath(spelled)
            elif len(deeper) == 1:
                elsewhere.append((name, deeper[0]))
                choice = PurePosixPath(deeper[0])
            else:
                missing.append(f"{name}{every.hint(path.name, deeper) if len(missing) < NAMED else ''}")
        found.append(str(choice or path))
    if not missing:
        return FoundImages(found, [], respelled, elsewhere)
    reason = f"{len(missing)} of {len(file_names)} image files are missing in {image_dir}: {few(missing)}"
    return FoundImages(found, [Fault(annotation_file, "missing files", "", reason, missing)], respelled, elsewhere)


class _Below:
    """All files in a folder and below it, by path and by name."""

    def __init__(self, folder: Path) -> None:
        self.paths = FileNames(_files_below(folder))
        self._of_name: dict[str, list[str]] = {}
        for path in self.paths.names:
            self._of_name.setdefault(path.rpartition("/")[2], []).append(path)
        self._names = FileNames(self._of_name)

    def named(self, name: str) -> list[str]:
        """Paths of the files of this name, however it is spelled."""
        spelled = self._names.find(name)
        return [] if spelled is None else self._of_name[spelled]

    def hint(self, name: str, several: Sequence[str]) -> str:
        """What to say of a name that is missing."""
        if several:
            return f" (there are {few(several)})"
        close = self.paths.close_to(name) or self._names.close_to(name)
        return f" (is {close} meant?)" if close else ""


def _files_below(folder: Path) -> Iterator[str]:
    """Paths of all files in a folder and below it."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        relative = Path(place).relative_to(folder)
        yield from ((relative / name).as_posix() for name in sorted(names))
