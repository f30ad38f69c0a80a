"""The notebooks as pages: text, code, and what the cells showed when they were last run."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

IMAGES = {"image/jpeg": "jpg", "image/png": "png"}


def write_pages(docs: Path) -> list[str]:
    """Write a page for each notebook in docs/notebooks; returns their addresses."""
    pages = []
    for file in sorted((docs / "notebooks").glob("*.ipynb")):
        notebook = json.loads(file.read_text(encoding="utf-8"))
        page = file.with_suffix(".md")
        page.write_text(_page(notebook, page), encoding="utf-8")
        pages.append(page.relative_to(docs).as_posix())
    return pages


def _page(notebook: dict[str, Any], page: Path) -> str:
    title, *cells = notebook["cells"]
    parts = [_text(title["source"]), f"[Download the notebook]({page.with_suffix('.ipynb').name}) to run it yourself."]
    for number, cell in enumerate(cells):
        source = _text(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        shell = source.startswith("%%bash\n")
        parts.append(f"```{'bash' if shell else 'python'}\n{source.removeprefix('%%bash').strip()}\n```")
        for output in cell["outputs"]:
            parts.append(_shown(output, page, f"{page.stem}-{number}"))
    return "\n\n".join(filter(None, parts)) + "\n"


def _shown(output: dict[str, Any], page: Path, name: str) -> str:
    data = output.get("data", {})
    for kind, ending in IMAGES.items():
        if kind in data:
            count = len(list(page.parent.glob(f"{name}-*")))
            image = page.with_name(f"{name}-{count}.{ending}")
            image.write_bytes(base64.b64decode(_text(data[kind])))
            return f"![what the cell shows]({image.name})"
    text = _text(output.get("text", data.get("text/plain", ""))).rstrip("\n")
    return f"```text\n{text}\n```" if text else ""


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)
