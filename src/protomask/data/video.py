"""Annotated videos on disk: YouTube-VIS JSON and the folder of the frames."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

from protomask.errors import DataError
from protomask.images.decode import Pixels, read_image
from protomask.structures.tracks import VideoTracks
from protomask.structures.youtube_vis import YoutubeVis, read_youtube_vis

_MARK = b'"videos"'
_IMAGE_FOLDERS = ("JPEGImages", "images", ".")
"""Beside an annotation file."""


@dataclass(frozen=True, kw_only=True)
class VideoData:
    """A set of annotated videos.

    Attributes:
        truth: the videos and their objects.
        images: folder that the file names of the frames begin in.

    """

    truth: YoutubeVis
    images: Path

    def read_frame(self, video: VideoTracks, index: int) -> Pixels:
        """A frame, (H, W, 3) uint8 RGB.

        Raises:
            DataError: it cannot be read, or its size is not the one in the annotations.

        """
        image = read_image(self.images / video.file_names[index])
        if image.shape[:2] != video.image_size:
            raise DataError(
                f"{self.images / video.file_names[index]}: expected (H, W) = {video.image_size} as "
                f"{self.truth.path.name} says, got {image.shape[:2]}"
            )
        return image


def find_video_annotations(data: str | Path, split: str = "val") -> Path | None:
    """The YouTube-VIS file that ``data`` means: itself, ``annotations/SPLIT.json``, ``SPLIT/instances.json`` or
    ``SPLIT.json`` in the folder; None where it means something else, such as COCO's images.
    """
    data = Path(data)
    if data.suffix.lower() == ".json":
        return data if _has_videos(data) else None
    for place in (f"annotations/{split}.json", f"{split}/instances.json", f"{split}.json"):
        if _has_videos(data / place):
            return data / place
    return None


def _has_videos(file: Path) -> bool:
    """Whether a JSON file speaks of videos; it is only searched, for it may be large."""
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(_MARK) >= 0
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


def open_videos(annotations: Path, *, needs_frames: bool = True) -> VideoData:
    """Read an annotation file, and find the frames.

    Args:
        annotations: see `find_video_annotations`.
        needs_frames: the frames are to be read.

    Raises:
        DataError: the file is wrong, or the frames are not there; the message names it.

    """
    truth = read_youtube_vis(annotations)
    if not truth.videos:
        raise DataError(f"{annotations}: expected at least one video, got none")
    first = next((video for video in truth.videos.values() if video.file_names), None)
    if needs_frames and any(not video.file_names and video.num_frames for video in truth.videos.values()):
        raise DataError(f"{annotations}: expected file_names in every video")
    folders = [annotations.parent / name for name in (*_IMAGE_FOLDERS, f"{annotations.stem}/JPEGImages")]
    folders.insert(0, annotations.parent.parent / "images" / annotations.stem)
    there = [folder for folder in folders if first is not None and (folder / first.file_names[0]).is_file()]
    if needs_frames and not there:
        looked = ", ".join(str(folder) for folder in folders)
        name = "" if first is None else first.file_names[0]
        raise DataError(f"{annotations}: expected the frame {name} in one of the folders {looked}")
    return VideoData(truth=truth, images=there[0] if there else folders[0])
