"""`protomask calibrate` from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from protomask.data.synthetic.write import write_dataset

if TYPE_CHECKING:
    from cli.conftest import Run


def test_a_calibrated_file_predicts_by_precision(run: Run, tmp_path: Path) -> None:
    write_dataset(tmp_path / "shapes", images=1, val_images=12, seed=6)
    output = tmp_path / "nano.onnx"
    outcome = run(
        "calibrate", "yolact_nano", "--data", tmp_path / "shapes", "--output", output, "--num-workers", 0,
        "--check-share", 0.25,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "fitted to" in outcome.out
    assert "calibration error" in outcome.out
    assert "threshold for a precision of" in outcome.out
    assert str(output) in outcome.out
    images = tmp_path / "shapes" / "images" / "val"
    found = []
    for precision in (0.95, 0.5):
        told = run("predict", images, "--model", output, "--threshold-for", f"precision={precision}", "--json").json
        found.append(sum(image["instances"] for image in told["images"]))
    assert 0 < found[0] < found[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nuclei", "--data", "nowhere"], 1, "nowhere"),
        (["yolact_nan", "--data", "."], 2, "yolact_nan"),
        (["nuclei", "--data", ".", "--method", "platt"], 2, "platt"),
    ],
)
def test_wrong_names_are_answered(run: Run, arguments: list[str], code: int, message: str) -> None:
    outcome = run("calibrate", *arguments)
    assert outcome.code == code
    assert message in outcome.err
