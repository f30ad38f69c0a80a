from __future__ import annotations

import numpy as np
import pytest

from moving_blocks import NAMES, SIZE, Block, frame_of
from protomask.errors import DataError
from protomask.masks.rle import decode_rle
from protomask.structures.instances import Instances
from protomask.structures.tracks import TrackCollector

BLOCKS = [Block(lambda index: (10 * index, 5)), Block(lambda index: (60, 30), label=1, score=0.5)]


def test_frames_are_collected_into_tracks() -> None:
    collector = TrackCollector("street")
    for index in range(3):
        found, numbers = frame_of(BLOCKS[: 2 if index else 1], index)
        label = np.where(found.labels == 0, int(index == 1), found.labels)  # once taken for another class
        collector.add(found.replace(labels=label, track_ids=np.array(numbers) + 7))
    collector.add(Instances.empty(SIZE, NAMES).replace(track_ids=np.zeros(0, dtype=np.int64)))
    video = collector.collect()
    assert (video.name, video.image_size, video.num_frames) == ("street", SIZE, 4)
    assert collector.class_names == NAMES
    first, second = video.tracks
    assert (first.track_id, first.label, sorted(first.masks)) == (7, 0, [0, 1, 2])
    assert (second.track_id, second.label, sorted(second.masks)) == (8, 1, [1, 2])
    assert (first.score, second.score) == pytest.approx((0.9, 0.5))
    np.testing.assert_array_equal(decode_rle(first.masks[2]), frame_of(BLOCKS, 2)[0].masks[0])
    assert [[track.track_id for track in seen] for seen in video.frames()] == [[7], [7, 8], [7, 8], []]


def test_frames_may_be_left_out() -> None:
    collector = TrackCollector("street")
    found, _ = frame_of(BLOCKS[:1], 0)
    collector.add(found.replace(track_ids=np.array([1])), 5)
    video = collector.collect()
    assert (video.num_frames, list(video.tracks[0].masks)) == (6, [5])
    assert TrackCollector("empty").collect().image_size is None


def test_what_does_not_fit() -> None:
    collector = TrackCollector("street")
    with pytest.raises(DataError, match="street: expected track_ids in frame 0, got none"):
        collector.add(frame_of(BLOCKS, 0)[0])
    nobody = np.zeros(0, dtype=np.int64)
    collector.add(Instances.empty(SIZE, NAMES).replace(track_ids=nobody))
    with pytest.raises(DataError, match=r"street: expected frames of \(60, 120\), got \(9, 9\) in frame 1"):
        collector.add(Instances.empty((9, 9), NAMES).replace(track_ids=nobody))
