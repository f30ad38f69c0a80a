"""Every command and every block of Python of the tutorial runs, in order, with smaller numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from follow_tutorial import MADE, TUTORIAL, steps
from PIL import Image

from protomask.cli.main import main


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for extra in ("onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(extra)
    monkeypatch.chdir(tmp_path)
    for step in steps():
        if isinstance(step, str):
            exec(compile(step, str(TUTORIAL), "exec"), {})
            continue
        program, *arguments = step
        assert program == "protomask", step
        code = main(arguments)
        assert code == 0, f"{step}\n{capsys.readouterr().err}"
    for name in MADE:
        assert (tmp_path / name).is_file(), name
    overlay = next((tmp_path / "found").glob("*.png"))
    assert np.asarray(Image.open(overlay)).shape == (128, 128, 3)
