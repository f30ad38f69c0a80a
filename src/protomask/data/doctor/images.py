"""Check of the image files of a data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from protomask.data.coco.schema import wxh
from protomask.data.coco.segmentation import same_aspect
from protomask.data.doctor.similar_images import Fingerprint, fingerprint
from protomask.data.doctor.split import Split


def check_images(split: Split, advance: Callable[[], None]) -> None:
    """Read the images; check their files, their sizes, and whether one occurs twice.

    Args:
        split: receives the fingerprints.
        advance: called after each image.

    """
    dataset = split.dataset
    entry_of: dict[Path, int] = {}
    for index in range(len(dataset)):
        other = entry_of.setdefault(dataset.image_path(index), index)
        if other != index:
            text = f"names the same file as image {dataset.image_ids[other]}"
            split.findings.add("warning", "file named twice", split.place(index), text)
    first_with: dict[bytes, int] = {}
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        found = pool.map(_read, map(dataset.image_path, split.seen_images))
        for index, read in zip(split.seen_images, found, strict=True):
            advance()
            if isinstance(read, str):
                split.findings.add("error", "unreadable image", split.place(index), read)
            elif read is not None:
                split.fingerprints[index] = read
                _check_size(split, index, read)
                other = first_with.setdefault(read.digest, index)
                if dataset.image_path(other) != dataset.image_path(index):
                    text = f"the same image as {split.place(other)}"
                    split.findings.add("note", "image twice", split.place(index), text)


def _check_size(split: Split, index: int, read: Fingerprint) -> None:
    stated = split.dataset.image_size(index)
    if stated in (read.size, read.upright_size):
        if read.orientation != 1 and split.dataset.orientation == "auto" and stated == read.size:
            decided = "as the size in the JSON says" if read.upright_size != read.size else "which the size cannot show"
            text = (
                f"EXIF orientation {read.orientation}: the annotations are taken to lie on the image as it is stored, "
                f"{decided}; most programs show it upright, and predictions are made on the upright image. If they lie "
                f"on the upright image, set exif_orientation to upright in the YAML of the data set; if not, to stored"
            )
            split.findings.add("warning", "EXIF orientation", split.place(index), text)
        return
    text = f"the file is {wxh(read.size)} px, the JSON says {wxh(stated)}: "
    if same_aspect(stated, read.size):
        split.findings.add("warning", "image of another size", split.place(index), text + "annotations are scaled")
    else:
        text += "annotations are cut or padded; do they belong to another image?"
        split.findings.add("warning", "image of another shape", split.place(index), text)


def check_unnamed_files(splits: Sequence[Split]) -> None:
    """Look for image files in the folders that no split names."""
    Image.init()
    suffixes = set(Image.registered_extensions())
    real_folder = cache(os.path.realpath)  # for every file it would take seconds
    known = {
        (real_folder(file.parent), file.name)
        for split in splits
        for file in map(split.dataset.image_path, range(len(split.dataset)))
    }
    for split in splits:
        folder = split.dataset.image_dir
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes):
            real = (real_folder(path.parent), path.name)
            if real not in known:
                known.add(real)
                text = f"no entry names this file in {folder}"
                split.findings.add("note", "file without entry", str(path.relative_to(folder)), text)


def _read(path: Path) -> Fingerprint | str | None:
    """Fingerprint of an image, or why it cannot be read; None if there is no file, which is already known."""
    try:
        return fingerprint(path)
    except FileNotFoundError:
        return "the file is a link to nothing" if path.is_symlink() else None
    except UnidentifiedImageError:
        return "the file is not a readable image" if path.stat().st_size else "the file is empty"
    except Exception as error:
        # What a damaged file makes a decoder raise is not documented.
        return f"the image cannot be read: {str(error) or type(error).__name__}"
