"""Follow the tutorial of the documentation in the current folder, every step of it, with smaller numbers.

    python .ci/follow_tutorial.py

Uses the package of the Python that runs it: try_install.py has just installed the wheel there.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
NOT_RUN = ("pip install '.[onnx,openvino]'",)
"""What has been done before."""
SMALLER = {
    "--images 300 --seed 7": "--images 12 --val-images 3 --height 128 --width 128 --seed 7",
    "--iterations 300": "--iterations 4 --image-size 128 --num-workers 0",
    "--validate-every 100": "--validate-every 4",
    "--quality\n": "--quality --num-workers 0\n",
    "mine.xml@bf16 --data dataset": "mine.xml@bf16 --data dataset --rounds 1 --limit 3",
}
"""Every change to the text; each is needed exactly once."""
MADE = (
    "check/annotations.png", "runs/mine/best.safetensors", "reliability.svg", "found/predictions.json", "mine.onnx",
    "mine.xml", "mine.bin",
)  # fmt: skip
"""What the text says is there afterwards."""


def steps() -> list[str | list[str]]:
    """What is to be run, in order: the text of a block of Python, or the words of a command."""
    text = TUTORIAL.read_text(encoding="utf-8")
    for given, smaller in SMALLER.items():
        if text.count(given) != 1:
            raise ValueError(f"{TUTORIAL}: expected {given!r} once, got it {text.count(given)} times")
        text = text.replace(given, smaller)
    found: list[str | list[str]] = []
    for language, block in re.findall(r"^```(bash|python)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        if language == "python":
            found.append(block)
        else:
            lines = block.replace("\\\n", " ").splitlines()
            found += [shlex.split(line) for line in lines if line not in NOT_RUN]
    return found


def main() -> None:
    """Run every step, which must succeed, and look at what they made."""
    for step in steps():
        if isinstance(step, str):
            words = [sys.executable, "-c", step]
        else:
            words = [str(Path(sys.executable).with_name(step[0])), *step[1:]]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    missing = [name for name in MADE if not Path(name).is_file()]
    if missing:
        raise FileNotFoundError(f"expected all that the tutorial makes, missing: {', '.join(missing)}")


if __name__ == "__main__":
    main()
