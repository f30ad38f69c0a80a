"""YouTube-VIS JSON: the tracks of many videos in one file, as truth and as results (https://youtube-vos.org)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protomask.errors import DataError
from protomask.files import replacing
from protomask.masks.rle import Rle, encode_runs, rle_to_runs
from protomask.masks.runs import Runs, runs_area, runs_to_window
from protomask.structures.coco_json import (
    CocoFile,
    Fault,
    Faults,
    Flaw,
    finite_number,
    max_pixels,
    read_categories,
    read_entries,
    read_json,
    shown,
    whole_number,
)
from protomask.structures.file_names import name_flaw
from protomask.structures.tracks import MAX_FRAMES, Tracklet, VideoTracks


@dataclass(frozen=True, kw_only=True)
class YoutubeVis:
    """The content of a file.

    Attributes:
        path: path of the file.
        categories: name of each category by its id, in the order of the labels.
        videos: the videos by their ids.

    """

    path: Path
    categories: Mapping[int, str]
    videos: Mapping[int, VideoTracks]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label."""
        return tuple(self.categories.values())


# Reading


def read_youtube_vis(path: str | Path) -> YoutubeVis:
    """Read a file of truth: ``videos``, ``categories`` and ``annotations``.

    Masks are run-length codes, compressed or not. The identity of an object is the ``track_id`` of its annotation, or
    its ``id``.

    Raises:
        DataError: the file cannot be read, or something in it contradicts the format; the message names it.

    """
    file = CocoFile.read(path)
    faults = Faults(file.path)
    categories = read_categories(read_entries(file, "categories", faults), faults)
    videos = _read_videos(read_entries(file, "videos", faults), faults)
    labels = {category_id: label for label, category_id in enumerate(categories)}
    tracks: dict[int, dict[int, Tracklet]] = {video_id: {} for video_id in videos}
    for position, entry in read_entries(file, "annotations", faults):
        where = f"annotations[{position}] (annotation {shown(entry.get('id'))})"
        try:
            video_id, video = _video_of(entry, videos)
            track = _read_track(entry, video, labels, number=whole_number(entry.get("track_id", entry.get("id"))))
            if track.track_id in tracks[video_id]:
                raise Flaw("track twice", f"track {track.track_id} occurs twice in video {video_id}")
            tracks[video_id][track.track_id] = track
        except Flaw as flaw:
            faults.add(flaw.kind, where, flaw.reason)
    if faults.found:
        raise faults.found[0]
    return YoutubeVis(
        path=file.path,
        categories=categories,
        videos={video_id: _with_tracks(video, tracks[video_id].values()) for video_id, video in videos.items()},
    )


def read_youtube_vis_results(path: str | Path, truth: YoutubeVis) -> dict[int, VideoTracks]:
    """Read a file of results: a list of tracks, each with ``video_id``, ``category_id``, ``score``, ``segmentations``,
    and ``track_id`` if there is one.

    Args:
        path: path of the file.
        truth: the videos and categories that it refers to.

    Returns:
        Every video of the truth with the tracks that were found in it.

    Raises:
        DataError: the file cannot be read, or something in it contradicts the format; the message names it.

    """
    file = Path(path)
    rows = read_json(file)
    if not isinstance(rows, list):
        raise Fault(file, "results file", "", f"expected a list of tracks, got a {type(rows).__name__}")
    labels = {category_id: label for label, category_id in enumerate(truth.categories)}
    tracks: dict[int, dict[int, Tracklet]] = {video_id: {} for video_id in truth.videos}
    for position, row in enumerate(rows):
        try:
            if not isinstance(row, Mapping):
                raise Flaw("entry", f"expected an object, got {shown(row)}")
            score = finite_number(row.get("score"))
            if score is None:
                raise Flaw("score", f"expected a number as score, got {shown(row.get('score'))}")
            video_id, video = _video_of(row, truth.videos)
            known = tracks[video_id]
            number = whole_number(row.get("track_id", len(known) + 1))
            track = _read_track(row, video, labels, number=number, score=score)
            if known.setdefault(track.track_id, track) is not track:
                raise Flaw("track twice", f"track {track.track_id} occurs twice in video {video_id}")
        except Flaw as flaw:
            raise Fault(file, flaw.kind, f"track {position}", flaw.reason) from None
    return {video_id: _with_tracks(video, tracks[video_id].values()) for video_id, video in truth.videos.items()}


def _read_videos(entries: Sequence[tuple[int, Mapping[str, Any]]], faults: Faults) -> dict[int, VideoTracks]:
    found: dict[int, VideoTracks] = {}
    for position, entry in entries:
        try:
            video_id = whole_number(entry.get("id"))
            if video_id is None:
                raise Flaw("video id", f"expected an integer id, got {shown(entry.get('id'))}")
            if video_id in found:
                raise Flaw("video id twice", "the video id occurs twice")
            found[video_id] = _read_video(entry, video_id)
        except Flaw as flaw:
            faults.add(flaw.kind, f"videos[{position}] (video {shown(entry.get('id'))})", flaw.reason)
    return found


def _read_video(entry: Mapping[str, Any], video_id: int) -> VideoTracks:
    height, width = (whole_number(entry.get(key)) for key in ("height", "width"))
    if height is None or width is None or min(height, width) <= 0 or height * width > max_pixels():
        got = f"{shown(entry.get('width'))} and {shown(entry.get('height'))}"
        raise Flaw("video size", f"expected the width and height of a video, got {got}")
    names = entry.get("file_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Flaw("file_names", f"expected a list of file names, got {shown(names)}")
    for name in names:
        if (flaw := name_flaw(name)) is not None:
            raise Flaw("file_names", f"expected paths of files in the folder of the images, got {shown(name)}: {flaw}")
    length = whole_number(entry.get("length", len(names)))
    if length is None or not 0 <= length <= MAX_FRAMES or (names and length != len(names)):
        raise Flaw("length", f"expected as many frames as the {len(names)} file_names, got {shown(entry['length'])}")
    fps = finite_number(entry.get("fps"))
    return VideoTracks(
        name=_name_of(names) or str(video_id),
        image_size=(height, width),
        num_frames=length,
        tracks=(),
        file_names=tuple(names),
        fps=fps if fps is not None and fps > 0 else None,
    )


def _name_of(names: Sequence[str]) -> str:
    """The folder of the frames."""
    return str(Path(names[0]).parent) if names and Path(names[0]).parent != Path() else ""


def _video_of(entry: Mapping[str, Any], videos: Mapping[int, VideoTracks]) -> tuple[int, VideoTracks]:
    video_id = whole_number(entry.get("video_id"))
    if video_id is None or video_id not in videos:
        raise Flaw(
            "video id", f"expected the id of one of the {len(videos)} videos, got {shown(entry.get('video_id'))}"
        )
    return video_id, videos[video_id]


def _read_track(
    entry: Mapping[str, Any], video: VideoTracks, labels: Mapping[int, int], *, number: int | None, score: float = 1.0
) -> Tracklet:
    if number is None:
        raise Flaw("track id", f"expected an integer id, got {shown(entry.get('track_id', entry.get('id')))}")
    category_id = whole_number(entry.get("category_id"))
    if category_id is None or category_id not in labels:
        raise Flaw("category id", f"expected the id of a category, got {shown(entry.get('category_id'))}")
    codes = entry.get("segmentations")
    if not isinstance(codes, list) or len(codes) != video.num_frames:
        got = f"a list of {len(codes)}" if isinstance(codes, list) else shown(codes)
        raise Flaw("segmentations", f"expected a list with one for each of {video.num_frames} frames, got {got}")
    return Tracklet(
        track_id=number,
        label=labels[category_id],
        masks={index: code for index, own in enumerate(codes) if (code := _read_code(own, video, index)) is not None},
        score=score,
        is_crowd=entry.get("iscrowd") in (1, True),
    )


def _read_code(code: Any, video: VideoTracks, index: int) -> Rle | None:
    if code is None:
        return None
    if isinstance(code, list):
        raise Flaw("segmentations", f"frame {index}: expected a run-length code or null, got polygons")
    try:
        runs, size = rle_to_runs(code)
    except DataError as error:
        raise Flaw("segmentations", f"frame {index}: {error}") from None
    if size != video.image_size:
        raise Flaw("segmentations", f"frame {index}: expected a mask of {video.image_size}, got one of {size}")
    return encode_runs([runs], size)[0] if len(runs) else None


def _with_tracks(video: VideoTracks, tracks: Iterable[Tracklet]) -> VideoTracks:
    return VideoTracks(**{**vars(video), "tracks": tuple(tracks)})


# Writing


def write_youtube_vis(
    path: str | Path,
    videos: Sequence[VideoTracks],
    class_names: Sequence[str],
    *,
    info: Mapping[str, Any] | None = None,
) -> None:
    """Write a file of truth; videos, annotations and categories are numbered from 1.

    Args:
        path: path of the file.
        videos: each with the size of its frames.
        class_names: name of each label.
        info: what else the file should say about itself.

    Raises:
        DataError: the file cannot be written, or the size of a video is not known.

    """
    annotations: list[dict[str, Any]] = []
    for video_id, video in enumerate(videos, start=1):
        for track in video.tracks:
            annotations.append({"id": len(annotations) + 1, "video_id": video_id, **_annotation(track, video)})
    content = {
        "info": dict(info or {}),
        "licenses": [],
        "videos": [_video_entry(video_id, video) for video_id, video in enumerate(videos, start=1)],
        "annotations": annotations,
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(class_names)],
    }
    _write(Path(path), content)


def write_youtube_vis_results(
    path: str | Path, videos: Mapping[int, VideoTracks], category_ids: Sequence[int] | None = None
) -> None:
    """Write a file of results.

    Args:
        path: path of the file.
        videos: what was found, by the id of the video.
        category_ids: category id of each label; label + 1 if not given.

    Raises:
        DataError: the file cannot be written.

    """
    rows = [
        {
            "video_id": video_id,
            "track_id": track.track_id,
            "category_id": track.label + 1 if category_ids is None else category_ids[track.label],
            "score": track.score,
            "segmentations": [track.masks.get(index) for index in range(video.num_frames)],
        }
        for video_id, video in videos.items()
        for track in video.tracks
    ]
    _write(Path(path), rows)


def _video_entry(video_id: int, video: VideoTracks) -> dict[str, Any]:
    if video.image_size is None:
        raise DataError(f"{video.name}: expected a video whose size is known, got one without frames")
    entry = {
        "id": video_id,
        "width": video.image_size[1],
        "height": video.image_size[0],
        "length": video.num_frames,
        "file_names": list(video.file_names),
    }
    return entry if video.fps is None else {**entry, "fps": video.fps}


def _annotation(track: Tracklet, video: VideoTracks) -> dict[str, Any]:
    codes = [track.masks.get(index) for index in range(video.num_frames)]
    runs = [None if code is None else rle_to_runs(code)[0] for code in codes]
    return {
        "track_id": track.track_id,
        "category_id": track.label + 1,
        "iscrowd": int(track.is_crowd),
        "height": None if video.image_size is None else video.image_size[0],
        "width": None if video.image_size is None else video.image_size[1],
        "segmentations": codes,
        "bboxes": [None if own is None or video.image_size is None else _box(own, video.image_size[0]) for own in runs],
        "areas": [None if own is None else runs_area(own) for own in runs],
    }


def _box(runs: Runs, height: int) -> list[int]:
    """x, y, width and height of the tight box, px."""
    top, left, mask = runs_to_window(runs, height)
    return [left, top, mask.shape[1], mask.shape[0]]


def _write(path: Path, content: Any) -> None:
    with replacing(path, error=DataError) as file:
        file.write(json.dumps(content).encode())
