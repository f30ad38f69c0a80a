"""Every block of Python in the documentation runs, page by page, on small files of the names that it uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from test_docs import PAGES, REPOSITORY, code_blocks

TESTED_ELSEWHERE = {"README.md", "tutorial.md"}
SMALLER = {
    "epochs=5, trials=20": (
        "iterations=2, image_size=128, batch_size=2, num_workers=0, trials=2, pretrained_backbone=False"
    ),
    "rounds=3": "rounds=1",
    "range(25)": "range(2)",
    'start="0:10"': 'start="0:00"',
    'open_source("rtsp://192.168.1.20/stream1")': 'open_source("street.mp4")',  # a camera that is not here
    "recursive=True, shard_size=200)": "recursive=True, shard_size=200, resume=True, workers=1)",
}
"""Changes to blocks; each is needed."""


def python_pages() -> list[Path]:
    return [page for page in PAGES if page.name not in TESTED_ELSEWHERE and code_blocks(page, "python")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    for package in ("torch", "onnxscript", "openvino", "pyarrow", "pandas", "av", "optuna"):
        pytest.importorskip(package)
    from documented_world import make_world
    from video_files import write_video

    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_world(folder)
        write_video(folder / "street.mp4", frames=6, size=(64, 96))
        yield folder


@pytest.mark.slow
@pytest.mark.parametrize("page", python_pages(), ids=lambda page: page.name)
def test_python_blocks_run(page: Path, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from documented_world import stand_in

    monkeypatch.chdir(world)
    stand_in(monkeypatch)
    names: dict[str, Any] = {"__name__": "documentation"}
    for line, block in code_blocks(page, "python"):
        for given, smaller in SMALLER.items():
            block = block.replace(given, smaller)
        exec(compile("\n" * (line - 1) + block, str(page), "exec"), names)


def test_every_change_to_a_block_is_needed() -> None:
    text = "".join(block for page in PAGES for _, block in code_blocks(page, "python"))
    assert not [given for given in SMALLER if given not in text]


def test_yaml_and_json_blocks_are_well_formed() -> None:
    found = [(page, block) for page in PAGES for _, block in code_blocks(page, "yaml", "json")]
    assert found
    for page, block in found:
        parsed = list(yaml.safe_load_all(block))
        assert all(isinstance(one, dict | list) for one in parsed), page.name


def test_blocks_name_their_language() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        opened = re.findall(r"^```(.*)$", text, flags=re.MULTILINE)[::2]
        known = {"", "bash", "python", "yaml", "json", "text", "ini", "nginx", "dockerfile"}
        assert set(opened) <= known, f"{page.relative_to(REPOSITORY)}: {set(opened) - known}"
