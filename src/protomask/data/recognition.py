"""What format a folder or file of annotations has, and the command that converts it.

Each format is recognised by the files that only it has. Readers ask the same functions for these files, so that what is
recognised is what is read.
"""

from __future__ import annotations

import mmap
import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

from protomask.data.folders import list_images, paired_folders, read_text, split_folders, split_name
from protomask.errors import DataError
from protomask.structures.coco_json import CocoFile

_ROBOFLOW = "_annotations.coco.json"
_NAMES_AND_IMAGES = re.compile(r"(?ms)(?=.*^names\s*:)(?=.*^(train|val|test)\s*:)")
_START = 1 << 16  # bytes of a file that are looked at
_MAX_FILES = 1000  # that are looked at in a folder and below
_MAX_SPLITS = 20  # files with a split each
_VIA_COLUMNS = b"region_shape_attributes"
# What people call the formats, for messages.
TITLES = {
    "coco": "COCO", "panoptic": "COCO panoptic", "yolo": "YOLO", "labelme": "LabelMe", "voc": "Pascal VOC",
    "via": "VGG Image Annotator", "cvat": "CVAT", "label-studio": "Label Studio", "supervisely": "Supervisely",
    "masks": "mask PNGs",
}  # fmt: skip


def recognise(source: Path) -> dict[str, str]:
    """Formats that fit a data set, each with what shows it.

    Raises:
        DataError: a file that decides cannot be read.

    """
    return {name: evidence for name, detect in _DETECTORS.items() if (evidence := detect(source)) is not None}


def conversion_hint(path: Path) -> str:
    """How to make a data set of one in another format, for the end of a message; empty where there is none."""
    if path.is_file() and path.suffix.lower() == ".zip":
        return f"; unpack the archive, then `protomask data convert FOLDER {path.stem}`"
    formats: dict[str, str] = {}
    with suppress(DataError, OSError):
        formats = recognise(path) if path.exists() else {}
    if not formats:
        return ""
    place = path if path.name not in ("", "..") else path.resolve()
    output = place.with_name(f"{place.name if place.is_dir() else place.stem}-converted")
    split = "" if _has_validation(path) else " --split 0.8,0.2"
    which = f" --from {next(iter(formats))}" if len(formats) > 1 else ""
    seen = " or ".join(f"{TITLES[name]} ({evidence})" for name, evidence in formats.items())
    command = f"protomask data convert {shlex.quote(str(path))} {shlex.quote(str(output))}{which}{split}"
    return f"; this looks like {seen}: `{command}` makes a data set of it"


def _has_validation(path: Path) -> bool:
    """Whether folders, or annotation files, are called like a validation split."""
    files = _candidates(path, ".json", ".xml", ".csv") if path.is_dir() else []
    folders = [one for pattern in ("*/", "*/*/") for one in islice(path.glob(pattern), _MAX_FILES)]
    return any(split_name(one.stem) == "val" for one in (*files, *folders))


def _start(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_START)
    except OSError:
        return b""


def holds(file: Path, text: bytes) -> bool:
    """Whether a file of any size holds some bytes."""
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(text) >= 0
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


def _candidates(source: Path, *endings: str) -> list[Path]:
    """The file, or those of a folder and its folders, that have one of the endings."""
    if not source.is_dir():
        return [source] if source.suffix.lower() in endings else []
    folders = [source, *sorted(Path(entry.path) for entry in os.scandir(source) if entry.is_dir())]
    found = (
        sorted(Path(entry.path) for entry in os.scandir(folder) if entry.name.lower().endswith(endings))
        for folder in folders
    )
    return [path for path in islice(chain.from_iterable(found), _MAX_FILES) if path.is_file()]


# COCO


def coco_files(folder: Path) -> list[tuple[str, Path]]:
    """Splits and files: ``annotations/*.json``, Roboflow's one per split folder, or the only JSON of its kind."""
    files = sorted((folder / "annotations").glob("*.json"))
    # COCO's own folder has captions, keypoints and panoptic files beside the instances.
    files = [file for file in files if file.stem.startswith("instances")] or files
    named = [(file.stem, file) for file in files if not _is_panoptic(file)]
    named = named or [(file.parent.name, file) for file in sorted(folder.glob(f"*/{_ROBOFLOW}"))]
    named = named or [(file.stem, file) for file in _root_files(folder)]
    return [(split_name(name) or (name if len(named) > 1 else "train"), file) for name, file in named]


def _root_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.json"))
    # More are LabelMe's, one per image.
    return [file for file in files if _is_coco(file)] if len(files) <= 4 else []


def _is_coco(file: Path) -> bool:
    with suppress(DataError):
        return {"images", "annotations"} <= set(CocoFile.read(file).content) and not _is_panoptic(file)
    return False


def _detect_coco(source: Path) -> str | None:
    if source.is_file():
        if source.suffix.lower() == ".json" and not _start(source).lstrip().startswith(b"["):
            CocoFile.read(source)  # its error is better than none of a format
            return "a JSON with images and annotations" if _is_coco(source) else None
        return "a YAML with train_annotations" if _names_annotations(source) else None
    files = coco_files(source)
    return str(files[0][1].relative_to(source)) if files else None


def _names_annotations(source: Path) -> bool:
    return source.suffix.lower() in (".yaml", ".yml") and "train_annotations" in source.read_text(errors="replace")


def _is_panoptic(file: Path) -> bool:
    return not file.stem.startswith("instances") and holds(file, b'"segments_info"')


def panoptic_files(source: Path) -> list[tuple[str, Path]]:
    """Splits and files: JSON with ``segments_info`` in a folder, or in its ``annotations``."""
    if source.is_dir() and any((source / "annotations").glob("instances*.json")):
        return []  # the instances themselves
    files = _candidates(source, ".json")
    # More are files of one image each, which may be large.
    files = [file for file in files if _is_panoptic(file)] if len(files) <= _MAX_SPLITS else []
    named = [(file.parent.name if file.stem.startswith("_") else file.stem, file) for file in files]
    return [(split_name(name) or (name if len(named) > 1 else "train"), file) for name, file in named]


def _detect_panoptic(source: Path) -> str | None:
    return next((f"{file.name} with segments_info" for _, file in panoptic_files(source)), None)


# YOLO


def yolo_yaml(source: Path) -> Path | None:
    """The ``data.yaml`` of a YOLO data set, whatever it is called."""
    files = [source] if source.is_file() else sorted(source.glob("*.y*ml"))
    for file in files:
        if file.suffix.lower() in (".yaml", ".yml") and _NAMES_AND_IMAGES.match(read_text(file)):
            return file
    return None


def text_files(folder: Path) -> Iterator[Path]:
    """Files with the ending ``.txt`` in a folder and below."""
    return (path for path in folder.rglob("*") if path.suffix.lower() == ".txt")


def _detect_yolo(source: Path) -> str | None:
    file = yolo_yaml(source)
    if file is not None:
        return f"{file.name} with names"
    if source.is_dir():
        for _, labels in paired_folders(source, "images", "labels").values():
            found = next(text_files(labels), None)
            if found is not None:
                return str(found.relative_to(source))
    return None


# Folders with a file for each image


def _detect_labelme(source: Path) -> str | None:
    if source.is_dir():
        for file in sorted(source.rglob("*.json"))[:20]:
            start = _start(file)
            # An image within may come first; it is base64, so it cannot hold the key.
            if b'"shapes"' in start or b'"imageData"' in start:
                return f"{file.relative_to(source)} with shapes"
    return None


def supervisely_folders(source: Path) -> list[Path]:
    """Folders that hold ``ann`` and ``img``: the data sets of a Supervisely project."""
    if not source.is_dir():
        return []
    places = sorted(path.parent for path in source.rglob("ann") if path.is_dir())
    return [place for place in places if (place / "img").is_dir()]


def _detect_supervisely(source: Path) -> str | None:
    for folder in supervisely_folders(source):
        for file in islice(sorted((folder / "ann").glob("*.json")), 20):
            if holds(file, b'"objects"'):
                return f"{file.relative_to(source)} with objects"
    return None


def _detect_voc(source: Path) -> str | None:
    for root in (source, source / "dataset"):
        if (root / "inst").is_dir() and next(root.glob("inst/*.mat"), None):
            return "inst/*.mat of SBD"
    return "JPEGImages" if (source / "JPEGImages").is_dir() else None


def folders_of_masks(folder: Path) -> Iterator[Path]:
    """Folders of one image and its masks each; several images beside masks are a data set with label maps."""
    for path in sorted(folder.iterdir()):
        if (path / "masks").is_dir() and (path / "images").is_dir() and len(list_images(path / "images")) <= 1:
            yield path


def _detect_masks(source: Path) -> str | None:
    if not source.is_dir():
        return None
    for folder in split_folders(source).values():
        found = next(folders_of_masks(folder), None)
        if found is not None:
            return f"{(found / 'masks').relative_to(source)} with a PNG per object"
    for images, masks in paired_folders(source, "images", "masks").values():
        if images.is_dir() and masks.is_dir():
            return f"{masks.relative_to(source)} with a label map per image"
    return None


# Tools with one file about all images


def via_files(source: Path) -> list[Path]:
    """Files of the VGG Image Annotator: projects, and annotations as JSON or CSV."""
    kinds: dict[tuple[Path, int], list[Path]] = {}
    for file in _candidates(source, ".json", ".csv"):
        start = _start(file)
        if file.suffix.lower() == ".csv":
            kind = 2 if _VIA_COLUMNS in start else None
        elif b'"_via_' in start:
            kind = 0
        else:
            kind = 1 if all(key in start for key in (b'"regions"', b'"filename"', b'"file_attributes"')) else None
        if kind is not None:
            kinds.setdefault((file.parent, kind), []).append(file)
    # A project lies beside the annotations that were exported from it: it says all.
    best = {folder: min(kind for place, kind in kinds if place == folder) for folder, _ in kinds}
    return sorted(file for (folder, kind), files in kinds.items() if best[folder] == kind for file in files)


def _detect_via(source: Path) -> str | None:
    return next((f"{file.name} with regions" for file in via_files(source)), None)


def cvat_files(source: Path) -> list[Path]:
    """XML files of CVAT."""
    return [file for file in _candidates(source, ".xml") if re.search(rb"<annotations[\s>]", _start(file))]


def _detect_cvat(source: Path) -> str | None:
    return next((str(file.name) for file in cvat_files(source)), None)


def label_studio_files(source: Path) -> list[Path]:
    """JSON exports of Label Studio, full or JSON_MIN: lists of tasks."""
    return [
        file
        for file in _candidates(source, ".json")
        if re.match(rb"\s*(\xef\xbb\xbf)?\s*\[\s*\{", _start(file))
        and (holds(file, b'"original_width"') or re.search(rb'"annotations"\s*:\s*\[', _start(file)))
    ]


def _detect_label_studio(source: Path) -> str | None:
    return next((f"{file.name} with tasks" for file in label_studio_files(source)), None)


_DETECTORS: dict[str, Callable[[Path], str | None]] = {
    "coco": _detect_coco,
    "panoptic": _detect_panoptic,
    "yolo": _detect_yolo,
    "labelme": _detect_labelme,
    "voc": _detect_voc,
    "via": _detect_via,
    "cvat": _detect_cvat,
    "label-studio": _detect_label_studio,
    "supervisely": _detect_supervisely,
    "masks": _detect_masks,
}
