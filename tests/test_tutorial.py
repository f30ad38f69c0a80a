"""Every command and every block of Python of the tutorial runs, in order, with smaller numbers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protomask.cli.main import main

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"

NOT_RUN = ("pip install '.[onnx,openvino]'",)
"""What the environment of the tests has done."""

SMALLER = {
    "--images 300 --seed 7": "--images 12 --val-images 3 --height 128 --width 128 --seed 7",
    "--iterations 300": "--iterations 4 --image-size 128 --num-workers 0",
    "--validate-every 100": "--validate-every 4",
    "--quality\n": "--quality --num-workers 0\n",
    "mine.xml@bf16 --data dataset": "mine.xml@bf16 --data dataset --rounds 1 --limit 3",
}
"""Every change to the text; each is needed exactly once."""


def steps() -> list[tuple[str, str]]:
    """Language and content of the fenced blocks that are to be run."""
    text = TUTORIAL.read_text(encoding="utf-8")
    for given, smaller in SMALLER.items():
        assert text.count(given) == 1, given
        text = text.replace(given, smaller)
    return re.findall(r"^```(bash|python)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for extra in ("onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(extra)
    monkeypatch.chdir(tmp_path)
    for language, block in steps():
        if language == "python":
            exec(compile(block, str(TUTORIAL), "exec"), {})
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if line in NOT_RUN:
                continue
            program, *arguments = shlex.split(line)
            assert program == "protomask", line
            code = main(arguments)
            assert code == 0, f"{line}\n{capsys.readouterr().err}"
    # What the text says is there.
    for name in ("check/annotations.png", "runs/mine/best.safetensors", "reliability.svg", "found/predictions.json",
                 "mine.onnx", "mine.xml", "mine.bin"):  # fmt: skip
        assert (tmp_path / name).is_file(), name
    overlay = next((tmp_path / "found").glob("*.png"))
    assert np.asarray(Image.open(overlay)).shape == (128, 128, 3)
