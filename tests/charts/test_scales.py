from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protomask.charts.scales import Axis, write_numbers

sizes = st.floats(min_value=1e-9, max_value=1e12)


@pytest.mark.parametrize(
    ("values", "log", "texts"),
    [
        ([0.0, 0.2, 0.4], False, ["0.0", "0.2", "0.4"]),
        ([0.0, 10.0, 20.0], False, ["0", "10", "20"]),
        ([0.0, 5000.0, 10_000.0], False, ["0", "5k", "10k"]),
        ([0.0, 2e6], False, ["0", "2M"]),
        ([0.0, 1e-4, 2e-4], False, ["0", "1e-4", "2e-4"]),
        ([-0.5, 0.0, 0.5], False, ["-0.5", "0.0", "0.5"]),
        ([1.0, 10.0, 100.0, 1000.0, 1e6], True, ["1", "10", "100", "1k", "1M"]),
        ([1e-4, 0.001, 0.5], True, ["1e-4", "0.001", "0.5"]),
        ([], False, []),
    ],
)
def test_numbers(values: list[float], log: bool, texts: list[str]) -> None:
    assert write_numbers(values, log=log) == texts


@given(values=st.lists(sizes, min_size=1, max_size=5), log=st.booleans(), most=st.integers(1, 12))
def test_any_values_have_a_place_and_round_numbers(values: list[float], log: bool, most: int) -> None:
    scale = Axis(log=log).scale(values, 0.0, 100.0)
    assert scale.low <= min(values) * (1 + 1e-9)
    assert scale.high >= max(values) * (1 - 1e-9)
    assert all(0 <= scale(value) <= 100 for value in values)
    round_values = scale.round_values(most)
    assert 1 <= len(round_values) <= most
    assert round_values == sorted(set(round_values))
    places = [scale(value) for value in round_values]
    assert all(math.isfinite(place) for place in places)


@given(st.lists(st.floats(min_value=-1e9, max_value=1e9), min_size=1, max_size=5))
def test_an_axis_from_zero_holds_zero(values: list[float]) -> None:
    scale = Axis().scale(values, 200.0, 10.0, from_zero=True)
    assert scale.low <= 0 <= scale.high
    assert 10 <= scale(0) <= 200


def test_the_ends_of_a_span_are_kept() -> None:
    scale = Axis(span=(0.0, 0.97)).scale([5.0], 0.0, 97.0)
    assert [scale(value) for value in (0.5, 0.97, 5.0, -1.0)] == pytest.approx([50.0, 97.0, 97.0, 0.0])
    assert scale.round_values(6) == [0.0, 0.2, 0.4, 0.6, 0.8]


@pytest.mark.parametrize("axis", [Axis(span=(3.0, 3.0)), Axis(span=(1.0, 1.0), log=True), Axis(), Axis(log=True)])
def test_an_axis_is_never_without_length(axis: Axis) -> None:
    scale = axis.scale([], 0.0, 10.0)
    assert scale.high > scale.low
    assert scale.round_values(5)


def test_what_a_logarithmic_axis_cannot_show() -> None:
    assert [Axis(log=True).shows(value) for value in (1.0, 0.0, -1.0, math.inf, math.nan)] == [True, *[False] * 4]
    assert [Axis().shows(value) for value in (-1.0, math.inf, math.nan)] == [True, False, False]
