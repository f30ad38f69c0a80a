"""Axes: from values to pixels, round numbers between their ends, and how these are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

_ROUND = (1, 2, 5)
_TINY = 1e-300  # spans below this have no logarithm to rely on


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What one side of a chart shows.

    Attributes:
        label: what the values are, with their unit.
        span: lowest and highest value; by default chosen to hold all values.
        log: logarithmic; values at 0 and below are left out.
        ticks: text by value, instead of round numbers.

    """

    label: str = ""
    span: tuple[float, float] | None = None
    log: bool = False
    ticks: Mapping[float, str] | None = None

    def shows(self, value: float) -> bool:
        """Whether a value has a place on the axis."""
        return isfinite(value) and (value > 0 or not self.log)

    def scale(self, values: Sequence[float], start: float, end: float, *, from_zero: bool = False) -> Scale:
        """Place the axis on the pixels from ``start`` to ``end``.

        Args:
            values: what the axis must hold where it has no span; those that it cannot show are ignored.
            start: pixel of the lowest value.
            end: pixel of the highest value.
            from_zero: a linear axis without a span holds 0, too.

        """
        if self.span is not None:
            low, high = self.span
        else:
            shown = [value for value in values if self.shows(value)] or ([1.0] if self.log else [0.0, 1.0])
            low, high = min(shown), max(shown)
            if self.log:
                low, high = _log_ends(low, high)
            else:
                low, high = _linear_ends(*((min(low, 0.0), max(high, 0.0)) if from_zero else (low, high)))
        if high <= low:
            high = 10 * low if self.log else low + (abs(low) or 1.0)
        return Scale(low=low, high=high, start=start, end=end, log=self.log)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Values from ``low`` to ``high`` on the pixels from ``start`` to ``end``, which may be the smaller number."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Pixel of a value, at the end of the axis for values beyond it."""
        if self.log:
            share = log10(max(value, self.low) / self.low) / log10(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * min(max(share, 0.0), 1.0)

    def round_values(self, most: int) -> list[float]:
        """Round numbers on the axis, ``most`` of them or fewer; always at least one."""
        return _log_values(self.low, self.high, most) if self.log else _linear_values(self.low, self.high, most)


def write_numbers(values: Sequence[float], *, log: bool = False) -> list[str]:
    """Text of the numbers of one axis.

    Args:
        values: the numbers.
        log: write each as short as it can be, for their sizes differ; by default all get the same unit and the same
            number of decimals: 0.0, 0.5, 1.0 or 0, 5k, 10k.

    """
    if log:
        return [_write(value, 0.0 if abs(value) < 1e3 else abs(value)) for value in values]
    largest = max((abs(value) for value in values), default=0.0)
    if largest >= 1e4 or 0 < largest < 1e-3:
        return [_write(value, largest) for value in values]
    exact = (n for n in range(7) if all(abs(round(value, n) - value) < 1e-9 for value in values))
    decimals = next(exact, 7)
    return [f"{value:.{decimals}f}" for value in values]


def _write(value: float, size: float) -> str:
    """A number in the unit that suits another of this size."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{value / unit:g}{letter}" if value else "0"
    return f"{value:.0e}".replace("e-0", "e-") if 0 < abs(value) < 1e-3 else f"{value:g}"


def _linear_ends(low: float, high: float) -> tuple[float, float]:
    """Round numbers around the values."""
    if high - low < _TINY:
        high = low + (abs(low) if abs(low) > _TINY else 1.0)
    step = _round_step(low, high, 6)
    return _times(floor(low / step + 1e-9), step), _times(ceil(high / step - 1e-9), step)


def _log_ends(low: float, high: float) -> tuple[float, float]:
    """1, 2 or 5 times a power of ten, around the values."""
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    ends = [factor * 10.0**power for power in powers for factor in _ROUND]
    below = max(end for end in ends if end <= low * (1 + 1e-9))
    above = min((end for end in ends if end >= high * (1 - 1e-9) and end > below), default=2 * below)
    return below, above


def _linear_values(low: float, high: float, most: int) -> list[float]:
    step = _round_step(low, high, max(most, 1))
    return [_times(k, step) for k in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)] or [low]


def _round_step(low: float, high: float, most: int) -> float:
    """The smallest round distance with which ``most`` numbers or fewer lie between the ends."""
    power = floor(log10(high - low)) - 3
    while True:
        for factor in _ROUND:
            step = factor * 10.0**power
            if floor(high / step + 1e-9) - ceil(low / step - 1e-9) + 1 <= most:
                return step
        power += 1


def _times(count: int, step: float) -> float:
    """The product without the last digits, which are noise."""
    return float(f"{count * step:.12g}")


def _log_values(low: float, high: float, most: int) -> list[float]:
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    factors = range(1, 10) if high <= 10 * low else _ROUND
    candidates = [[factor * 10.0**power for power in powers for factor in chosen] for chosen in (factors, _ROUND)]
    candidates += [[10.0**power for power in powers if power % every == 0] for every in range(1, 10)]
    for values in candidates:
        shown = [value for value in values if low * 0.999 <= value <= high * 1.001]
        if 0 < len(shown) <= max(most, 1):
            return shown
    return [low]
