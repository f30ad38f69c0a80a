from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from protomask.api import build
from protomask.cli.main import main
from protomask.data.synthetic.shapes import CLASS_NAMES
from protomask.data.synthetic.write import write_dataset

TINY: dict[str, Any] = {
    "fpn_channels": 8,
    "protonet_channels": 8,
    "num_prototypes": 4,
    "anchor_scales": [[8.0], [16.0], [32.0], [48.0], [64.0]],
}


@pytest.fixture(scope="session")
def tiny_options() -> str:
    """Config fields of the very small model, as --model-options takes them."""
    return json.dumps(TINY)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command left: its exit code and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls the command line in this process."""

    def call(*arguments: str | Path | int | float) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code=code, out=captured.out, err=captured.err)

    return call


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 6 and 3 small synthetic scenes."""
    folder = tmp_path_factory.mktemp("data") / "scenes"
    write_dataset(folder, images=6, seed=5, image_size=(64, 64), val_images=3)
    return folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small untrained model: with a score threshold of 0 it finds a lot, everywhere."""
    torch.manual_seed(0)
    model = build("yolact_nano", class_names=CLASS_NAMES, device="cpu", image_size=64, **TINY)
    return model.save(tmp_path_factory.mktemp("weights") / "tiny.safetensors")
