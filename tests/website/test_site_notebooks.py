"""Notebooks: as pages, and run from top to bottom."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from site_notebooks import write_pages

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["explain", "predict", "train"]


def test_a_notebook_becomes_a_page_with_its_outputs(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": "# Title"},
        {"cell_type": "code", "source": ["%%bash\n", "ls"], "outputs": [{"text": "a\nb\n"}]},
        {"cell_type": "code", "source": "show()", "outputs": [
            {"data": {"image/jpeg": base64.b64encode(b"one").decode(), "text/plain": "<Image>"}},
            {"data": {"image/jpeg": base64.b64encode(b"two").decode()}},
            {"data": {"text/html": "<b>8</b>", "text/plain": "8"}},
        ]},
    ]  # fmt: skip
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "shown.ipynb").write_text(json.dumps({"cells": cells}))
    assert write_pages(tmp_path) == ["notebooks/shown.md"]
    page = (tmp_path / "notebooks" / "shown.md").read_text()
    assert page.startswith("# Title\n\n[Download the notebook](shown.ipynb)")
    assert "```bash\nls\n```\n\n```text\na\nb\n```" in page
    images = re.findall(r"!\[.*\]\((.*)\)", page)
    assert [(tmp_path / "notebooks" / name).read_bytes() for name in images] == [b"one", b"two"]
    assert page.endswith("```text\n8\n```\n")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_small_with_what_they_show(path: Path) -> None:
    assert path.stat().st_size < 400_000
    notebook = json.loads(path.read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    assert any("image/jpeg" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import sys

    for package in ("nbclient", "ipykernel", "torch", "onnxscript", "pandas"):
        pytest.importorskip(package)
    from run_notebooks import run_notebook

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    run_notebook(path)
