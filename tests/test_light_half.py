"""What takes images and gives results works where PyTorch is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from protomask.runtimes.shipped import SHIPPED
from without_torch import NETWORK_HALF

PACKAGE = Path(str(files("protomask")))
SCENES = sorted((PACKAGE / "samples").glob("scene_*.jpg"))
LIGHT_ROOMS = ("masks", "images", "structures", "detection", "inference", "runtimes")
LIGHT_MODULES = (
    "defaults", "errors", "files", "memory", "settings", "api", "cli.main",
    "downloads", "extras", "storage", "models.naming", "engine.preflight", "data.doctor.check",
)  # fmt: skip

needs_shipped_files = pytest.mark.skipif(
    not all((PACKAGE / "weights" / name).is_file() for name in SHIPPED.values()),
    reason="the shipped models are not there as ONNX files",
)


def run(*arguments: str, cwd: Path | None = None, expected: int = 0, given: bytes | None = None) -> str:
    """What a command prints where PyTorch is not installed: to standard output if it succeeds, else to both."""
    command = [sys.executable, str(Path(__file__).with_name("without_torch.py")), *arguments]
    done = subprocess.run(command, capture_output=True, input=given, cwd=cwd, timeout=300, check=False)
    output = done.stdout.decode() + ("" if expected == 0 else done.stderr.decode())
    assert done.returncode == expected, done.stdout.decode() + done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    return output


def light_modules() -> list[str]:
    paths = [path for room in LIGHT_ROOMS for path in sorted((PACKAGE / room).rglob("*.py"))]
    paths += [PACKAGE / f"{name.replace('.', '/')}.py" for name in LIGHT_MODULES]
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


def test_pytorch_is_really_hidden() -> None:
    code = f"""
        from importlib.util import find_spec
        for name in {NETWORK_HALF!r}:
            assert find_spec(name) is None
            try:
                __import__(name)
            except ModuleNotFoundError as error:
                assert error.name == name
            else:
                raise AssertionError(name)
    """
    run("-c", _dedented(code))


def test_every_module_of_the_light_half_can_be_the_first() -> None:
    names = light_modules()
    assert len(names) > 30
    code = f"""
        import sys
        from importlib import import_module
        for name in {names!r}:
            for known in [known for known in sys.modules if known.partition(".")[0] == "protomask"]:
                del sys.modules[known]
            import_module(name)
            print(name)
        assert not [name for name in {NETWORK_HALF!r} if name in sys.modules]
    """
    assert run("-c", _dedented(code)).splitlines() == names


def test_the_package_and_its_light_names() -> None:
    code = """
        import protomask
        assert dir(protomask) == sorted(protomask.__all__)
        for name in ("Frame", "Instance", "Instances", "PredictOptions", "Predictor", "Target", "load", "build",
                     "train", "ConfigError", "MissingExtraError", "__version__"):
            assert getattr(protomask, name) is not None
    """
    run("-c", _dedented(code))


@pytest.mark.parametrize(
    "call",
    [
        "protomask.build('yolact_nano', num_classes=3)",
        "protomask.load('yolact_nano', runtime='torch')",
        "protomask.load('yolact_resnet50')",
        "protomask.load('mine.safetensors')",
        "protomask.evaluate('yolact_nano', data='mydata')",
        "protomask.train(data='mydata', model='yolact_nano')",
        "protomask.check('mydata')",
    ],
)
def test_what_needs_pytorch_says_which_command_brings_it(call: str, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").touch()
    code = f"""
        import protomask
        try:
            {call}
        except protomask.MissingExtraError as error:
            print(error)
    """
    assert "pip install 'protomask[torch]'" in run("-c", _dedented(code), cwd=tmp_path)


@pytest.mark.parametrize(
    "verb",
    [
        ["train", "--data", "mydata"],
        ["convert", "a.pth", "a.safetensors"],
        ["data", "check", "mydata"],
        ["bench", "yolact_nano@torch"],
    ],
)
def test_verbs_that_need_pytorch_say_so(verb: list[str], tmp_path: Path) -> None:
    assert "pip install 'protomask[torch]'" in run(*verb, cwd=tmp_path, expected=1)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([verb, "--help"] for verb in ("predict", "track", "bench", "demo"))]
)
def test_help(arguments: list[str]) -> None:
    assert "protomask" in run(*arguments)


def test_models_are_listed() -> None:
    assert "yolact_nano" in run("models")
    rows = json.loads(run("models", "--json"))
    assert {"yolact_nano", "nuclei", "mask_rcnn_resnet50_fpn"} <= {row["name"] for row in rows}


@needs_shipped_files
def test_the_shipped_models_predict() -> None:
    code = f"""
        import json
        import protomask
        for name in (None, {", ".join(map(repr, SHIPPED))}):
            model = protomask.load(name)
            found = model.predict({str(PACKAGE / "samples" / "photo_1.jpg")!r}, score_threshold=0.1)
            print(json.dumps([model.source, model.device, len(found), found.names, found.scores.tolist()]))
    """
    rows = [json.loads(line) for line in run("-c", _dedented(code)).splitlines()]
    assert [row[:2] for row in rows] == [[name, "cpu"] for name in ("everyday", *SHIPPED)]
    assert rows[0] == rows[1]
    assert "person" in rows[0][3]


@needs_shipped_files
def test_predict_writes_everything(tmp_path: Path) -> None:
    lines = run(
        "predict", str(SCENES[0]), str(SCENES[1]), "--save-dir", "out", "--save-json", "--save-jsonl",
        "--save-polygons", "--save-label-map", "--save-table", "csv", "--tile", "200", "--model", "yolact_nano",
        cwd=tmp_path,
    ).splitlines()  # fmt: skip
    assert lines[-1] == "2 of 2 images predicted; results in out"
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert names == [
        "images.json", "label_maps/scene_1.json", "label_maps/scene_1.png", "label_maps/scene_2.json",
        "label_maps/scene_2.png", "polygons/scene_1.geojson", "polygons/scene_2.geojson", "predictions.csv",
        "predictions.json", "predictions.jsonl", "scene_1.png", "scene_2.png",
    ]  # fmt: skip
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) > 2


@needs_shipped_files
def test_the_worker_of_bulk_prediction() -> None:
    pytest.importorskip("pyarrow")
    code = f"""
        from protomask.bulk.schema import ImageRow
        from protomask.bulk.options import BulkModel
        from protomask.bulk.worker import BulkWorker
        [row] = BulkWorker(BulkModel(model="yolact_nano")).rows([ImageRow("a", {str(SCENES[0])!r})])
        print(row["error"], len(row["instances"]) > 0)
    """
    assert run("-c", _dedented(code)) == "None True\n"


@needs_shipped_files
def test_predict_reads_standard_input_and_tells_json(tmp_path: Path) -> None:
    output = run(
        "predict",
        "-",
        "--json",
        "--no-save-overlay",
        "--model",
        "yolact_nano",
        cwd=tmp_path,
        given=SCENES[0].read_bytes(),
    )
    [row] = json.loads(output)["images"]
    assert row["file"] == "stdin"
    assert row["instances"] > 0


@needs_shipped_files
def test_the_demo(tmp_path: Path) -> None:
    told: dict[str, Any] = json.loads(run("demo", "--save-dir", "here", "--json", cwd=tmp_path))
    assert [row["file"] for row in told["found"]] == ["photo_1.jpg", "photo_2.jpg", *(path.name for path in SCENES)]
    assert told["fresh"] is None
    overlay = np.asarray(Image.open(tmp_path / "here" / "scene_1.png"))
    assert overlay.shape == np.asarray(Image.open(SCENES[0])).shape
    assert "images/s" in run("demo", "--save-dir", "here", cwd=tmp_path)


def _dedented(code: str) -> str:
    lines = code.splitlines()[1:]
    return "\n".join(line[8:] for line in lines)
