"""Run the notebooks of the documentation from top to bottom, and keep what they show, with small images.

    python website/run_notebooks.py

A test runs them without writing anything.
"""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

NOTEBOOKS = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
WIDEST = 720
"""Pixels of an image that is kept."""
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run_notebook(path: Path) -> NotebookNode:
    """The notebook with what its cells show, run in an empty folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised an error.

    """
    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        NotebookClient(notebook, timeout=900, resources={"metadata": {"path": folder}}).execute()
    return notebook


def slim(notebook: NotebookNode) -> NotebookNode:
    """Keep one small image of each output and one text of each cell, without progress and warnings."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        kept: list[NotebookNode] = []
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                continue
            if output.output_type == "stream":
                output["text"] = _COLOURS.sub("", output["text"])
                if kept and kept[-1].output_type == "stream":
                    kept[-1]["text"] += output["text"]
                    continue
            data = output.get("data", {})
            png = data.pop("image/png", None)
            if png is not None:
                data["image/jpeg"] = _as_jpeg(base64.b64decode(png))
            kept.append(output)
        if cell.cell_type == "code":
            cell["outputs"] = kept
    return notebook


def _as_jpeg(content: bytes) -> str:
    image = Image.open(io.BytesIO(content)).convert("RGB")
    image.thumbnail((WIDEST, 10 * WIDEST))
    written = io.BytesIO()
    image.save(written, "JPEG", quality=85)
    return base64.b64encode(written.getvalue()).decode()


def main() -> int:
    """Run them all and write them back."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        nbformat.write(slim(run_notebook(path)), path)
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
