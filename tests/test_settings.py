from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from protomask.errors import ConfigError
from protomask.settings import (
    AtLeast,
    Between,
    Count,
    CountOrZero,
    NotEmpty,
    OpenShare,
    Positive,
    Settings,
    ShareBelowOne,
    Text,
    Unit,
)


@dataclass(frozen=True, kw_only=True)
class Inner(Settings):
    """Some inner settings.

    Attributes:
        speed: how fast.

    """

    speed: Positive = 1.0


@dataclass(frozen=True, kw_only=True)
class Outer(Settings):
    """Some settings.

    Attributes:
        name: what to call it,
            in a few words.
        share: a part of it.

    Raises:
        ConfigError: never mentioned.

    """

    name: Text
    share: Unit = 0.5
    rest: ShareBelowOne = 0.0
    decay: OpenShare | None = None
    count: Count = 1
    stages: Annotated[int, Between(0, 5)] = 0
    side: Annotated[int, AtLeast(32, "pixels")] = 64
    limit: Count | None = None
    mode: Literal["fast", "slow"] = "fast"
    part: Literal["head", "neck"] | None = None
    freeze: Literal["auto"] | bool = "auto"
    on: bool = True
    color: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[Positive, Positive] = (1.0, 1.0)
    widths: tuple[Count, ...] = ()
    ratios: Annotated[tuple[Positive, ...], NotEmpty()] = (1.0,)
    levels: tuple[tuple[float, ...], ...] = ()
    tools: tuple[Literal["saw", "axe"], ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    small: CountOrZero = 0

    def _check(self) -> None:
        self._expect("small", self.small <= self.count, f"at most count={self.count}")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("name", "", "a non-empty text"),
        ("name", 3, "a non-empty text"),
        ("share", 1.5, "a number from 0 to 1"),
        ("share", True, "a number from 0 to 1"),
        ("share", "0.5", "a number from 0 to 1"),
        ("share", float("nan"), "a number from 0 to 1"),
        ("rest", 1.0, "a number in [0, 1)"),
        ("decay", 0.0, "a number in (0, 1) or none"),
        ("count", 0, "a whole number of at least 1"),
        ("count", 2.0, "a whole number of at least 1"),
        ("count", True, "a whole number of at least 1"),
        ("count", np.True_, "a whole number of at least 1"),
        ("stages", 6, "a whole number from 0 to 5"),
        ("side", 31, "a whole number of at least 32 pixels"),
        ("limit", 0, "a whole number of at least 1 or none"),
        ("mode", "medium", "one of fast, slow"),
        ("part", "leg", "one of head, neck or none"),
        ("freeze", "yes", "one of auto, True, False"),
        ("freeze", 1, "one of auto, True, False"),
        ("on", 1, "one of True, False"),
        ("color", (0.0, 1.0), "three numbers"),
        ("color", 3.0, "three numbers"),
        ("color", (0.0, 1.0, float("inf")), "three numbers"),
        ("color", (0.0, 1.0, 10**400), "three numbers"),
        ("scale", (1.0, 0.0), "two positive numbers"),
        ("widths", (8, 0), "a list of whole numbers of at least 1"),
        ("widths", 8, "a list of whole numbers of at least 1"),
        ("ratios", (), "a non-empty list of positive numbers"),
        ("levels", ((1.0,), 2.0), "a list of lists of numbers"),
        ("tools", ("saw", "pen"), "some of saw, axe"),
        ("options", {1: 2}, "values by name"),
        ("inner", 3, "Inner"),
        ("small", 2, "at most count=1"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        Outer(**{"name": "it", name: value})
    assert str(error.value) == f"{name}: expected {expected}, got {value!r}"


def test_values_become_plain_python() -> None:
    made = Outer(
        name="it",
        share=1,
        count=np.int64(3),  # type: ignore[arg-type]
        rest=np.float32(0.5),  # type: ignore[arg-type]
        widths=[np.uint8(8), 16],  # type: ignore[arg-type]
        levels=[[1, 2.5], [3]],  # type: ignore[arg-type]
        inner={"speed": 2},  # type: ignore[arg-type]
    )
    assert (made.share, made.count, made.rest, made.widths) == (1.0, 3, 0.5, (8, 16))
    assert [type(value) for value in (made.share, made.count, made.rest, made.widths[0])] == [float, int, float, int]
    assert made.levels == ((1.0, 2.5), (3.0,))
    assert made.inner == Inner(speed=2.0)


def test_settings_survive_json() -> None:
    made = Outer(name="it", levels=((1.0,), (2.0,)), options={"sizes": (1, 2)}, inner=Inner(speed=3.0))
    values = made.to_dict()
    assert values["levels"] == [[1.0], [2.0]]
    assert values["options"] == {"sizes": [1, 2]}
    restored = Outer.from_dict(json.loads(json.dumps(values)))
    assert restored == made.replace(options={"sizes": [1, 2]})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nam": "it", "siz": 3}, "Outer: unknown nam, siz, missing name; expected some of color, count,"),
        ({}, "Outer: missing name"),
        ({"name": "it", "inner": {"sped": 1}}, "inner: unknown sped; expected some of speed"),
        ({"name": "it", "inner": {"speed": -1}}, "inner.speed: expected a positive number, got -1"),
    ],
)
def test_wrong_names_list_the_right_ones(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Outer.from_dict(values)
    assert str(error.value).startswith(message)


def test_replace() -> None:
    made = Outer(name="it")
    assert made.replace(count=4, small=4) == Outer(name="it", count=4, small=4)
    with pytest.raises(ConfigError, match="Outer: unknown cuont; expected some of color, count"):
        made.replace(cuont=4)
    with pytest.raises(ConfigError, match="count: expected a whole number"):
        made.replace(count=-4)


def test_help_is_what_the_docstrings_say() -> None:
    @dataclass(frozen=True, kw_only=True)
    class More(Outer):
        """More settings.

        Attributes:
            share: another part.
            extra: of its own.

        """

        extra: int = 0

    assert Outer.help()["name"] == "what to call it, in a few words."
    assert Outer.help()["rest"] == ""
    assert (More.help()["name"], More.help()["share"]) == (Outer.help()["name"], "another part.")
    assert More.help()["extra"] == "of its own."


def test_settings_need_no_torch() -> None:
    code = (
        "import sys, protomask.settings, protomask.engine.config, protomask.models.zoo\n"
        "assert not {'torch', 'torchvision', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
