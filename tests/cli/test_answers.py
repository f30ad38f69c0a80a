"""Wrong names, paths and options are answered before anything heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

HEAVY = ("torch", "torchvision", "accelerate", "pycocotools", "onnxruntime", "openvino", "huggingface_hub")
# Arguments, exit code, and a part of the message. There are photo.jpg, an untouched data set `sound`, weights of a run
# in `runs/shapes` that nobody reads, and an exported file.
ANSWERS: list[tuple[str, int, str]] = [
    ("models", 0, ""),
    ("predict gone.jpg", 1, "gone.jpg: no such file or folder"),
    ("predict photo.jpg --model yolact_resnet5", 2, "did you mean yolact_resnet50"),
    ("predict photo.jpg --model runs/shape", 1, "runs/shape: no such file or folder; did you mean runs/shapes?"),
    ("predict photo.jpg --weights gone.pth --model yolact_resnet50", 1, "gone.pth: no such file"),
    ("predict photo.jpg --annotations gone.json", 1, "gone.json: no such file or folder"),
    ("predict photo.jpg --model runs/shapes --runtime onnx", 2, "runtime: expected torch"),
    ("predict photo.jpg --score-threshold 2", 2, "score_threshold: expected"),
    ("serve yolact_nan", 2, "did you mean yolact_nano"),
    ("serve nano.onnx other/nano.onnx", 2, "models: expected names that differ"),
    ("train --data gone", 1, "dataset gone: expected a folder"),
    ("train --data sound --model yolact_nan0", 2, "did you mean yolact_nano"),
    ("train --data sound --weights runs/shapes/bets.safetensors", 1, "did you mean runs/shapes/best.safetensors?"),
    ("train --data sound --weights runs/shapes --model resnet50", 2, "model: expected one of"),
    ("train --data sound --model nano.onnx", 2, "weights: expected some to train, got the exported file"),
    ("train --data sound --backbone-weights gone.pth", 1, "gone.pth: no such file"),
    ("train --data sound --image-size 7", 2, "image_size: expected"),
    ("train --data sound --model-options {\"x\":1}", 2, "unknown x"),
    ("train --data sound --output runs/shapes", 2, "already holds a run"),
    ("train --data sound --epochs 0", 2, "epochs: expected"),
    ("train --data sound --no-pretrained-backbone --output photo.jpg", 2, "output: expected"),
    ("eval --data gone", 1, "dataset gone: expected a folder"),
    ("eval --data sound --model gone.onnx", 1, "gone.onnx: no such file"),
    ("eval --data sound --results gone.json", 1, "gone.json: no such file or folder"),
    ("eval --data sound --results a.json --model nano.onnx", 2, "results: expected alone"),
    ("explain gone.jpg", 1, "gone.jpg: no such file"),
    ("explain photo.jpg --model yolact_nan0", 2, "did you mean yolact_nano"),
    ("explain photo.jpg --model nano.onnx", 2, "expected a name or weights to explain"),
    ("explain photo.jpg --annotations gone.json", 1, "gone.json: no such file"),
    ("explain padding --data gone", 1, "dataset gone: expected a folder"),
    ("explain padding --model nano.onnx", 2, "expected a name or weights to explain"),
    ("export gone.pth", 1, "gone.pth: no such file"),
    ("export nano.onnx", 2, "expected a name or weights to export"),
    ("export yolact_nano --images gone", 1, "gone: no such file or folder"),
    ("export yolact_nano --output a.txt", 2, "output: expected a file name ending in .onnx"),
    ("export yolact_nano --int8", 2, "calibration: expected"),
    ("export yolact_nano --int8 --calibration photo.jpg --data gone", 1, "dataset gone: expected a folder"),
    ("bench gone.onnx", 1, "gone.onnx: no such file"),
    ("bench yolact_nano --images gone", 1, "gone: no such file or folder"),
    ("bench yolact_nano --data gone", 1, "dataset gone: expected a folder"),
    ("bench yolact_nan0", 2, "did you mean yolact_nano"),
    ("bench yolact_nano@int3", 2, "model: expected NAME"),
    ("convert gone.pth a.safetensors", 1, "gone.pth: no such file"),
    ("convert runs/shapes a.onnx", 2, "destination: expected"),
    ("convert runs/shapes a.safetensors --model yolact_nan", 2, "did you mean yolact_nano?"),
    ("data check gone", 1, ""),
    ("data check sound --model yolact_nan0", 2, "did you mean yolact_nano"),
    ("data check sound --image-size 7", 2, "image_size: expected"),
    ("data convert soud out", 1, "soud: no such file or folder; did you mean sound?"),
    ("data convert runs out", 1, "runs: no format fits"),
    ("data convert sound photo.jpg", 2, "output: expected a folder that does not exist yet"),
    ("data convert sound out --split 0.5,0.4,0.3", 2, "split: expected"),
    ("data synth out --images -1", 2, "images and val_images must be counts"),
    ("report runs/shape", 2, "got runs/shape, which does not exist; did you mean runs/shapes?"),
    ("report runs/shapes --data gone", 1, "dataset gone: expected a folder"),
    ("demo --images -1", 2, "images: expected at least 0"),
]  # fmt: skip
RUNNER = f"""
import contextlib, io, json, sys
from protomask.cli.main import main
for arguments in json.loads(sys.stdin.read()):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    print(json.dumps([code, err.getvalue(), heavy]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with something of everything that the commands name."""
    folder = tmp_path_factory.mktemp("place")
    Image.new("RGB", (8, 8)).save(folder / "photo.jpg")
    for split in ("train", "val"):
        (folder / "sound" / "images" / split).mkdir(parents=True)
        (folder / "sound" / "annotations").mkdir(exist_ok=True)
        (folder / "sound" / "annotations" / f"{split}.json").touch()
    (folder / "runs" / "shapes").mkdir(parents=True)
    (folder / "runs" / "shapes" / "config.yaml").write_text("data: sound\n")
    for name in ("best.safetensors", "metrics.jsonl"):
        (folder / "runs" / "shapes" / name).touch()
    (folder / "nano.onnx").touch()
    return folder


@pytest.fixture(scope="module")
def answers(place: Path) -> dict[str, Any]:
    """Exit code, message and heavy packages that are imported so far, by command; all in one fresh process."""
    commands = json.dumps([line.split() for line, _, _ in ANSWERS])
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input=commands, cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {line: row for (line, _, _), row in zip(ANSWERS, rows, strict=True)}


@pytest.mark.parametrize(("line", "code", "message"), ANSWERS, ids=[line for line, _, _ in ANSWERS])
def test_answers_come_before_imports(line: str, code: int, message: str, answers: dict[str, Any]) -> None:
    given, said, heavy = answers[line]
    assert message in said
    assert given == code, said
    assert heavy == [], f"{line}: this or a command before it imported {', '.join(heavy)}"
    assert "Traceback" not in said


def test_the_list_of_models_imports_next_to_nothing() -> None:
    code = (
        "import sys; from protomask.cli.main import main; main(['models'])\n"
        "print(sorted({'numpy', 'PIL', 'torch', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
