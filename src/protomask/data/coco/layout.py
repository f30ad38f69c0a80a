"""Where the files of a data set are."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, get_args

from protomask.data.coco.shard_layout import Shards, find_shards
from protomask.data.recognition import conversion_hint
from protomask.errors import DataError
from protomask.structures.coco_json import NAMED, Fault, few, shown
from protomask.structures.file_names import FileNames, with_slashes

Orientation = Literal["auto", "upright", "stored"]
"""Frame of the annotations of images with an EXIF orientation, see `protomask.data.coco.dataset.CocoDataset`."""
_ORIENTATION_KEY = "exif_orientation"
_CLASSES_KEY = "classes"
_KINDS = ("annotations", "images")
TRAINING_SPLITS = ("train", "val")
"""What a data set must have to be trained on."""
_MAX_YAML_BYTES = 1 << 24


class SplitPaths(NamedTuple):
    """Where a split is: its COCO JSON, and the folder of its images."""

    annotations: Path
    images: Path


@dataclass(frozen=True, kw_only=True)
class DatasetPaths:
    """Where the splits of a data set are, and how its images are turned.

    Attributes:
        splits: by name: those asked for, which exist, and any others that the data set has.
        orientation: frame of the annotations of turned images.
        classes: names of the only classes to look at; None for all.
        shards: the data set in Parquet, where it is one; its splits have an index and a folder of Parquet files.

    """

    splits: Mapping[str, SplitPaths]
    orientation: Orientation = "auto"
    classes: tuple[str, ...] | None = None
    shards: Shards | None = None


def open_dataset(
    path: str | Path, splits: Sequence[str] = TRAINING_SPLITS, *, classes: Sequence[str] | None = None
) -> DatasetPaths:
    """Find the splits of a data set.

    Args:
        path: a folder with ``annotations/SPLIT.json`` and ``images/SPLIT/``, or a YAML file with the keys
            ``SPLIT_annotations`` and ``SPLIT_images`` for each split (paths relative to the YAML) and, if wanted,
            ``exif_orientation``: auto, upright or stored, and ``classes``: a list of names, see
            `protomask.data.coco.dataset.CocoDataset`; or the folder or address of a data set in Parquet.
        splits: names of the splits that must be there.
        classes: names of the only classes to look at; by default those of the YAML, or all.

    Raises:
        DataError: a part is missing; the message names the expected path, and how another layout is converted.

    """
    shards = find_shards(path)
    if shards is not None:
        return _of_shards(shards, splits, classes)
    path = Path(path)
    orientation: Orientation = "auto"
    own_classes: tuple[str, ...] | None = None
    hint = ""
    try:
        is_folder = path.is_dir()
        if is_folder:
            found = _splits_of_folder(path)
            hint = conversion_hint(path) if set(found) <= {"train"} else ""
    except OSError as error:
        raise DataError(f"dataset {path}: {error.strerror or error}") from error
    if is_folder:
        asked = {split: SplitPaths(path / "annotations" / f"{split}.json", path / "images" / split) for split in splits}
    elif path.suffix.lower() in (".yaml", ".yml"):
        found, orientation, own_classes = _read_dataset_yaml(path, splits)
        asked = {split: found[split] for split in splits if split in found}
    else:
        raise DataError(
            f"dataset {path}: expected a folder with annotations/{{train,val}}.json and images/{{train,val}}/, "
            f"or a .yaml file naming these four paths; got "
            f"{'a file of another kind' if path.exists() else 'a path that does not exist'}{conversion_hint(path)}"
        )
    for split in splits:
        if split not in asked:
            raise DataError(f"dataset {path}: expected the split {split!r}{_others(split, found)}")
        for kind, part in zip(_KINDS, asked[split], strict=True):
            _check_there(part, kind, f"dataset {path}: {split}_{kind}", _others(split, found) + hint)
    return DatasetPaths(
        splits={**asked, **{name: own for name, own in found.items() if name not in asked}},
        orientation=orientation,
        classes=own_classes if classes is None else tuple(classes),
    )


def _of_shards(shards: Shards, splits: Sequence[str], classes: Sequence[str] | None) -> DatasetPaths:
    found = {
        name: SplitPaths(Path(str(shards.index_of(name))), Path(str(shards.folder.child(name))))
        for name in shards.splits
    }
    for split in splits:
        if split not in found:
            raise DataError(f"dataset {shards.folder}: expected the split {split!r}{_others(split, found)}")
    return DatasetPaths(
        splits=found,
        orientation=shards.orientation,
        classes=None if classes is None else tuple(classes),
        shards=shards,
    )


def _check_there(part: Path, kind: str, where: str, hint: str) -> None:
    """Raises: DataError unless a file of annotations, or a folder of images, is there."""
    try:
        is_there = part.is_file() if kind == "annotations" else part.is_dir()
    except OSError as error:
        raise DataError(f"{where}: {error.strerror or error}") from error
    if not is_there:
        what = "file" if kind == "annotations" else "folder"
        raise DataError(f"{where} is missing, expected the {what} {part}{hint}")


def _others(split: str, found: Mapping[str, SplitPaths]) -> str:
    """What else a data set has in the place of a split, for the end of a message."""
    if not found or split in found:
        return ""
    near = difflib.get_close_matches(split, found, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"; its splits are {', '.join(found)}{hint}"


def _splits_of_folder(path: Path) -> dict[str, SplitPaths]:
    """The splits of which both annotations and images are there: those of a training first, then by name."""
    folder = path / "annotations"
    names = sorted(file.stem for file in folder.glob("*.json")) if folder.is_dir() else []
    names.sort(key=lambda name: (*TRAINING_SPLITS, name).index(name))
    parts = {name: SplitPaths(folder / f"{name}.json", path / "images" / name) for name in names}
    return {name: own for name, own in parts.items() if own.images.is_dir()}


def read_yaml(path: Path) -> Any:
    """Content of a YAML file of plain values.

    Raises:
        DataError: it cannot be read, or is not such a file.

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


def _read_dataset_yaml(
    path: Path, splits: Sequence[str]
) -> tuple[dict[str, SplitPaths], Orientation, tuple[str, ...] | None]:
    expected = [f"{split}_{kind}" for split in splits for kind in _KINDS]
    try:
        content = read_yaml(path)
    except DataError as error:
        raise DataError(f"dataset {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"dataset {path}: expected the keys {expected}, each with one path; got {shown(content)}")
    content = dict(content)
    orientation = content.pop(_ORIENTATION_KEY, "auto")
    if orientation not in get_args(Orientation):
        known = ", ".join(get_args(Orientation))
        raise DataError(f"dataset {path}: {_ORIENTATION_KEY}: expected one of {known}; got {shown(orientation)}")
    classes = content.pop(_CLASSES_KEY, None)
    if classes is not None and not (isinstance(classes, list) and classes and all(isinstance(x, str) for x in classes)):
        raise DataError(f"dataset {path}: {_CLASSES_KEY}: expected a list of names; got {shown(classes)}")
    names = dict.fromkeys(str(key).rpartition("_")[0] for key in content)
    pairs = {f"{name}_{kind}" for name in names for kind in _KINDS}
    if not content or set(content) != pairs or not all(isinstance(value, str) for value in content.values()):
        keys = few(sorted(map(str, content)))
        hint = conversion_hint(path) if path.is_file() else ""
        raise DataError(f"dataset {path}: expected the keys {expected}, each with one path; got {keys}{hint}")
    found = {name: SplitPaths(*(path.parent / content[f"{name}_{kind}"] for kind in _KINDS)) for name in names}
    return found, orientation, None if classes is None else tuple(classes)


class FoundImages(NamedTuple):
    """Result of `find_images`.

    Attributes:
        files: path of each image relative to the folder.
        faults: one fault if any file is missing.
        respelled: names whose files are spelled in another way, with the file's.
        elsewhere: names whose files lie in a different folder from the one they say, with the file's.

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
        return f" (did you mean {close}?)" if close else ""


def _files_below(folder: Path) -> Iterator[str]:
    """Paths of all files in a folder and below it."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        relative = Path(place).relative_to(folder)
        yield from ((relative / name).as_posix() for name in sorted(names))
