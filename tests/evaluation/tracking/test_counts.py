from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from protomask.errors import DataError
from protomask.evaluation.tracking.clear import clear, identity
from protomask.evaluation.tracking.hota import hota
from protomask.evaluation.tracking.metrics import Counted
from protomask.evaluation.tracking.sequence import Sequence

Frame = tuple[list[int], list[int], list[list[float]] | list[list[int]]]


def video(*frames: Frame) -> Sequence:
    return Sequence.of(
        (np.array(truth, dtype=np.int64), np.array(found, dtype=np.int64),
         np.array(overlaps, dtype=np.float64).reshape(len(truth), len(found)))
        for truth, found, overlaps in frames
    )  # fmt: skip


def random_video(seed: int, *, frames: int = 30, objects: int = 6) -> Sequence:
    """Objects that come and go, tracks that follow them more or less, and some false ones."""
    rng = np.random.default_rng(seed)
    pairs = []
    track_of = list(range(objects))
    for _ in range(frames):
        if objects and rng.random() < 0.3:
            first, second = rng.integers(objects, size=2)
            track_of[first], track_of[second] = track_of[second], track_of[first]
        truth = np.flatnonzero(rng.random(objects) < 0.8)
        found = np.flatnonzero(rng.random(objects + 2) < 0.8)
        overlaps = np.where(rng.random((len(truth), len(found))) < 0.2, rng.random((len(truth), len(found))), 0)
        for row, number in enumerate(truth):
            for column in np.flatnonzero(found == track_of[number]):
                overlaps[row, column] = rng.uniform(0.3, 1)
        pairs.append((truth * 7, found + 100, overlaps))
    return Sequence.of(pairs)


PERFECT = video(*[([1, 2], [5, 6], [[1, 0], [0, 1]])] * 4)


def test_perfect_tracks() -> None:
    values = Counted.of(PERFECT).values()
    assert values.pop("IDSW") == 0
    assert values == pytest.approx(dict.fromkeys(values, 1.0))


def test_tracks_that_swap_once_half_way() -> None:
    swapped = video(*[([1, 2], [5, 6], [[1, 0], [0, 1]])] * 2, *[([1, 2], [5, 6], [[0, 1], [1, 0]])] * 2)
    counted = Counted.of(swapped)
    assert (counted.clear.switches, counted.clear.matched) == (2, 8)
    values = counted.values()
    assert values["DetA"] == 1
    # Each pair has 2 frames in common, of 4 + 4 - 2.
    assert values["AssA"] == pytest.approx(1 / 3)
    assert values["HOTA"] == pytest.approx((1 / 3) ** 0.5)
    assert values["IDF1"] == 0.5
    assert values["MOTSA"] == (8 - 2) / 8


def test_missed_and_wrong_ones() -> None:
    counted = Counted.of(video(([1, 2], [5, 6], [[0.8, 0], [0, 0.4]]), ([1], [], []), ([], [7], [])))
    assert (counted.clear.matched, counted.clear.missed, counted.clear.wrong) == (1, 2, 2)
    values = counted.values()
    assert values["MOTSA"] == pytest.approx((1 - 2) / 3)
    assert values["sMOTSA"] == pytest.approx((0.8 - 2) / 3)
    assert values["MOTSP"] == pytest.approx(0.8)
    assert values["IDF1"] == pytest.approx(1 / 3)
    # Of 19 thresholds 16 are up to the overlap of 0.8, and 8 up to that of 0.4.
    assert counted.hota.matched.tolist() == [2] * 8 + [1] * 8 + [0] * 3
    assert values["DetRe"] == pytest.approx((8 * 2 + 8) / 3 / 19)


def test_a_switch_counts_after_a_gap_too() -> None:
    gap = video(([1], [5], [[1]]), ([1], [], []), ([1], [6], [[1]]), ([1], [6], [[1]]))
    assert clear(gap).switches == 1
    assert clear(video(([1], [5], [[1]]), ([], [], []), ([1], [5], [[1]]))).switches == 0


def test_pairs_stay_together_if_they_can() -> None:
    kept = video(([1], [5], [[0.9]]), ([1], [5, 6], [[0.6, 0.9]]))
    assert clear(kept).switches == 0
    assert clear(kept).overlap == pytest.approx(1.5)


def test_nothing_at_all() -> None:
    values = Counted.of(video()).values()
    assert values.pop("LocA") == 1
    assert set(values.values()) == {0}


@pytest.mark.parametrize("seed", range(8))
def test_as_trackeval_counts(seed: int) -> None:
    metrics = pytest.importorskip("trackeval.metrics")
    own: Counted | None = None
    theirs: dict[str, dict[str, Any]] = {"HOTA": {}, "CLEAR": {}, "Identity": {}}
    evaluators = {
        "HOTA": metrics.HOTA(),
        "CLEAR": metrics.CLEAR({"PRINT_CONFIG": False}),
        "Identity": metrics.Identity({"PRINT_CONFIG": False}),
    }
    for number in range(2):
        sequence = random_video(10 * seed + number, objects=6 if seed else 0)
        counted = Counted.of(sequence)
        own = counted if own is None else own + counted
        truth, found = sequence.counts()
        data = {
            "num_timesteps": len(sequence.frames),
            "num_gt_ids": sequence.num_truth,
            "num_tracker_ids": sequence.num_found,
            "num_gt_dets": int(truth.sum()),
            "num_tracker_dets": int(found.sum()),
            "gt_ids": [frame.truth for frame in sequence.frames],
            "tracker_ids": [frame.found for frame in sequence.frames],
            "similarity_scores": [frame.overlaps for frame in sequence.frames],
        }
        for name, evaluator in evaluators.items():
            theirs[name][str(number)] = evaluator.eval_sequence(data)
    assert own is not None
    summed = {name: evaluator.combine_sequences(theirs[name]) for name, evaluator in evaluators.items()}
    values = own.values()
    for name in ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA"):
        assert values[name] == pytest.approx(summed["HOTA"][name].mean()), name
    for name in ("IDF1", "IDR", "IDP"):
        assert values[name] == pytest.approx(summed["Identity"][name]), name
    for name, their_name in (("MOTSA", "MOTA"), ("sMOTSA", "sMOTA"), ("MOTSP", "MOTP"), ("IDSW", "IDSW")):
        assert values[name] == pytest.approx(summed["CLEAR"][their_name]), name
    assert hota(sequence).matched.sum() > 0 or not seed
    assert identity(sequence).matched > 0 or not seed


def test_ids_must_be_unique_and_overlaps_fit() -> None:
    with pytest.raises(DataError, match=r"frame 1: expected every found id once, got \[5, 5\]"):
        video(([1], [5], [[1]]), ([1], [5, 5], [[1, 1]]))
    with pytest.raises(DataError, match="frame 0: expected overlaps of shape"):
        Sequence.of([(np.array([1]), np.array([2]), np.zeros((2, 1)))])
