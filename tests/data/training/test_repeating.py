from __future__ import annotations

import numpy as np
import pytest

from protomask.data.training.repeating import repeated_images


def test_rare_classes_are_repeated_by_the_root_of_their_rarity() -> None:
    labels = [{0}] * 900 + [{0, 1}] * 90 + [{1, 2}] * 10
    times = np.bincount(repeated_images(labels, 0.4, seed=0))
    assert set(times[:900]) == {1}
    assert set(times[900:990]) == {2}  # sqrt(0.4 / 0.1)
    assert times[990:].mean() == pytest.approx(np.sqrt(0.4 / 0.01), abs=0.3)


@pytest.mark.parametrize("below", [0.0, 0.05])
def test_every_image_is_seen_once_where_nothing_is_rare(below: float) -> None:
    labels: list[set[int]] = [{0}, set(), {1}, {0, 1}]
    assert repeated_images(labels, below, seed=0).tolist() == [0, 1, 2, 3]


def test_nothing() -> None:
    assert repeated_images([], 0.1, seed=0).tolist() == []
