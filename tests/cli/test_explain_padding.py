from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from protomask.api import build
from protomask.data.synthetic.shapes import CLASS_NAMES

if TYPE_CHECKING:
    from cli.conftest import Run


@pytest.fixture(scope="module")
def wide_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small untrained model whose coarsest maps can be reflected."""
    model = build(
        "yolact_nano", class_names=CLASS_NAMES, device="cpu", image_size=128, fpn_channels=8, protonet_channels=8,
        num_prototypes=4, num_levels=4, anchor_scales=((12.0,), (24.0,), (48.0,), (96.0,)),
    )  # fmt: skip
    return model.save(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def test_the_experiment_ends_with_a_table_and_a_page(
    run: Run, wide_weights: Path, scenes: Path, tmp_path: Path
) -> None:
    outcome = run(
        "explain", "padding", "--model", wide_weights, "--data", scenes, "--images", "2", "--device", "cpu",
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    for padding in ("zeros", "reflect", "replicate", "circular"):
        assert padding in outcome.out
    assert (tmp_path / "out" / "index.html").is_file()
    assert (tmp_path / "out" / "padding.json").is_file()


def test_wrong_arguments_are_answered_in_a_line(run: Run, tmp_path: Path) -> None:
    assert run("explain", "padding", "--data", tmp_path / "gone").code == 1
    assert run("explain", "padding", "--images", "1").code == 2
