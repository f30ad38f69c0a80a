from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from moving_blocks import NAMES, SIZE, Block, frame_of
from protomask.errors import DataError
from protomask.inference.tracking.build import build_tracker
from protomask.inference.tracking.tracker import Tracker
from protomask.structures.instances import Instances


def followed(
    blocks: Sequence[Block], frames: int, tracker: Tracker | None = None, *, fps: float = 30.0
) -> dict[int, list[int]]:
    """The track of each block, frame by frame; 0 where it has none."""
    tracker = tracker or build_tracker()
    tracks: dict[int, list[int]] = {number: [0] * frames for number in range(len(blocks))}
    for index in range(frames):
        found, numbers = frame_of(blocks, index)
        # Which instance was kept shows in its score, the only thing that a tracker never changes.
        scores = found.class_scores - np.arange(len(found), dtype=np.float32) / 1000
        reported = tracker.update(found.replace(class_scores=scores), index / fps)
        assert reported.track_ids is not None
        for score, track in zip(reported.class_scores.tolist(), reported.track_ids.tolist(), strict=True):
            tracks[numbers[scores.tolist().index(score)]][index] = track
    return tracks


def right(x: float, y: float, speed: float) -> Block:
    return Block(lambda index: (x + speed * index, y))


def test_objects_that_pass_each_other_keep_their_tracks() -> None:
    tracks = followed([right(0, 10, 3), right(100, 20, -3), right(50, 40, 0)], 34)
    assert tracks == {0: [1] * 34, 1: [2] * 34, 2: [3] * 34}


def test_an_object_comes_out_behind_another_as_itself() -> None:
    post = Block(lambda index: (50, 0), width=26, height=60, label=1)
    tracks = followed([post, right(5, 20, 3)], 34)
    assert 0 in tracks[1]  # quite hidden for a while
    assert set(tracks[1]) == {0, 2}
    assert set(tracks[0]) == {1}
    assert tracks[1][-1] == 2


def test_tracks_are_reported_from_their_second_detection_on() -> None:
    def place(index: int) -> tuple[float, float]:
        return (60, 10) if index >= 3 else (500, 10)

    assert followed([right(5, 20, 0), Block(place)], 6)[1] == [0, 0, 0, 0, 2, 2]
    flash = Block(lambda index: (60, 10) if index == 2 else (500, 10))
    assert followed([right(5, 20, 0), flash], 6)[1] == [0] * 6


@pytest.mark.parametrize(("away", "track"), [(10, 1), (40, 2)])
def test_what_is_lost_comes_back_within_its_time(away: int, track: int) -> None:
    def place(index: int) -> tuple[float, float]:
        return (500 if 5 <= index < 5 + away else 40, 20)

    assert followed([Block(place)], away + 8)[0] == [1] * 5 + [0] * away + ([1] * 3 if track == 1 else [0, 2, 2])


def test_times_count_and_not_frames() -> None:
    def place(index: int) -> tuple[float, float]:
        return (500 if 5 <= index < 15 else 40, 20)

    assert followed([Block(place)], 18, fps=5)[0][-1] == 2
    tracker = build_tracker(frame_rate=5)
    found = [frame_of([Block(place)], index)[0] for index in range(18)]
    last = [tracker.update(one) for one in found][-1]
    assert last.track_ids is not None
    assert last.track_ids.tolist() == [2]


def test_detections_of_low_score_continue_tracks_and_begin_none() -> None:
    weak = Block(lambda index: (40 + index, 20), score=0.2)
    assert followed([weak], 5)[0] == [0] * 5
    tracker = build_tracker()
    strong = weak._replace(score=0.9)
    assert followed([strong], 3, tracker)[0] == [1] * 3
    assert followed([weak._replace(place=lambda index: (43 + index, 20))], 5, tracker)[0] == [1] * 5
    assert followed([weak._replace(score=0.05)], 5, tracker)[0] == [0] * 5


def test_the_class_is_voted() -> None:
    tracker = build_tracker()
    block = Block(lambda index: (40, 20))
    labels, detected = [], []
    for index in range(6):
        found, _ = frame_of([block._replace(label=int(index == 3))], index)
        reported = tracker.update(found)
        labels += reported.labels.tolist()
        detected += reported.columns["detected_labels"].tolist()
    assert labels == [0] * 6
    assert detected == [0, 0, 0, 1, 0, 0]


def test_a_camera_that_shakes_costs_no_track() -> None:
    shakes = np.random.default_rng(0).integers(-4, 5, (20, 2)).tolist()

    def shaken(x: float, y: float) -> Block:
        return Block(lambda index: (x + shakes[index][0], y + shakes[index][1]), width=14, height=14)

    blocks = [shaken(10 + 20 * column, 10 + 22 * row) for row in range(2) for column in range(5)]
    tracks = followed(blocks, 20)
    assert {number: set(own) for number, own in tracks.items()} == {number: {number + 1} for number in range(10)}


def test_a_second_detection_of_an_object_begins_no_track() -> None:
    tracker = build_tracker()
    block = Block(lambda index: (40, 20))
    for index in range(4):
        found, _ = frame_of([block], index)
        twin = frame_of([block._replace(width=18, label=1, score=0.8)], index)[0]
        reported = tracker.update(Instances.cat([found, twin]) if index else found)
        assert reported.track_ids is not None
        assert reported.track_ids.tolist() == [1]
        assert reported.names == ["cat"]


def test_objects_too_small_for_the_grid_go_by_their_boxes() -> None:
    tracker = build_tracker(grid=8)
    blocks = [Block(lambda index: (10 + index, 10), 6, 6), Block(lambda index: (90 - index, 30), 6, 6)]
    assert followed(blocks, 20, tracker) == {0: [1] * 20, 1: [2] * 20}


def test_the_same_frames_get_the_same_tracks() -> None:
    blocks = [right(0, 10, 3), right(100, 20, -3)]
    tracker = build_tracker()
    first = followed(blocks, 30, tracker)
    tracker.reset()
    assert followed(blocks, 30, tracker) == first


def test_frames_without_anything() -> None:
    tracker = build_tracker()
    for _ in range(3):
        nothing = tracker.update(Instances.empty(SIZE, NAMES))
        assert len(nothing) == 0
        assert nothing.track_ids is not None
        assert nothing.track_ids.dtype == np.int64
    empty_mask = frame_of([Block(lambda index: (40, 20))], 0)[0].replace(masks=np.zeros((1, *SIZE), dtype=np.bool_))
    assert [len(tracker.update(empty_mask)) for _ in range(3)] == [0, 1, 1]  # its box is known


def test_frames_of_another_kind_are_refused() -> None:
    tracker = build_tracker()
    tracker.update(Instances.empty(SIZE, NAMES))
    with pytest.raises(DataError, match=r"frames of one size, \(H, W\) = \(60, 120\) as before, got \(9, 9\)"):
        tracker.update(Instances.empty((9, 9), NAMES))
    with pytest.raises(DataError, match="classes"):
        tracker.update(Instances.empty(SIZE, ("owl", "dog")))
    tracker.reset()
    tracker.update(Instances.empty((9, 9), NAMES))
