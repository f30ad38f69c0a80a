from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protomask.errors import ConfigError
from protomask.evaluation.quality_report import judge_score, spearman_correlation


class TestSpearman:
    @pytest.mark.parametrize(
        ("first", "second", "expected"),
        [
            ([1, 2, 3, 4, 5], [5, 6, 7, 8, 7], 8 / (10 * 9.5) ** 0.5),  # ranks 1 2 3.5 5 3.5
            ([1, 2, 3], [10, 20, 30], 1.0),
            ([1, 2, 3], [3, 2, 1], -1.0),
            ([1, 1, 2, 2], [1, 2, 1, 2], 0.0),
            ([0.1, 0.1, 0.4], [0.2, 0.3, 0.9], 1.5 / (1.5 * 2) ** 0.5),  # ranks 1.5 1.5 3 and 1 2 3
            ([106, 86, 100, 101, 99, 103, 97, 113, 112, 110], [7, 0, 27, 50, 28, 29, 20, 12, 6, 17], -29 / 165),
        ],
    )
    def test_known_values(self, first: list[float], second: list[float], expected: float) -> None:
        assert spearman_correlation(first, second) == pytest.approx(expected, abs=1e-15)

    @pytest.mark.parametrize(
        ("first", "second"), [([], []), ([0.5], [0.5]), ([0.1] * 7, list(range(7))), ([1, 2], [0.3, 0.3])]
    )
    def test_undefined(self, first: list[float], second: list[float]) -> None:
        assert spearman_correlation(first, second) is None

    def test_lengths_differ(self) -> None:
        with pytest.raises(ConfigError, match="one length"):
            spearman_correlation([1, 2], [1, 2, 3])

    pairs = st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), max_size=40)

    @given(pairs)
    def test_only_order_counts(self, pairs: list[tuple[int, int]]) -> None:
        first, second = [a for a, _ in pairs], [b for _, b in pairs]
        plain = spearman_correlation(first, second)
        assert plain is None or -1 <= plain <= 1
        assert spearman_correlation([a**3 + 7 for a in first], [b / 8 for b in second]) == plain
        assert spearman_correlation(second, first) == plain
        reversed_ = spearman_correlation([-a for a in first], second)
        assert (reversed_ is None) == (plain is None)
        assert plain is None or reversed_ == pytest.approx(-plain, abs=1e-12)


class TestScore:
    def test_table_worked_out_by_hand(self) -> None:
        quality = judge_score([0.0, 0.05, 0.3, 0.95, 1.0], [0.0, 0.25, 0.3, 0.75, 0.5])
        assert quality.mean_absolute_error == pytest.approx((0 + 0.2 + 0 + 0.2 + 0.5) / 5)
        # Bins 0 (|0.05 - 0.25| over two), 3 (none) and 9 (|1.95 - 1.25| over two).
        assert quality.calibration_error == pytest.approx((0.2 + 0 + 0.7) / 5)
        assert [one.count for one in quality.bins] == [2, 0, 0, 1, 0, 0, 0, 0, 0, 2]
        first, last = quality.bins[0], quality.bins[-1]
        assert (first.lower, first.upper, last.lower, last.upper) == (0.0, 0.1, 0.9, 1.0)
        assert (first.mean_score, first.mean_iou) == pytest.approx((0.025, 0.125))
        assert (last.mean_score, last.mean_iou) == pytest.approx((0.975, 0.625))
        assert quality.bins[1].mean_score is quality.bins[1].mean_iou is None

    def test_every_lower_edge_is_in_its_own_bin(self) -> None:
        edges = [k / 10 for k in range(10)]
        assert [one.count for one in judge_score(edges, edges).bins] == [1] * 10

    def test_scores_outside_the_range_are_in_the_outer_bins(self) -> None:
        quality = judge_score([-0.5, 1.5], [0.0, 1.0])
        assert [one.count for one in quality.bins] == [1, *[0] * 8, 1]
        assert quality.calibration_error == quality.mean_absolute_error == 0.5

    def test_nothing(self) -> None:
        quality = judge_score([], [])
        assert quality.spearman is quality.mean_absolute_error is quality.calibration_error is None
        assert [one.count for one in quality.bins] == [0] * 10
