"""Sources of frames: images, folders, globs, lists, generators, standard input, videos, cameras and streams."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from protomask.errors import ConfigError
from protomask.images.decode import read_image
from protomask.images.fetch import is_url
from protomask.images.pixels import IMAGE_SUFFIXES
from protomask.inference.paths import distinct, expand
from protomask.inference.video.address import VIDEO_SUFFIXES
from protomask.inference.video.folder import FrameFolder
from protomask.inference.video.live import LiveStream
from protomask.inference.video.options import VideoOptions
from protomask.inference.video.reader import VideoFile
from protomask.inference.video.sources import (
    StandardInput,
    UnreadableVideo,
    is_video_file,
    open_address,
    video_beside_images,
    video_of,
)
from protomask.structures.frame import Frame

if TYPE_CHECKING:
    from protomask.images.decode import ImageSource

    AnySource = ImageSource | Frame | int | Iterable[ImageSource | Frame]


class Source(Protocol):
    """Any iterable of frames."""

    def __iter__(self) -> Iterator[Frame]: ...


class StillImages:
    """Images that are known beforehand, each read when its frame is used.

    Args:
        images: paths, addresses, arrays and so on.

    """

    def __init__(self, images: Sequence[ImageSource]) -> None:
        self.images = tuple(images)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Frame]:
        return (_frame_of(image, index) for index, image in enumerate(self.images))


class ImageStream:
    """Images or frames that come one by one, from a generator perhaps; ``live`` if that is an attribute of theirs."""

    def __init__(self, items: Iterable[ImageSource | Frame]) -> None:
        self.live = bool(getattr(items, "live", False))
        self._items = items

    def __iter__(self) -> Iterator[Frame]:
        return (item if isinstance(item, Frame) else _frame_of(item, index) for index, item in enumerate(self._items))


class Several:
    """Sources one after another.

    Args:
        parts: the sources.

    """

    def __init__(self, parts: Sequence[Source]) -> None:
        self.parts = tuple(parts)

    def __iter__(self) -> Iterator[Frame]:
        for part in self.parts:
            yield from part


def is_live(source: Source) -> bool:
    """Whether a source waits for nobody, so that its newest frame is the one to use."""
    return bool(getattr(source, "live", False))


def open_source(
    source: AnySource, *, recursive: bool = False, video: VideoOptions | None = None, as_video: bool = False
) -> Source:
    """The frames that something stands for.

    Args:
        source: one of

            * a path: an image file, a video file, or a folder, which gives the images and videos directly inside it.
            * a glob (``photos/*.jpg``); ``photos/**/*`` reaches into subfolders.
            * "-": an image or video file, or raw video, from standard input.
            * an http(s) address of an image or video; ``stream:http://...`` for one of a stream.
            * another address of a stream, such as ``rtsp://...``.
            * a camera: 0, "camera:0" or "/dev/video0".
            * the bytes of an image, a binary file object, an array, a tensor, a Pillow image, a `Frame`.
            * a list of these, or any iterable of images and frames, which is advanced as frames are asked for.
            * what this function has returned.

        recursive: folders give the images and videos in their subfolders, too.
        video: what of videos is read. With ``fps``, the images of a folder are the frames of one video.
        as_video: everything is a video, also the images of a folder.

    Raises:
        DataError: there is no such file, or a folder or glob gives no image; the message names it.
        ConfigError: a camera or stream is not the only source.
        MissingExtraError: the source needs PyAV, which is not installed.

    """
    if isinstance(source, Frame):
        return [source]
    if isinstance(source, StillImages | ImageStream | Several) or _is_source(source):
        return cast("Source", source)
    opening = _Opening(video or VideoOptions(), recursive=recursive, as_video=as_video)
    if isinstance(source, str | Path | int):
        return opening.joined(opening.parts(source))
    if isinstance(source, list | tuple):
        if any(isinstance(item, Frame) for item in source):
            return ImageStream(source)
        return opening.joined([part for item in source for part in opening.parts(item)])
    if isinstance(source, Iterable) and not _is_one_image(source):
        return ImageStream(cast("Iterable[ImageSource | Frame]", source))
    return StillImages([cast("ImageSource", source)])  # where it is none, reading it will say what is wrong


class _Opening:
    """Finds out what inputs are: each becomes images, or sources of their own."""

    def __init__(self, video: VideoOptions, *, recursive: bool, as_video: bool) -> None:
        self._video = video
        self._recursive = recursive
        self._as_video = as_video

    def parts(self, item: Any) -> list[Any]:
        """Images, paths among them, and sources."""
        if not isinstance(item, str | Path | int) or isinstance(item, bool):
            return [item]
        if item == "-":
            return [StandardInput(self._video, as_video=self._as_video)]
        if not isinstance(item, Path):
            stream = open_address(item, self._video, as_video=self._as_video)
            if stream is not None:
                return [stream]
            if isinstance(item, str) and is_url(item):
                return [item]
        return self._files(cast("str | Path", item))

    def joined(self, parts: list[Any]) -> Source:
        """One source of all of them."""
        sources: list[Source] = []
        for is_source, group in groupby(distinct(parts), _is_source):
            items = list(group)
            sources += items if is_source else [StillImages(items)]
        if not sources:
            return StillImages([])
        if len(sources) > 1 and any(map(is_live, sources)):
            raise ConfigError(f"inputs: expected a camera or stream by itself, got {len(sources)} sources")
        return sources[0] if len(sources) == 1 else Several(sources)

    def _files(self, given: str | Path) -> list[Any]:
        suffixes, kinds = IMAGE_SUFFIXES | VIDEO_SUFFIXES, ("image", "video")
        paths = list(expand(given, suffixes, recursive=self._recursive, kinds=kinds))
        path_is_file = Path(given).expanduser().is_file()
        if self._as_video and path_is_file:
            return [video_of(paths[0], self._video)]
        parts: list[Any] = []
        together = self._as_video or (self._video.fps is not None and not path_is_file)
        for (folder, is_video), group in groupby(paths, lambda path: (path.parent, is_video_file(path))):
            files = list(group)
            if is_video:
                open_one = video_of if path_is_file else video_beside_images
                parts += [open_one(path, self._video) for path in files]
            elif together:
                parts.append(FrameFolder(str(folder), files, self._video))
            else:
                parts += files
        return parts


def _is_source(part: Any) -> bool:
    return isinstance(part, StandardInput | VideoFile | LiveStream | FrameFolder | UnreadableVideo)


def _is_one_image(source: Any) -> bool:
    is_array = hasattr(source, "shape") and hasattr(source, "dtype")
    is_picture = hasattr(source, "getexif")
    return is_array or is_picture or hasattr(source, "read") or isinstance(source, bytes | bytearray | memoryview)


def _frame_of(image: ImageSource, index: int) -> Frame:
    if isinstance(image, str) and image == "-":
        return Frame(lambda: read_image(sys.stdin.buffer.read()), source="stdin", index=index)
    again = image_source(image)
    name = again or str(getattr(image, "name", "") or f"image_{index}")
    return Frame(partial(read_image, image), source=name, index=index, image_source=again)


def image_source(image: Any) -> str | None:
    """The path or address of an image, from which it can be read again; None where it has none."""
    return str(image) if isinstance(image, str | Path) and image != "-" else None
