"""One base for settings: frozen dataclasses whose annotations say what a field may hold, checked when one is made."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from inspect import cleandoc
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Protocol, Self, Union, get_args, get_origin, get_type_hints

from protomask.errors import ConfigError


class Bound(Protocol):
    """What an annotation may say beyond the type: ``Annotated[float, Between(0, 1)]``."""

    def holds(self, value: Any) -> bool:
        """Whether a value of the right type keeps to the bound."""

    def words(self, noun: str) -> str:
        """The noun ("a number", "whole numbers") with the bound added, for messages."""


@dataclass(frozen=True)
class Between:
    """From ``low`` to ``high``; an open end does not belong to the range."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """See `Bound.holds`."""
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def words(self, noun: str) -> str:
        """See `Bound.words`."""
        if not (self.open_low or self.open_high):
            return f"{noun} from {self.low:g} to {self.high:g}"
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"{noun} in {left}{self.low:g}, {self.high:g}{right}"


@dataclass(frozen=True)
class AtLeast:
    """``low`` or more; ``unit`` is for messages."""

    low: float
    unit: str = ""

    def holds(self, value: float) -> bool:
        """See `Bound.holds`."""
        return value >= self.low

    def words(self, noun: str) -> str:
        """See `Bound.words`."""
        return f"{noun} of at least {self.low:g} {self.unit}".rstrip()


@dataclass(frozen=True)
class AtMost:
    """``high`` or less; a limit far above all use, which messages tell only when it was passed."""

    high: float

    def holds(self, value: float) -> bool:
        """See `Bound.holds`."""
        return value <= self.high

    def words(self, noun: str) -> str:
        """See `Bound.words`."""
        return f"{noun} (and at most {self.high:g})"


@dataclass(frozen=True)
class AboveZero:
    """Positive."""

    def holds(self, value: float) -> bool:
        """See `Bound.holds`."""
        return value > 0

    def words(self, noun: str) -> str:
        """See `Bound.words`."""
        return noun.replace("number", "positive number")


@dataclass(frozen=True)
class NotEmpty:
    """A text or list with something in it."""

    def holds(self, value: Any) -> bool:
        """See `Bound.holds`."""
        return len(value) > 0

    def words(self, noun: str) -> str:
        """See `Bound.words`."""
        return noun.replace("a ", "a non-empty ", 1) if noun.startswith("a ") else f"non-empty {noun}"


Unit = Annotated[float, Between(0, 1)]
"""A share or probability."""
ShareBelowOne = Annotated[float, Between(0, 1, open_high=True)]
OpenShare = Annotated[float, Between(0, 1, open_low=True, open_high=True)]
Positive = Annotated[float, AboveZero()]
NonNegative = Annotated[float, AtLeast(0)]
Count = Annotated[int, AtLeast(1)]
"""How many there are, at least one."""
CountOrZero = Annotated[int, AtLeast(0)]
Text = Annotated[str, NotEmpty()]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings: a subclass is a dataclass of the same kind, ``@dataclass(frozen=True, kw_only=True)``.

    A field's annotation says what it may hold: a number, text or flag, with bounds in ``Annotated``; one of the values
    of a ``Literal``; None; a tuple of any of these; a dict with text keys; other settings. Lists become tuples, numbers
    of NumPy become Python's, and a mapping becomes the settings that the annotation asks for.

    Raises:
        ConfigError: a value does not fit; the message names the field, what was expected and what it got.

    """

    def __post_init__(self) -> None:
        for name in _hints(type(self)):
            value = getattr(self, name)
            fitted = self.checked(name, value)
            if fitted is not value:
                object.__setattr__(self, name, fitted)
        self._check()

    def _check(self) -> None:
        """Hook for what concerns more than one field; every field fits its annotation by then."""

    def _expect(self, name: str, holds: bool, expected: str) -> None:
        """Raise the ConfigError of a field unless something holds: for `_check`."""
        if not holds:
            raise ConfigError(f"{name}: expected {expected}, got {shown(getattr(self, name))}")

    @classmethod
    def checked(cls, name: str, value: Any) -> Any:
        """A value as the field of this name would hold it.

        Raises:
            ConfigError: the value does not fit the field.

        """
        kind = _hints(cls)[name]
        try:
            return _fitted(kind, value, name)
        except _MisfitError:
            raise ConfigError(f"{name}: expected {_words(kind)}, got {shown(value)}") from None

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed; the settings themselves where nothing is to be changed.

        Raises:
            ConfigError: a field does not exist, or its value does not fit.

        """
        if not changes:
            return self
        kept = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        _check_names(type(self), {**kept, **changes}, type(self).__name__)
        return type(self)(**{**kept, **changes})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; fields that are left out take their defaults.

        Raises:
            ConfigError: names are unknown or missing, or a value does not fit.

        """
        _check_names(cls, values, cls.__name__)
        return cls(**values)

    @classmethod
    def help(cls) -> dict[str, str]:
        """What the docstrings of the class and its bases say about each field ("Attributes:"), each on one line."""
        texts: dict[str, str] = {}
        for base in reversed(cls.__mro__):
            texts.update(_attributes(base.__dict__.get("__doc__") or ""))
        return {entry.name: texts.get(entry.name, "") for entry in fields(cls)}


def shown(value: Any) -> str:
    """A value in a message, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # a number of thousands of digits, an object whose repr fails
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


_LONGEST_SHOWN = 1000


class _MisfitError(Exception):
    """A value does not fit its annotation."""


_HINTS: dict[type[Settings], dict[str, Any]] = {}


def _hints(kind: type[Settings]) -> dict[str, Any]:
    if kind not in _HINTS:
        hints = get_type_hints(kind, include_extras=True)
        _HINTS[kind] = {entry.name: hints[entry.name] for entry in fields(kind)}
    return _HINTS[kind]


def _check_names(kind: type[Settings], values: Mapping[str, Any], title: str) -> None:
    known = {entry.name: entry for entry in fields(kind)}
    required = [name for name, entry in known.items() if entry.default is entry.default_factory is MISSING]
    problems = {
        "unknown": sorted(str(name) for name in values if name not in known),
        "missing": [name for name in required if name not in values],
    }
    found = ", ".join(f"{problem} {', '.join(names)}" for problem, names in problems.items() if names)
    if problems["unknown"]:
        found += f"; expected some of {', '.join(sorted(known))}"
    if found:
        raise ConfigError(f"{title}: {found}")


def _fitted(kind: Any, value: Any, name: str) -> Any:
    """The value as an annotation wants it; raises _MisfitError where it does not fit."""
    if kind is Any:
        return value
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        fitted = _fitted(inner[0], value, name)
        if not all(bound.holds(fitted) for bound in inner[1:]):
            raise _MisfitError
        return fitted
    if origin in (Union, UnionType):
        return _first_fitting(inner, value, name)
    if origin is Literal:
        for choice in inner:
            if isinstance(value, type(choice)) and value == choice:
                return choice
        raise _MisfitError
    if origin is tuple:
        return _fitted_tuple(inner, value, name)
    if origin is dict:
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {key: _fitted(inner[1], item, name) for key, item in value.items()}
        raise _MisfitError
    if issubclass(kind, Settings):
        return _fitted_settings(kind, value, name)
    return _SCALARS[kind](value)


def _first_fitting(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    for kind in kinds:
        try:
            return _fitted(kind, value, name)
        except _MisfitError:
            pass
    raise _MisfitError


def _fitted_tuple(kinds: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _MisfitError
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _MisfitError
    return tuple(_fitted(kind, item, name) for kind, item in zip(kinds, value, strict=True))


def _fitted_settings(kind: type[Settings], value: Any, name: str) -> Settings:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise _MisfitError
    _check_names(kind, value, name)
    try:
        return kind(**value)
    except ConfigError as error:
        raise ConfigError(f"{name}.{error}") from None


def _scalar(value: Any) -> Any:
    """What an array or tensor of no dimension holds; else the value."""
    is_scalar = getattr(value, "shape", None) == () and callable(getattr(value, "item", None))
    return value.item() if is_scalar else value


def _flag(value: Any) -> bool:
    if isinstance(fitted := _scalar(value), bool):
        return fitted
    raise _MisfitError


def _whole(value: Any) -> int:
    value = _scalar(value)
    # NumPy's whole numbers are Integral too; so are Python's True and False.
    if not isinstance(value, bool) and isinstance(value, Integral) and abs(int(value)) < 1 << 63:
        return int(value)
    raise _MisfitError


def _number(value: Any) -> float:
    value = _scalar(value)
    if not isinstance(value, bool) and isinstance(value, Real):
        try:
            number = float(value)
        except OverflowError:
            raise _MisfitError from None
        if math.isfinite(number):
            return number
    raise _MisfitError


def _text(value: Any) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return str(value) if type(value) is not str else value  # NumPy's texts become Python's
    raise _MisfitError


def _instance_of(kind: type) -> Callable[[Any], Any]:
    def fitted(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        raise _MisfitError

    return fitted


_SCALARS: dict[Any, Callable[[Any], Any]] = {
    int: _whole, float: _number, bool: _flag, str: _text, NoneType: _instance_of(NoneType),
}  # fmt: skip
_NOUNS = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    bool: ("one of True, False", "some of True, False"),
    dict: ("values by name", "values by name"),
}
_NUMERALS = {1: "one", 2: "two", 3: "three", 4: "four"}


def _words(kind: Any, *, many: bool = False) -> str:
    """What an annotation asks for, in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        noun = _words(inner[0], many=many)
        for bound in inner[1:]:
            noun = bound.words(noun)
        return noun
    if origin is Literal:
        return f"{'some' if many else 'one'} of {', '.join(map(str, inner))}"
    if origin in (Union, UnionType):
        return _words_of_union(inner, many=many)
    if origin is tuple and inner[-1] is Ellipsis:
        items = _words(inner[0], many=True)
        return items if _choices(inner[0]) else f"{'lists' if many else 'a list'} of {items}"
    if origin is tuple:
        count = _NUMERALS.get(len(inner), str(len(inner)))
        return f"{'lists of ' if many else ''}{count} {_words(inner[0], many=True)}"
    if origin is None and issubclass(kind, Settings):
        return str(kind.__name__)
    return _NOUNS[origin or kind][many]


def _words_of_union(kinds: tuple[Any, ...], *, many: bool) -> str:
    rest = [kind for kind in kinds if kind is not NoneType]
    choices = [str(choice) for kind in rest for choice in _choices(kind)]
    words = [f"{'some' if many else 'one'} of {', '.join(choices)}"] if choices else []
    words += [_words(kind, many=many) for kind in rest if not _choices(kind)]
    return " or ".join([*words, "none"] if len(rest) < len(kinds) else words)


def _choices(kind: Any) -> tuple[Any, ...]:
    if kind is bool:
        return (True, False)
    return get_args(kind) if get_origin(kind) is Literal else ()


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _attributes(docstring: str) -> dict[str, str]:
    """The entries of a Google docstring's "Attributes:" section."""
    _, _, section = cleandoc(docstring).partition("Attributes:\n")
    texts: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        entry = re.fullmatch(r" {4}(\w+): (.*)", line)
        if entry:
            name, texts[entry[1]] = entry[1], entry[2].strip()
        elif name and line.startswith(" " * 5):
            texts[name] += f" {line.strip()}"
        elif line.strip():
            break
    return texts
