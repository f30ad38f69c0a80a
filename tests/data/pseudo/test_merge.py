from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_codec

from protomask.data.pseudo.merge import Found, Known, merge
from protomask.data.pseudo.options import PseudoLabelOptions
from protomask.errors import ConfigError

OPTIONS = PseudoLabelOptions(keep_above=0.5, ignore_above=0.2)


def box(x0: int, y0: int, x1: int, y1: int) -> dict[str, Any]:
    mask = np.zeros((40, 60), dtype=np.uint8, order="F")
    mask[y0:y1, x0:x1] = 1
    code: dict[str, Any] = mask_codec.encode(mask)
    return code


def known(rle: dict[str, Any], *, label: int = 0, is_crowd: bool = False, is_machine: bool = True) -> Known:
    return Known(label, rle, is_crowd, is_machine)


OLD, NEARLY, APART = box(0, 0, 20, 20), box(0, 0, 20, 18), box(30, 0, 50, 20)
CASES: dict[str, tuple[list[Known], list[Found], dict[str, Any]]] = {
    "nothing": ([], [], {}),
    "sure": ([], [Found(0, OLD, 0.9)], {"added": 1}),
    "unsure": ([], [Found(0, OLD, 0.4)], {"ignored": 1}),
    "hopeless": ([], [Found(0, OLD, 0.2)], {}),
    "empty": ([], [Found(0, box(0, 0, 0, 0), 0.9)], {}),
    "twice": ([], [Found(0, OLD, 0.6), Found(1, NEARLY, 0.9)], {"added": 1}),
    "same object": ([known(OLD)], [Found(0, NEARLY, 0.9)], {"redrawn": 1}),
    "same object, unsure": ([known(OLD)], [Found(0, NEARLY, 0.4)], {}),
    "same object, another class": ([known(OLD)], [Found(1, NEARLY, 0.9)], {}),
    "same object, by people": ([known(OLD, is_machine=False)], [Found(0, NEARLY, 0.9)], {}),
    "same object, twice": ([known(OLD)], [Found(0, NEARLY, 0.9), Found(0, OLD, 0.8)], {"redrawn": 1}),
    "part of an object": ([known(OLD)], [Found(0, box(0, 0, 8, 8), 0.9)], {}),
    "apart": ([known(OLD)], [Found(0, APART, 0.9), Found(1, APART, 0.3)], {"added": 1}),
    "in a region": ([known(OLD, is_crowd=True)], [Found(0, box(0, 0, 9, 9), 0.9)], {"added": 1, "cut": 1}),
    "in a region of another class": ([known(OLD, label=1, is_crowd=True)], [Found(0, OLD, 0.9)], {"added": 1}),
    "in a region, unsure": ([known(OLD, is_crowd=True)], [Found(0, box(0, 0, 9, 9), 0.4)], {}),
    "in a crowd by people": ([known(OLD, is_crowd=True, is_machine=False)], [Found(0, box(0, 0, 9, 9), 0.9)], {}),
}  # fmt: skip


@pytest.mark.parametrize(("annotated", "found", "expected"), CASES.values(), ids=CASES)
def test_what_becomes_of_what_was_found(annotated: list[Known], found: list[Found], expected: dict[str, int]) -> None:
    changes = merge(annotated, found, OPTIONS)
    assert {name: len(value) for name, value in vars(changes).items() if value} == expected


def test_the_best_mask_redraws() -> None:
    changes = merge([known(OLD)], [Found(0, OLD, 0.8), Found(0, NEARLY, 0.9)], OPTIONS)
    assert changes.redrawn[0].rle == NEARLY
    assert not merge([known(OLD)], [Found(0, NEARLY, 0.9)], OPTIONS.replace(redraw=False)).redrawn


def test_objects_are_cut_from_regions() -> None:
    regions = [known(OLD, is_crowd=True), known(box(30, 0, 50, 20), is_crowd=True)]
    changes = merge(regions, [Found(0, box(0, 0, 20, 5), 0.9), Found(0, box(30, 0, 50, 19), 0.9)], OPTIONS)
    assert changes.cut[0] is not None
    assert mask_codec.area(changes.cut[0]) == 300
    assert changes.cut[1] is None


def test_thresholds_are_in_order() -> None:
    with pytest.raises(ConfigError, match=r"ignore_above: expected at most keep_above=0\.3, got 0.4"):
        PseudoLabelOptions(keep_above=0.3, ignore_above=0.4)
