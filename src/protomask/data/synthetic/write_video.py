"""Synthetic videos as a YouTube-VIS data set on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from protomask.data.synthetic.options import SyntheticVideoOptions
from protomask.data.synthetic.plan import ByteArray, check_scene
from protomask.data.synthetic.shapes import CLASS_NAMES
from protomask.data.synthetic.video import VIDEO_VERSION, SyntheticVideo
from protomask.data.synthetic.write import JPEG_QUALITY
from protomask.errors import ConfigError, DataError
from protomask.files import replacing
from protomask.masks.rle import Rle, encode_runs
from protomask.masks.runs import mask_runs
from protomask.structures.tracks import Tracklet, VideoTracks
from protomask.structures.youtube_vis import write_youtube_vis

_SETTINGS_FILE = "synthetic-videos.json"
ANNOTATIONS = Path("annotations", "val.json")
IMAGES = Path("images", "val")


@dataclass(frozen=True, kw_only=True)
class VideoSummary:
    """Result of `write_videos`.

    Attributes:
        directory: where the videos are.
        videos: number of videos.
        frames: number of frames of all videos.
        objects: number of objects of all videos.
        files: the H.264 files; none where PyAV is not installed.

    """

    directory: Path
    videos: int
    frames: int
    objects: int
    files: tuple[Path, ...]


def write_videos(
    directory: str | Path,
    *,
    videos: int = 1,
    seed: int = 0,
    image_size: tuple[int, int] = (720, 1280),
    options: SyntheticVideoOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
) -> VideoSummary:
    """Render videos: ``images/val/NNNNNN/NNNNN.jpg``, their truth as YouTube-VIS JSON in ``annotations/val.json``, and
    ``NNNNNN.mp4`` in H.264 where PyAV is installed.

    Video number k depends only on the seed, k, the size and the options, never on how many there are.

    Args:
        directory: folder to make.
        videos: number of videos, 1 or more.
        seed: 0 or more.
        image_size: (H, W) of every frame, each at least 32; even where an H.264 file is wanted.
        options: see `SyntheticVideoOptions`.
        progress: called as ``progress(done, total)`` after each frame.
        overwrite: write into a folder with synthetic videos.

    Raises:
        ConfigError: impossible settings.
        DataError: the folder has other content, or cannot be written.

    """
    directory, options = Path(directory), options or SyntheticVideoOptions()
    check_scene(seed, 0, image_size)
    if videos < 1:
        raise ConfigError(f"videos: expected 1 or more, got {videos}")
    settings = {"version": VIDEO_VERSION, "seed": seed, "image_size": list(image_size), **options.to_dict()}
    _claim(directory, settings, overwrite=overwrite)
    done, total = 0, videos * options.frames
    tracks, files = [], []
    for number in range(1, videos + 1):
        video = SyntheticVideo(seed, number - 1, image_size=image_size, options=options)
        film = _Film(directory / f"{number:06d}.mp4", options.fps, image_size)
        collected = _Truth(f"{number:06d}", video)
        for index, frame in enumerate(video):
            _write_frame(directory / IMAGES / collected.add(index, frame.masks), frame.image)
            film.add(frame.image)
            done += 1
            if progress is not None:
                progress(done, total)
        files += film.close()
        tracks.append(collected.tracks())
    info = {"description": "Synthetic videos", **settings}
    write_youtube_vis(directory / ANNOTATIONS, tracks, CLASS_NAMES, info=info)
    return VideoSummary(
        directory=directory,
        videos=videos,
        frames=total,
        objects=sum(len(one.tracks) for one in tracks),
        files=tuple(files),
    )


class _Truth:
    """Collects the masks of a video."""

    def __init__(self, name: str, video: SyntheticVideo) -> None:
        self._name, self._video = name, video
        self._masks: list[dict[int, Rle]] = [{} for _ in video.labels]
        self._files: list[str] = []

    def add(self, index: int, masks: np.ndarray[Any, np.dtype[np.bool_]]) -> str:
        """Add a frame; the name of its file."""
        for own, mask in zip(self._masks, masks, strict=True):
            runs = mask_runs(mask)
            if len(runs):
                own[index] = encode_runs([runs], self._video.image_size)[0]
        self._files.append(f"{self._name}/{index:05d}.jpg")
        return self._files[-1]

    def tracks(self) -> VideoTracks:
        """Objects that are never seen are left out."""
        return VideoTracks(
            name=self._name,
            image_size=self._video.image_size,
            num_frames=len(self._files),
            tracks=tuple(
                Tracklet(track_id=number + 1, label=label, masks=masks)
                for number, (label, masks) in enumerate(zip(self._video.labels, self._masks, strict=True))
                if masks
            ),
            file_names=tuple(self._files),
            fps=self._video.options.fps,
        )


class _Film:
    """An H.264 file, where PyAV is there and the sides are even."""

    def __init__(self, path: Path, fps: float, image_size: tuple[int, int]) -> None:
        self._path = path
        self._container: Any = None
        try:
            import av
        except ImportError:
            return
        if "libx264" not in av.codecs_available or any(side % 2 for side in image_size):
            return
        self._frame = av.VideoFrame
        self._buffer = BytesIO()
        self._container = av.open(self._buffer, mode="w", format="mp4")
        self._stream: Any = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        self._stream.height, self._stream.width = image_size
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": "23", "preset": "veryfast", "threads": "2"}

    def add(self, image: ByteArray) -> None:
        if self._container is not None:
            for packet in self._stream.encode(self._frame.from_ndarray(image, format="rgb24")):
                self._container.mux(packet)

    def close(self) -> list[Path]:
        """Write the file; its path, if there is one."""
        if self._container is None:
            return []
        for packet in self._stream.encode():
            self._container.mux(packet)
        self._container.close()
        with replacing(self._path, error=DataError) as file:
            file.write(self._buffer.getvalue())
        return [self._path]


def _write_frame(path: Path, image: ByteArray) -> None:
    with replacing(path, error=DataError) as file:
        Image.fromarray(image).save(file, format="JPEG", quality=JPEG_QUALITY, subsampling=0)


def _claim(directory: Path, settings: dict[str, Any], *, overwrite: bool) -> None:
    """Make the folder ours to write."""
    marker = directory / _SETTINGS_FILE
    if directory.exists() and not directory.is_dir():
        raise DataError(f"{directory}: expected a folder to write the videos to, got a file")
    if directory.is_dir() and any(directory.iterdir()) and not (overwrite and marker.is_file()):
        raise DataError(
            f"{directory}: expected an empty folder, or one with synthetic videos to overwrite on purpose, got a "
            f"folder with content"
        )
    _remove_previous(directory)
    with replacing(marker, error=DataError) as file:
        file.write(json.dumps(settings).encode())


def _remove_previous(directory: Path) -> None:
    """Remove the frames and files of earlier videos, and nothing else."""
    digits = "[0-9]"
    for pattern in (f"{IMAGES}/{digits * 6}/{digits * 5}.jpg", f"{digits * 6}.mp4"):
        for file in directory.glob(pattern):
            file.unlink()
