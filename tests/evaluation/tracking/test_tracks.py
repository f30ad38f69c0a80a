from __future__ import annotations

import numpy as np
import pytest

from protomask.errors import DataError
from protomask.evaluation.tracking.metrics import measure_tracks
from protomask.evaluation.tracking.tracks import sequence_of
from protomask.masks.rle import Rle, encode_rle
from protomask.structures.tracks import Tracklet, VideoTracks

SIZE = (4, 20)


def columns(first: int, last: int) -> Rle:
    """A mask of whole columns."""
    mask = np.zeros((1, *SIZE), dtype=np.bool_)
    mask[0, :, first:last] = True
    return encode_rle(mask)[0]


def video(*tracks: Tracklet, frames: int = 2, name: str = "a") -> VideoTracks:
    return VideoTracks(name=name, image_size=SIZE, num_frames=frames, tracks=tracks)


def track(number: int, first: int, last: int, *, label: int = 0, frames: int = 2, is_crowd: bool = False) -> Tracklet:
    masks = {index: columns(first, last) for index in range(frames)}
    return Tracklet(track_id=number, label=label, masks=masks, is_crowd=is_crowd)


def test_overlaps_are_those_of_the_masks() -> None:
    truth = video(track(3, 0, 4), track(9, 10, 14, label=1, frames=1))
    found = video(track(1, 2, 6), track(2, 10, 14))
    sequence = sequence_of(truth, found)
    first, second = sequence.frames
    assert first.overlaps == pytest.approx(np.array([[1 / 3, 0], [0, 1]]))
    np.testing.assert_allclose(second.overlaps, [[1 / 3, 0]])
    assert (sequence.num_truth, sequence.num_found) == (2, 2)
    of_class = sequence_of(truth, found, label=1)
    assert (of_class.num_truth, of_class.num_found) == (1, 0)


def test_tracks_in_crowds_do_not_count_unless_they_match() -> None:
    truth = video(track(1, 0, 4), track(2, 0, 12, is_crowd=True))
    found = video(track(1, 0, 4), track(2, 6, 9), track(3, 11, 16))
    sequence = sequence_of(truth, found)
    assert sequence.num_truth == 1
    assert sequence.counts()[1].tolist() == [2, 2]  # the one at 6 to 9 is left out, whatever its class
    assert sequence_of(truth, found, label=0).counts()[1].tolist() == [2, 2]
    np.testing.assert_allclose(sequence.frames[0].overlaps, [[1, 0]])


def test_results_may_end_before_the_video_but_not_after() -> None:
    truth = video(track(1, 0, 4))
    early = VideoTracks(name="a", image_size=None, num_frames=0, tracks=())
    assert sequence_of(truth, early).counts()[0].tolist() == [2]
    with pytest.raises(DataError, match="a: expected tracks in 2 frames, got 3"):
        sequence_of(truth, video(frames=3))
    other = VideoTracks(name="a", image_size=(5, 5), num_frames=1, tracks=())
    with pytest.raises(DataError, match=r"a: expected masks of \(4, 20\), got \(5, 5\)"):
        sequence_of(truth, other)


def test_metrics_of_several_videos() -> None:
    same = video(track(1, 0, 4), track(2, 8, 12, label=1))
    mislabelled = video(track(1, 0, 4), track(2, 8, 12, label=2))
    metrics = measure_tracks([(same, same), (same, mislabelled)], ("cat", "dog", "owl"))
    assert (metrics.num_objects, metrics.num_tracks) == (4, 4)
    assert metrics.overall["HOTA"] == metrics.overall["IDF1"] == metrics.overall["sMOTSA"] == pytest.approx(1)
    assert list(metrics.classes) == ["cat", "dog"]  # there is no owl
    assert metrics.classes["cat"]["HOTA"] == pytest.approx(1)
    assert metrics.classes["dog"]["DetRe"] == pytest.approx(0.5)
    assert list(metrics.videos) == ["a", "a (2)"]
    told = metrics.to_dict()
    assert told["videos"] == 2
    assert told["overall"]["IDSW"] == 0
    assert type(told["overall"]["IDSW"]) is int
    nothing = measure_tracks([], ("cat",))
    assert nothing.overall["HOTA"] == 0
