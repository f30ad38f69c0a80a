"""From the tracks of videos to what the metrics count."""

from __future__ import annotations

from collections.abc import Sequence as Listed

import numpy as np
from numpy.typing import NDArray

from protomask.detection.assignment import assign
from protomask.errors import DataError
from protomask.evaluation.tracking.clear import LEAST_OVERLAP
from protomask.evaluation.tracking.sequence import Sequence
from protomask.structures.tracks import Tracklet, VideoTracks

Overlaps = NDArray[np.float64]


def sequence_of(truth: VideoTracks, found: VideoTracks, *, label: int | None = None) -> Sequence:
    """Compare the masks of two sets of tracks, frame by frame.

    Tracks that lie for more than half in a crowd region are not counted, unless they match an object.

    Args:
        truth: what is there.
        found: what was found; frames beyond those of the truth are an error.
        label: only tracks of this class; of all classes, whatever they are, when not given.

    Raises:
        DataError: the videos differ in length or size.

    """
    if found.num_frames > truth.num_frames:
        raise DataError(f"{truth.name}: expected tracks in {truth.num_frames} frames, got {found.num_frames}")
    if None not in (truth.image_size, found.image_size) and truth.image_size != found.image_size:
        raise DataError(f"{truth.name}: expected masks of {truth.image_size}, got {found.image_size}")
    truth_frames, found_frames = truth.frames(), found.frames()
    found_frames += [[]] * (len(truth_frames) - len(found_frames))
    return Sequence.of(
        _pairs(_of_class(objects, label), _of_class(tracks, label), index)
        for index, (objects, tracks) in enumerate(zip(truth_frames, found_frames, strict=True))
    )


def _of_class(tracks: Listed[Tracklet], label: int | None) -> list[Tracklet]:
    return [track for track in tracks if label is None or track.label == label or track.is_crowd]


def _pairs(
    objects: Listed[Tracklet], tracks: Listed[Tracklet], index: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Overlaps]:
    """Ids of one frame, and the overlaps of the masks."""
    crowds = [one for one in objects if one.is_crowd]
    objects = [one for one in objects if not one.is_crowd]
    overlaps = _overlaps(objects, tracks, index)
    if crowds and tracks:
        _, matched = assign(np.where(overlaps >= LEAST_OVERLAP, overlaps, 0.0))
        kept = _overlaps(crowds, tracks, index, of_tracks=True).max(axis=0) <= 0.5
        kept[matched] = True
        tracks, overlaps = (
            [track for track, keeps in zip(tracks, kept.tolist(), strict=True) if keeps],
            overlaps[:, kept],
        )
    return _ids(objects), _ids(tracks), overlaps


def _ids(tracks: Listed[Tracklet]) -> NDArray[np.int64]:
    return np.array([track.track_id for track in tracks], dtype=np.int64)


def _overlaps(objects: Listed[Tracklet], tracks: Listed[Tracklet], index: int, *, of_tracks: bool = False) -> Overlaps:
    """(N, M) IoU, or the share of each track's own mask."""
    from pycocotools import mask as coco_mask

    if not objects or not tracks:
        return np.zeros((len(objects), len(tracks)))
    first, second = ([dict(one.masks[index]) for one in side] for side in (objects, tracks))
    return np.asarray(coco_mask.iou(second, first, [of_tracks] * len(first)), dtype=np.float64).T
