"""Evaluation of a predictor with a tracker on annotated videos, and of saved tracks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from protomask.data.video import VideoData
from protomask.detection.options import PredictOptions
from protomask.errors import DataError
from protomask.evaluation.classes import compare_classes
from protomask.evaluation.evaluate import FindsInstances, OnProgress
from protomask.evaluation.tracking.metrics import TrackMetrics, measure_tracks
from protomask.images.decode import Pixels
from protomask.structures.instances import Instances
from protomask.structures.mots import read_mots_text
from protomask.structures.tracks import TrackCollector, VideoTracks
from protomask.structures.youtube_vis import YoutubeVis, read_youtube_vis_results


class FollowsObjects(Protocol):
    """Something that gives instances their identities, such as `protomask.inference.tracking.tracker.Tracker`."""

    def update(self, found: Instances, time: float | None = None, *, image: Pixels | None = None) -> Instances:
        """The instances of the next frame that belong to a track, with ``track_ids``."""
        ...

    def reset(self) -> None:
        """The next frame is the first of another video."""
        ...


def track_videos(
    predictor: FindsInstances,
    tracker: FollowsObjects,
    data: VideoData,
    *,
    options: PredictOptions | None = None,
    on_progress: OnProgress | None = None,
) -> dict[int, VideoTracks]:
    """Predict and track every video.

    Args:
        predictor: finds the instances of a frame; classes that the data lack are left out, with a warning.
        tracker: starts again with every video.
        data: the videos.
        options: of the prediction; ``score_threshold`` should not be above the tracker's low score.
        on_progress: called after each frame.

    Returns:
        The tracks by the id of the video, with the labels of the data.

    Raises:
        DataError: the predictor lacks a class of the data, or a frame cannot be read.

    """
    names = data.truth.class_names
    compare_classes(predictor.class_names, data.truth.class_names, data.truth.path, stacklevel=3)
    found: dict[int, VideoTracks] = {}
    done, total = 0, sum(video.num_frames for video in data.truth.videos.values())
    for video_id, video in data.truth.videos.items():
        tracker.reset()
        collector = TrackCollector(video.name)
        for index in range(video.num_frames):
            image = data.read_frame(video, index)
            [instances] = predictor.predict_images([image], options or PredictOptions())
            if instances.class_names != names:
                instances = instances.of_classes(names)
            time = None if video.fps is None else index / video.fps
            collector.add(tracker.update(instances, time, image=image), index)
            done += 1
            if on_progress is not None:
                on_progress(done, total)
        found[video_id] = collector.collect()
    return found


def read_tracks(path: str | Path, truth: YoutubeVis) -> dict[int, VideoTracks]:
    """Read saved tracks.

    Args:
        path: YouTube-VIS results, or a folder with MOTS text NAME.txt for the videos of these names; a video without a
            file has no tracks. Classes are those of the truth: in MOTS text, class n is its n-th category.
        truth: the videos.

    Raises:
        DataError: a file is wrong, or no file belongs to a video.

    """
    path = Path(path)
    if not path.is_dir():
        return read_youtube_vis_results(path, truth)
    files = {video_id: path / f"{Path(video.name).name}.txt" for video_id, video in truth.videos.items()}
    if not any(file.is_file() for file in files.values()):
        names = ", ".join(file.name for file in list(files.values())[:3])
        raise DataError(f"{path}: expected MOTS text for some of the videos, such as {names}, got none")
    return {
        video_id: read_mots_text(file, truth.class_names)
        if file.is_file()
        else VideoTracks(name=truth.videos[video_id].name, image_size=None, num_frames=0, tracks=())
        for video_id, file in files.items()
    }


def evaluate_tracks(truth: YoutubeVis, found: Mapping[int, VideoTracks]) -> TrackMetrics:
    """Measure tracks of several videos.

    Args:
        truth: the videos and their objects.
        found: the tracks by the id of the video.

    Raises:
        DataError: tracks do not fit their video.

    """
    pairs = ((video, found[video_id]) for video_id, video in truth.videos.items())
    return measure_tracks(pairs, truth.class_names)
