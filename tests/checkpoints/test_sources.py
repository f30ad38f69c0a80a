"""Where weights come from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from protomask.checkpoints import download, sources
from protomask.errors import CheckpointError


def test_models_nobody_publishes_say_so() -> None:
    with pytest.raises(CheckpointError, match=r"yolact_resnet18_256: no published weights .*; train it, or load"):
        sources.fetch_published("yolact_resnet18_256")


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fail(repository: str, filename: str, *, revision: str | None) -> str:
        asked.append((repository, filename))
        raise ConnectionError("no route to host\nand a long story")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(CheckpointError) as caught:
        sources.fetch_published("yolact_resnet101")
    message = str(caught.value)
    assert asked == [("dbolya/yolact-base", "yolact_base_54_800000.pth")]
    assert "not in the cache" in message
    assert "ConnectionError: no route to host\n" in message
    assert "load('yolact_base_54_800000.pth')" in message


def test_a_cached_file_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda repository, filename, revision: str(tmp_path / filename)
    )
    assert download.fetch_from_hub("owner/repository", "a.pth") == tmp_path / "a.pth"


@pytest.mark.slow
def test_offline_for_real(tmp_path: Path) -> None:
    code = "import protomask\ntry: protomask.load('yolact_resnet50')\nexcept protomask.CheckpointError as e: print(e)"
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=True)
    assert "not in the cache" in done.stdout
    assert str(tmp_path) in done.stdout
    assert "load('yolact_resnet50_54_800000.pth')" in done.stdout
