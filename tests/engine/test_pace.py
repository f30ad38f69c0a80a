from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protomask.engine.pace import (
    Clock,
    Pace,
    clock_time,
    end_on_time,
    epochs_between_validations,
    num_validations,
    seconds_until,
)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its only item is the time in seconds."""
    now = [100.0]
    monkeypatch.setattr("protomask.engine.pace.monotonic", lambda: now[0])
    return now


def test_the_clock_adds_earlier_sessions(time: list[float]) -> None:
    clock = Clock()
    time[0] += 5
    assert clock.elapsed() == 5
    clock.before = 60
    assert clock.elapsed() == 65


def test_pace_leaves_out_what_waits_for_a_loader_and_what_lies_between(time: list[float]) -> None:
    pace = Pace(images_per_step=8, validation_images=40)
    assert (pace.step_seconds, pace.validation_seconds) == (None, 0.0)
    pace.start(new_loader=True)
    time[0] += 50
    pace.step()
    assert pace.step_seconds == 50
    for seconds in (2, 4):
        time[0] += seconds
        pace.step()
    assert pace.step_seconds == 3
    assert pace.validation_seconds == pytest.approx(3 * 5 * 0.5)  # a guess
    time[0] += 1000  # a validation
    pace.validated(1000)
    pace.start(new_loader=False)
    time[0] += 6
    pace.step()
    assert (pace.step_seconds, pace.validation_seconds) == (4, 1000)
    pace.start(new_loader=True)
    time[0] += 500
    pace.step()
    assert pace.step_seconds == 4


def test_an_earlier_pace_holds_until_it_is_measured_again(time: list[float]) -> None:
    pace = Pace(images_per_step=8, validation_images=40)
    pace.restore({"step": 2.0, "validation": 7.0})
    assert pace.to_plain() == {"step": 2.0, "validation": 7.0}
    pace.start(new_loader=False)
    pace.step()
    time[0] += 1
    pace.step()
    assert pace.to_plain() == {"step": 1.0, "validation": 7.0}


@pytest.mark.parametrize(
    ("iteration", "end", "period", "count"),
    [(0, 10, 5, 2), (0, 11, 5, 3), (5, 10, 5, 1), (4, 10, 5, 2), (10, 10, 5, 0), (0, 3, 5, 1), (12, 10, 5, 0)],
)
def test_num_validations(iteration: int, end: int, period: int, count: int) -> None:
    assert num_validations(iteration, end, period) == count
    assert count == len({step for step in range(iteration + 1, end + 1) if step % period == 0 or step == end})


@given(
    seconds=st.floats(-10, 1000),
    iteration=st.integers(0, 50),
    period=st.integers(1, 20),
    step=st.floats(0.1, 5),
    validation=st.floats(0, 60),
)
def test_the_last_end_that_is_reached_in_time(
    seconds: float, iteration: int, period: int, step: float, validation: float
) -> None:
    pace = {"step": step, "validation": validation}
    end = end_on_time(seconds, iteration, period, **pace)
    assert end >= iteration
    assert end == iteration or seconds_until(end, iteration, period, **pace) <= seconds
    assert seconds_until(end + 1, iteration, period, **pace) > seconds


@pytest.mark.parametrize(
    ("at_least", "epoch_seconds", "validation", "epochs"),
    [(1, 100, 10, 1), (1, 40, 10, 1), (1, 39, 10, 2), (3, 100, 10, 3), (1, 1, 10, 40), (1, 5, 0, 1)],
)
def test_validations_take_a_fifth_of_the_time_or_less(
    at_least: int, epoch_seconds: float, validation: float, epochs: int
) -> None:
    assert epochs_between_validations(at_least, epoch_seconds, validation) == epochs


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (750, "12:30"), (3723, "1:02:03")]
)
def test_clock_time(seconds: float, text: str) -> None:
    assert clock_time(seconds) == text
