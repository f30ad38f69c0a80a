"""Install the built wheel with extras into a fresh environment, at the lowest or newest versions, and use each extra.

    python .ci/try_install.py dist/protomask-0.2.0-py3-none-any.whl --python 3.13 --resolution lowest-direct

Takes all groups of extras, each in an environment of its own, or those given as --extras. The lowest versions are the
lowest that `pyproject.toml` allows and that come as wheels for this Python. Needs uv.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
USE = Path(__file__).with_name("use_extras.py")
GROUPS = (
    "", "serve", "supervision,tables,pandas", "video,trackers", "openvino", "torch,timm,sbd,tune", "onnx,openvino,int8",
    "ray", "wandb,mlflow,trackio", "executorch", "ncnn,litert",
)  # fmt: skip


def uv(*arguments: str) -> str:
    """Run uv; what it printed.

    Raises:
        subprocess.CalledProcessError: it failed; its messages are on standard error.

    """
    return subprocess.run(["uv", *arguments], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def try_install(wheel: Path, python: str, resolution: str, extras: str) -> None:
    """Install one group of extras and use them, in a folder that is empty."""
    wanted = [word for extra in extras.split(",") if extra for word in ("--extra", extra)]
    with TemporaryDirectory() as folder:
        environment = f"{folder}/environment"
        uv("venv", "--quiet", "--python", python, environment)
        interpreter = f"{environment}/bin/python"
        pins = uv(
            "pip", "compile", "--quiet", "pyproject.toml", *wanted, "--resolution", resolution, "--python", interpreter,
            "--only-binary", ":all:", "--no-header", "--no-annotate",
        )  # fmt: skip
        (Path(folder) / "pins.txt").write_text(pins)
        uv("pip", "install", "--quiet", "--python", interpreter, "-r", f"{folder}/pins.txt")
        uv("pip", "install", "--quiet", "--python", interpreter, "--no-deps", str(wheel.resolve()))
        uv("pip", "check", "--quiet", "--python", interpreter)
        work = Path(folder) / "work"
        work.mkdir()
        subprocess.run([interpreter, str(USE), *filter(None, extras.split(","))], check=True, cwd=work)


def main() -> int:
    """Try every group asked for; 1 if one of them fails."""
    parser = argparse.ArgumentParser(description="Install the wheel with extras into fresh environments and use it.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}")
    parser.add_argument("--resolution", choices=("lowest-direct", "highest"), default="highest")
    parser.add_argument("--extras", action="append", help="a group, with commas; may be given again")
    options = parser.parse_args()
    failed = 0
    for extras in options.extras if options.extras is not None else GROUPS:
        started = time.monotonic()
        try:
            try_install(options.wheel, options.python, options.resolution, extras)
            outcome = "works"
        except subprocess.CalledProcessError as error:
            outcome, failed = f"FAILED: {error}", failed + 1
        seconds = time.monotonic() - started
        print(f"Python {options.python} {options.resolution} [{extras}]: {outcome} ({seconds:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
