from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import protomask.bench
from protomask.bench.machine import available_cores, describe_machine, limit_threads

NETWORK_HALF = ("torch", "torchvision", "pycocotools", "faster_coco_eval", "accelerate", "safetensors", "supervision")
ROOMS_WITH_TORCH = ("ops", "models", "checkpoints", "data", "evaluation", "engine", "export", "reports")


def test_machine() -> None:
    machine = describe_machine()
    assert machine["cpu"]
    assert machine["cores"] == os.cpu_count()
    assert machine["threads"] == torch.get_num_threads()
    assert machine["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_the_machine_is_described_without_loading_torch() -> None:
    code = (
        "import sys; from protomask.bench.machine import *; limit_threads(1); machine = describe_machine(); "
        "print(machine['threads'], 'gpu' in machine, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(available_cores()), "False", "False"]


def test_threads_are_limited_where_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    limit_threads(None)
    limit_threads(3)
    assert asked == [3]


@pytest.mark.parametrize("path", sorted(Path(protomask.bench.__path__[0]).glob("*.py")), ids=lambda path: path.stem)
def test_no_module_of_the_room_imports_torch(path: Path) -> None:
    """Models that need no PyTorch are measured where it is not installed."""
    imported = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported.append(node.module or "")
    forbidden = [*NETWORK_HALF, *(f"protomask.{room}" for room in ROOMS_WITH_TORCH)]
    assert [name for name in imported if any(name == one or name.startswith(f"{one}.") for one in forbidden)] == []
