from __future__ import annotations

from typing import TYPE_CHECKING

from protomask.defaults import DEFAULT_MODEL
from protomask.models.zoo import ZOO

if TYPE_CHECKING:
    from cli.conftest import Run


def test_table_fits_a_terminal(run: Run) -> None:
    outcome = run("models")
    assert outcome.code == 0
    assert all(f"{name} " in outcome.out for name in ZOO)
    assert "29.8" in outcome.out
    assert "mmdetection" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80


def test_json(run: Run) -> None:
    rows = {row["name"]: row for row in run("models", "--json").json}
    assert list(rows) == list(ZOO)
    assert [name for name, row in rows.items() if row["default"]] == [DEFAULT_MODEL]
    assert rows["yolact_resnet50"]["weights"] == "hf://dbolya/yolact-resnet50/yolact_resnet50_54_800000.pth"
    assert rows["yolact_resnet101_400"]["image_size"] == 400
