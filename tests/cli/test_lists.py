"""How lists may be written on the command line."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from protomask.cli.arguments import run_verb

TAKEN: dict[str, Any] = {}


def run(*, names: list[str] | None = None, shares: tuple[float, ...] = (), pairs: dict[str, Any] | None = None) -> int:
    """Take lists.

    Args:
        names: texts.
        shares: numbers.
        pairs: no list.
    """
    TAKEN.update(names=names, shares=shares)
    return 0


@pytest.mark.parametrize(
    ("arguments", "names", "shares"),
    [
        ([], None, ()),
        (["--names", "person,car"], ["person", "car"], ()),
        (["--names=person,car", "--shares", "0.8,0.2"], ["person", "car"], (0.8, 0.2)),
        (["--names", "[person,car]", "--shares", "[0.8, 0.2]"], ["person", "car"], (0.8, 0.2)),
        (["--names", "traffic light, no"], ["traffic light", "no"], ()),
        (["--names", "1,yes,null: x,{a"], ["1", "yes", "null: x", "{a"], ()),
        (["--names", "person", "--shares=1"], ["person"], (1.0,)),
        (['--names=["a,b"]'], ["a,b"], ()),
    ],
)
def test_lists(arguments: list[str], names: list[str] | None, shares: tuple[float, ...]) -> None:
    module = ModuleType("lists")
    module.__dict__.update(run=run, EXAMPLE="protomask lists")
    TAKEN.clear()
    assert run_verb("lists", module, "", arguments) == 0
    assert {"names": names, "shares": shares} == TAKEN


def test_items_of_a_wrong_type(capsys: pytest.CaptureFixture[str]) -> None:
    module = ModuleType("lists")
    module.__dict__.update(run=run, EXAMPLE="protomask lists")
    assert run_verb("lists", module, "", ["--shares", "0.8,most"]) == 2
    assert "--shares: expected [FLOAT,...]" in capsys.readouterr().err
