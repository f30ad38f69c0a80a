from __future__ import annotations

import numpy as np
import pytest

from protomask.data.synthetic.options import SyntheticVideoOptions
from protomask.data.synthetic.paths import Path, camera_path
from protomask.data.synthetic.plan import MIN_VISIBLE_AREA
from protomask.data.synthetic.shapes import CLASS_NAMES
from protomask.data.synthetic.video import SyntheticVideo
from protomask.errors import ConfigError
from protomask.inference.tracking.similarity import box_overlaps
from protomask.masks.runs import boxes_of_masks

SIZE = (96, 128)


def options(**changes: object) -> SyntheticVideoOptions:
    return SyntheticVideoOptions(frames=30, fps=10).replace(**changes)


def test_a_video_is_a_function_of_its_arguments() -> None:
    first, again = (SyntheticVideo(3, 1, image_size=SIZE, options=options(shake=4.0)) for _ in range(2))
    assert len(first) == 30
    assert first.labels == again.labels
    one = again.frame(7)
    frames = list(first)
    np.testing.assert_array_equal(frames[7].image, one.image)
    np.testing.assert_array_equal(frames[7].masks, one.masks)
    assert frames[7].image.shape == (*SIZE, 3)
    assert frames[7].image.dtype == np.uint8
    assert frames[7].masks.shape == (len(first.labels), *SIZE)
    for seed, index in ((3, 2), (4, 1)):
        other = SyntheticVideo(seed, index, image_size=SIZE, options=options(shake=4.0))
        assert not np.array_equal(other.frame(7).image, one.image)


def test_objects_hide_each_other_move_and_come_back() -> None:
    video = SyntheticVideo(0, 0, image_size=SIZE, options=options())
    areas = []
    for frame in video:
        assert frame.masks.sum(axis=0).max() <= 1
        areas.append(frame.masks.sum(axis=(1, 2)))
    assert set(video.labels) <= set(range(len(CLASS_NAMES)))
    per_object = np.array(areas)
    assert ((per_object == 0) | (per_object >= MIN_VISIBLE_AREA)).all()
    seen = per_object > 0
    assert (per_object.max(axis=0) > 3 * per_object.min(axis=0)).sum() >= 3  # hidden, or partly outside
    came_back = [bool((np.diff(np.flatnonzero(own)) > 1).any()) for own in seen.T]
    assert any(came_back)


def test_little_overlap_keeps_objects_apart() -> None:
    def meeting(overlap: str) -> float:
        """Share of the objects whose boxes meet that of another one."""
        shares = []
        for index in range(3):
            video = SyntheticVideo(1, index, image_size=SIZE, options=options(overlap=overlap))
            for frame in list(video)[::5]:
                boxes = boxes_of_masks(frame.masks[frame.masks.any(axis=(1, 2))]).astype(np.float64)
                shared = box_overlaps(boxes, boxes) > 0.05
                shares.append((shared.sum(axis=1) > 1).mean())
        return float(np.mean(shares))

    assert meeting("little") < 0.25
    assert meeting("heavy") > 0.5


def test_the_image_shows_what_the_masks_say() -> None:
    video = SyntheticVideo(2, 0, image_size=SIZE, options=options(overlap="little"))
    first, last = video.frame(0), video.frame(29)
    there = first.masks.any(axis=0) & ~last.masks.any(axis=0)
    nowhere = ~first.masks.any(axis=0) & ~last.masks.any(axis=0)
    change = np.abs(first.image.astype(int) - last.image.astype(int)).sum(axis=2)
    assert there.any()
    assert np.median(change[there]) > 3 * np.median(change[nowhere])


def test_the_camera_shakes() -> None:
    rng = np.random.default_rng(0)
    still, shaken = (camera_path(200, 30.0, shake, rng) for shake in (0.0, 6.0))
    assert not still.any()
    assert 3 < np.abs(shaken).max() <= 6
    masks = [SyntheticVideo(5, 0, image_size=SIZE, options=options(shake=shake)).frame(3).masks for shake in (0.0, 8.0)]
    assert not np.array_equal(masks[0], masks[1])


def test_paths() -> None:
    path = Path(start=(10, 20), velocity=(2, 0), swing=(0, 5), rate=(0, np.pi), phase=(0, 0))
    assert path.at(0) == (10, 20)
    assert path.at(0.5) == pytest.approx((11, 25))


@pytest.mark.parametrize(
    ("seed", "index", "size", "message"),
    [(-1, 0, SIZE, "seed"), (0, -1, SIZE, "index"), (0, 0, (16, 64), "32")],
)
def test_impossible_videos_are_refused(seed: int, index: int, size: tuple[int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SyntheticVideo(seed, index, image_size=size)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 0}, "frames: expected a whole number of at least 1 .*, got 0"),
        ({"fps": 0}, "fps: expected a positive number"),
        ({"overlap": "some"}, "overlap: expected one of little, heavy, got 'some'"),
        ({"shake": -1}, "shake"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        options(**changes)
