"""MOTS: the tracks of one video as text or as a folder of PNG files (Voigtlaender et al., CVPR 2019).

Text has a line per object and frame: ``frame id class height width code``. A PNG is 16-bit gray, 0 for none. The id of
an object is 1000 times its class, counted from 1, plus a number below 1000; id 10000 is a region that is not judged.
Masks of a frame do not overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protomask.errors import DataError
from protomask.files import replacing
from protomask.images.pixels import check_claim
from protomask.masks.rle import Rle, encode_rle, encode_runs, rle_to_runs
from protomask.masks.runs import runs_to_window
from protomask.structures.coco_json import max_pixels
from protomask.structures.tracks import MAX_FRAMES, Tracklet, VideoTracks

IGNORED = 10_000
"""Id of regions that are not judged."""
_PER_CLASS = 1000
_MAX_ID = (1 << 16) - 1
_FIELDS = 6

Codes = dict[int, dict[int, Rle]]
"""Mask by id and frame."""


# Reading


def read_mots_text(path: str | Path, class_names: Sequence[str]) -> VideoTracks:
    """Read a text file.

    Args:
        path: path of the file; its name without the ending becomes that of the video.
        class_names: name of each class of the file, from class 1 on.

    Raises:
        DataError: the file cannot be read, or a line contradicts the format; the message names file and line.

    """
    file = Path(path)
    try:
        lines = file.read_bytes().decode("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as MOTS text: {error}") from error
    codes: Codes = {}
    classes: dict[int, int] = {}
    size: tuple[int, int] | None = None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            frame, track_id, class_id, own_size, code = _read_line(line)
            if size not in (None, own_size):
                raise DataError(f"expected frames of {size} as before, got {own_size}")
            if classes.setdefault(track_id, class_id) != class_id:
                raise DataError(f"expected class {classes[track_id]} of object {track_id} as before, got {class_id}")
            if frame in codes.setdefault(track_id, {}):
                raise DataError(f"object {track_id} occurs twice in frame {frame}")
        except DataError as error:
            raise DataError(f"{file}: line {number}: {error}") from None
        size = own_size
        codes[track_id][frame] = code
    return _video(file, file.stem, codes, classes, size, class_names)


def _read_line(line: str) -> tuple[int, int, int, tuple[int, int], Rle]:
    words = line.split(" ")
    if len(words) != _FIELDS or not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words[:5]):
        raise DataError(f"expected frame, id, class, height, width and a run-length code, got {line[:60]!r}")
    frame, track_id, class_id, height, width = map(int, words[:5])
    if frame >= MAX_FRAMES:
        raise DataError(f"expected a frame below {MAX_FRAMES}, got {frame}")
    if not 0 < height * width <= max_pixels():
        raise DataError(f"expected the height and width of a frame, got {height} and {width}")
    runs, size = rle_to_runs({"size": [height, width], "counts": words[5]})
    return frame, track_id, class_id, size, encode_runs([runs], size)[0]


def read_mots_images(folder: str | Path, class_names: Sequence[str]) -> VideoTracks:
    """Read a folder of PNG files, whose names are the numbers of the frames; the lowest one becomes frame 0.

    Args:
        folder: folder of one video.
        class_names: name of each class of the files, from class 1 on.

    Raises:
        DataError: a file cannot be read, or is not such an image; the message names it.

    """
    folder = Path(folder)
    files = {int(file.stem): file for file in folder.glob("*.png") if file.stem.isascii() and file.stem.isdigit()}
    if not files:
        raise DataError(f"{folder}: expected PNG files with numbers as names, got none")
    first = min(files)
    if max(files) - first >= MAX_FRAMES:
        raise DataError(f"{folder}: expected up to {MAX_FRAMES} frames, got numbers from {first} to {max(files)}")
    codes: Codes = {}
    size: tuple[int, int] | None = None
    for number, file in sorted(files.items()):
        numbers = _read_png(file, size)
        size = (numbers.shape[0], numbers.shape[1])
        for track_id in np.unique(numbers).tolist():
            if track_id:
                codes.setdefault(track_id, {})[number - first] = encode_rle((numbers == track_id)[None])[0]
    classes = {track_id: track_id // _PER_CLASS for track_id in codes}
    video = _video(folder, folder.name, codes, classes, size, class_names)
    return VideoTracks(**{**vars(video), "num_frames": max(files) - first + 1})


def _read_png(file: Path, size: tuple[int, int] | None) -> NDArray[np.uint16]:
    try:
        with Image.open(file, formats=["PNG"]) as image:
            check_claim(image, file.stat().st_size, str(file))
            if size not in (None, (image.height, image.width)):
                raise DataError(f"{file}: expected frames of {size} as before, got {(image.height, image.width)}")
            if image.height * image.width > max_pixels() or image.mode not in ("I;16", "I", "L"):
                raise DataError(
                    f"{file}: expected a gray PNG of 16 bits, got mode {image.mode}, {image.width}x{image.height}"
                )
            pixels = np.asarray(image)
    except DataError:
        raise
    except Exception as error:
        # What a damaged file makes a decoder raise is not documented.
        raise DataError(f"{file}: cannot be read as an image: {str(error) or type(error).__name__}") from error
    if pixels.size and (pixels.min() < 0 or pixels.max() > _MAX_ID):
        raise DataError(f"{file}: expected ids from 0 to {_MAX_ID}, got {int(pixels.min())} to {int(pixels.max())}")
    return pixels.astype(np.uint16)


def _video(
    file: Path,
    name: str,
    codes: Codes,
    classes: Mapping[int, int],
    size: tuple[int, int] | None,
    class_names: Sequence[str],
) -> VideoTracks:
    tracks = []
    for track_id, masks in sorted(codes.items()):
        ignored = track_id == IGNORED
        label = 0 if ignored else classes[track_id] - 1
        if not ignored and not 0 <= label < len(class_names):
            raise DataError(
                f"{file}: object {track_id}: expected class 1 to {len(class_names)} ({', '.join(class_names)}), "
                f"got {label + 1}"
            )
        tracks.append(Tracklet(track_id=track_id, label=label, masks=masks, is_crowd=ignored))
    length = max((index for track in tracks for index in track.masks), default=-1) + 1
    return VideoTracks(name=name, image_size=size, num_frames=length, tracks=tuple(tracks))


# Writing


def write_mots_text(path: str | Path, video: VideoTracks) -> None:
    """Write a text file; where masks overlap, the track of higher score has the pixels.

    Raises:
        DataError: the file cannot be written, or there are more objects than ids.

    """
    lines = []
    for index, numbers in enumerate(_numbered_frames(video)):
        for track_id in np.unique(numbers).tolist():
            if track_id:
                code = encode_rle((numbers == track_id)[None])[0]
                height, width = code["size"]
                lines.append(f"{index} {track_id} {track_id // _PER_CLASS} {height} {width} {code['counts']}\n")
    with replacing(Path(path), error=DataError) as file:
        file.write("".join(lines).encode("ascii"))


def write_mots_images(folder: str | Path, video: VideoTracks) -> None:
    """Write a PNG per frame, ``000000.png`` and so on; where masks overlap, the track of higher score has the pixels.

    Raises:
        DataError: a file cannot be written, or there are more objects than ids.

    """
    for index, numbers in enumerate(_numbered_frames(video)):
        with replacing(Path(folder) / f"{index:06d}.png", error=DataError) as file:
            Image.fromarray(numbers).save(file, format="PNG")


def _numbered_frames(video: VideoTracks) -> Iterable[NDArray[np.uint16]]:
    """Ids (H, W) of the objects of each frame."""
    ids = mots_ids(video)
    if video.num_frames and video.image_size is None:
        raise DataError(f"{video.name}: expected a video whose size is known, got one without any")
    for index, tracks in enumerate(video.frames()):
        assert video.image_size is not None
        numbers = np.zeros(video.image_size, dtype=np.uint16)
        for track in sorted(tracks, key=lambda track: (track.is_crowd, -track.score, track.track_id)):
            top, left, mask = runs_to_window(rle_to_runs(track.masks[index])[0], video.image_size[0])
            part = numbers[top : top + mask.shape[0], left : left + mask.shape[1]]
            np.copyto(part, ids[track.track_id], where=mask & (part == 0))
        yield numbers


def mots_ids(video: VideoTracks) -> dict[int, int]:
    """The id of each track in MOTS files: its own if that is an id of its class, else the next free one of its class.

    Raises:
        DataError: there are more objects than ids.

    """
    ids: dict[int, int] = {}
    for track in video.tracks:
        if track.is_crowd:
            ids[track.track_id] = IGNORED
        elif track.track_id // _PER_CLASS == track.label + 1:
            ids[track.track_id] = track.track_id
    taken = set(ids.values())
    for track in video.tracks:
        if track.track_id in ids:
            continue
        base = (track.label + 1) * _PER_CLASS
        free = next((base + number for number in range(_PER_CLASS) if base + number not in taken | {IGNORED}), None)
        if free is None or free > _MAX_ID:
            raise DataError(f"{video.name}: expected up to {_PER_CLASS} objects of each of 64 classes, got more")
        ids[track.track_id] = free
        taken.add(free)
    return ids
