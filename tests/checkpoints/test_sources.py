"""Where weights come from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from protomask.checkpoints.sources import load_network, read_config
from protomask.errors import CheckpointError


def test_an_exported_file_holds_no_network(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.touch()
    with pytest.raises(CheckpointError, match=r"a\.onnx: expected weights, got an exported file"):
        load_network(path)


def test_the_config_of_a_name_is_its_preset() -> None:
    assert read_config("yolact_resnet50").image_size == 550  # nothing is downloaded


@pytest.mark.slow
def test_offline_for_real(tmp_path: Path) -> None:
    code = "import protomask\ntry: protomask.load('yolact_resnet50')\nexcept protomask.CheckpointError as e: print(e)"
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=True)
    assert "not in the cache" in done.stdout
    assert str(tmp_path) in done.stdout
    assert "yolact_resnet50_54_800000.pth on another machine" in done.stdout
    assert done.stdout.endswith("Models that need no download: everyday, shapes, nuclei, yolact_nano\n")
    assert done.stderr == ""
