from __future__ import annotations

import numpy as np
import pytest

from protomask.inference.tracking.association import (
    Seen,
    camera_shift,
    class_factors,
    first_of_each,
    fits,
    match,
    returns,
)
from protomask.inference.tracking.motion import BoxMotion
from protomask.inference.tracking.options import TrackOptions
from protomask.inference.tracking.similarity import Overlaps
from protomask.inference.tracking.track import Track
from protomask.masks.coarse import CoarseMask

NOTHING = CoarseMask(0, 0, np.zeros((0, 0), dtype=np.float32))
OPTIONS = TrackOptions()


def boxes_at(*centres: tuple[float, float], side: float = 20) -> np.ndarray:
    middle = np.array(centres, dtype=np.float64).reshape(-1, 2)
    return np.concatenate([middle - side / 2, middle + side / 2], axis=1)


def seen_at(*centres: tuple[float, float], side: float = 20, scores: list[float] | None = None) -> Seen:
    count = len(centres)
    return Seen(
        rows=np.arange(count),
        boxes=boxes_at(*centres, side=side),
        masks=[NOTHING] * count,
        labels=np.zeros(count, dtype=np.int64),
        scores=np.array(scores or [0.9] * count),
    )


def tracks_at(
    *centres: tuple[float, float], unseen: float = 0.0, confirmed: bool = True
) -> tuple[list[Track], BoxMotion]:
    motion = BoxMotion()
    motion.add(boxes_at(*centres))
    votes = np.array([3.0, 1.0])
    return [
        Track(number + 1 if confirmed else 0, NOTHING, np.array(centre), votes, unseen=unseen)
        for number, centre in enumerate(centres)
    ], motion


def test_only_the_best_of_several_detections_of_an_object_counts() -> None:
    shared = np.array([[1, 0.8, 0.1, 0], [0.8, 1, 0.6, 0], [0.1, 0.6, 1, 0.2], [0, 0, 0.2, 1]])
    assert first_of_each(shared, 0.5).tolist() == [0, 2, 3]  # the second would hide the third, but is gone itself
    assert first_of_each(np.zeros((0, 0)), 0.5).tolist() == []


def test_other_classes_fit_less() -> None:
    tracks, _ = tracks_at((0, 0))
    assert class_factors(tracks, np.array([0, 1]), 0.4) == pytest.approx(np.array([[0.9, 0.7]]))
    assert class_factors([], np.array([0, 1]), 0.4).shape == (0, 2)


def test_the_fit_is_half_excused() -> None:
    shared = Overlaps(np.array([[0.2, 0.05]]), np.array([[1.0, 0.05]]), np.array([0.5]))
    assert fits(shared, np.ones((1, 2)), 0.1) == pytest.approx(np.array([[0.6, 0]]))


def test_the_camera_moves_when_most_pairs_agree() -> None:
    places = ((20, 20), (80, 20), (20, 80), (80, 80))
    _, motion = tracks_at(*places)
    fit = np.eye(4)
    shift = camera_shift(fit, motion, seen_at(*((x + 3, y - 2) for x, y in places)))
    assert shift is not None
    assert shift.tolist() == [3, -2]
    apart = seen_at((23, 20), (80, 26), (14, 80), (80, 71))
    assert camera_shift(fit, motion, apart) is None
    assert camera_shift(fit[:2], tracks_at(*places[:2])[1], seen_at(*places)) is None


def test_who_chooses_first() -> None:
    tracks, motion = tracks_at((20, 20), (60, 20))
    new, _ = tracks_at((40, 20), confirmed=False)
    motion.add(boxes_at((40, 20)))
    seen = seen_at((20, 20), (60, 20), (40, 20), scores=[0.9, 0.2, 0.9])
    fit = np.array([[0.9, 0, 0.95], [0, 0.4, 0], [0.1, 0, 0.9]])
    classes = np.ones((3, 3))
    # Confirmed tracks choose before new ones, although the sum would be larger the other way round.
    assert match(fit, [*tracks, *new], motion, seen, classes, OPTIONS).tolist() == [2, 1, 0]
    fit[0, 2] = 0.0
    assert match(fit, [*tracks, *new], motion, seen, classes, OPTIONS).tolist() == [0, 1, 2]
    fit[1, 1] = 0.2  # too little for a detection of low score
    assert match(fit, [*tracks, *new], motion, seen, classes, OPTIONS).tolist() == [0, -1, 2]
    assert match(np.zeros((0, 3)), [], BoxMotion(), seen, np.ones((0, 3)), OPTIONS).tolist() == []


def test_lost_objects_come_back_near_their_place_and_in_part() -> None:
    def gain(centre: tuple[float, float], *, unseen: float = 0.1, side: float = 20) -> float:
        tracks, motion = tracks_at((50, 50), unseen=unseen)
        return float(returns(tracks, motion, seen_at(centre, side=side), np.ones((1, 1)))[0, 0])

    assert gain((50, 50)) == pytest.approx(1)
    assert gain((80, 50)) == 0
    assert gain((80, 50), unseen=1.0) > 0.2
    assert gain((50, 50), side=10) > gain((50, 50), side=40) > 0.2
