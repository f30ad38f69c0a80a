from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from golden_weights import golden_weights
from protomask.checkpoints.formats import load_foreign
from protomask.checkpoints.io import load_weights, read_header

if TYPE_CHECKING:
    from cli.conftest import Run


@pytest.fixture(scope="module")
def official(golden_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("official") / "yolact_resnet50_54_800000.pth"
    torch.save(golden_weights(golden_dir / "yolact" / "yolact_resnet50.state_dict.json"), path)
    return path


@pytest.mark.slow
def test_official_file(run: Run, official: Path, tmp_path: Path) -> None:
    outcome = run("convert", official, tmp_path / "ours.safetensors")
    assert (outcome.code, outcome.err) == (0, "")
    assert "yolact_resnet50, 80 classes" in outcome.out
    expected = load_foreign(official).state_dict()
    ours = load_weights(tmp_path / "ours.safetensors")
    assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())
    assert ours.class_names[0] == "person"


@pytest.mark.slow
def test_official_file_whose_name_does_not_tell(run: Run, official: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "weights.pth"
    renamed.symlink_to(official)
    target = tmp_path / "ours.safetensors"
    silent = run("convert", renamed, target)
    assert silent.code == 1
    assert "cannot tell the model from the file name" in silent.err
    wrong = run("convert", renamed, target, "--model", "yolact_resnet101")
    assert wrong.code == 1
    assert "the weights do not fit the model" in wrong.err
    assert "missing: " in wrong.err
    assert not target.exists()
    assert run("convert", renamed, target, "--model", "yolact_resnet50").code == 0


def test_half_precision(run: Run, weights: Path, tmp_path: Path) -> None:
    target = tmp_path / "half.safetensors"
    outcome = run("convert", weights, target, "--dtype", "float16")
    assert outcome.code == 0
    assert target.stat().st_size < 0.6 * weights.stat().st_size
    assert read_header(target)["class_names"] == read_header(weights)["class_names"]
    original = load_weights(weights).state_dict()
    for key, value in load_weights(target).state_dict().items():
        torch.testing.assert_close(value, original[key], rtol=1e-3, atol=1e-4)


def test_options_of_the_model(run: Run, weights: Path, tmp_path: Path) -> None:
    target = tmp_path / "large.safetensors"
    options = '{"image_size": 96, "max_detections": 300}'
    assert run("convert", weights, target, "--model-options", options).code == 0
    before, after = load_weights(weights), load_weights(target)
    assert (after.config.image_size, after.config.max_detections) == (96, 300)
    assert all(torch.equal(value, before.state_dict()[key]) for key, value in after.state_dict().items())
    refused = run("convert", weights, tmp_path / "other.safetensors", "--model-options", '{"num_prototypes": 7}')
    assert refused.code == 2
    assert "model_options: expected some that keep the weights" in refused.err
    assert not (tmp_path / "other.safetensors").exists()


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code was run",)


@pytest.mark.parametrize(
    ("name", "content", "arguments", "code", "message"),
    [
        ("yolact_base_1_2.pth", None, [], 1, "no such"),
        ("yolact_base_1_2.pth", b"garbage", [], 1, "yolact_base_1_2.pth"),
        ("yolact_base_1_2.pth", pickle.dumps(Malicious()), [], 1, "yolact_base_1_2.pth"),
        ("broken.safetensors", b"garbage", [], 1, "broken.safetensors"),
        ("yolact_base_1_2.pth", b"garbage", ["--model", "yolact_giant"], 2, "got 'yolact_giant'"),
    ],
    ids=["missing", "garbage", "code", "broken safetensors", "unknown model"],
)
def test_messages(
    run: Run, tmp_path: Path, name: str, content: bytes | None, arguments: list[str], code: int, message: str
) -> None:
    source = tmp_path / name
    if content is not None:
        source.write_bytes(content)
    outcome = run("convert", source, tmp_path / "ours.safetensors", *arguments)
    assert outcome.code == code
    assert message in outcome.err
    assert "code was run" not in outcome.out
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "ours.safetensors").exists()
