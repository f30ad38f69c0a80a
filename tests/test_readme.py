"""What the documentation tells people to do is what works."""

from __future__ import annotations

import ast
import re
import shlex
from importlib.resources import as_file, files
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
from PIL import Image

from protomask.cli.main import VERBS, main
from protomask.models.zoo import ZOO

REPOSITORY = Path(__file__).resolve().parents[1]
README = REPOSITORY / "README.md"
PAGES = [README, REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
DEMO_COMMAND = "pip install uv && uv run protomask demo"


def code_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def protomask_commands(page: Path) -> list[list[str]]:
    """The words after ``protomask`` of every command shown."""
    lines = [line for block in code_blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("protomask ")]


def anchors(page: Path) -> set[str]:
    """Fragments that GitHub makes of the page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_two_commands_are_single_lines_and_the_checks_run_the_second() -> None:
    demo, test = (block.strip() for block in code_blocks(README, "bash")[:2])
    assert demo == DEMO_COMMAND
    stated = re.search(r"^TEST_COMMAND='(.*)'$", (REPOSITORY / ".ci" / "run").read_text(), flags=re.MULTILINE)
    assert stated is not None
    assert test == stated[1]
    assert "\n" not in test


def test_the_python_example_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The README speaks of a photograph of the reader; a scene that the shipped model knows takes its place.
    with as_file(files("protomask") / "samples" / "scene_2.jpg") as scene:
        copy(scene, tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    (example,) = code_blocks(README, "python")
    names: dict[str, Any] = {}
    exec(compile(example, str(README), "exec"), names)
    found, sure = names["found"], names["sure"]
    assert 0 < len(sure) <= len(found)
    assert capsys.readouterr().out.count("\n") == len(found) + 1
    assert sure.masks.shape == (len(sure), 384, 384)
    assert Image.open(tmp_path / "found.png").size == (384, 384)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, fragment = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    assert not broken, f"{page.name}: {broken}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_shown(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in protomask_commands(page):
        verb = " ".join(words[:2]) if " ".join(words[:2]) in VERBS else words[0]
        assert verb in VERBS, f"{page.name}: protomask {' '.join(words)}"
        assert main([*verb.split(), "--help"]) == 0
        known = set(re.findall(r"--[\w.\-]+", capsys.readouterr().out))
        shown = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert shown <= known, f"{page.name}: protomask {verb} has no {sorted(shown - known)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_import_what_exists(page: Path) -> None:
    for block in code_blocks(page, "python"):
        tree = ast.parse(block, filename=str(page))
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, type_ignores=[]), str(page), "exec"), {})


@pytest.mark.parametrize("page", [README, REPOSITORY / "docs" / "models.md"], ids=lambda page: page.name)
def test_the_table_of_models_is_the_zoo(page: Path) -> None:
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    shown = {name: rest.split("|") for name, rest in rows}
    assert list(shown) == list(ZOO)
    for name, cells in shown.items():
        published = ZOO[name].mask_ap
        assert cells[-1].strip() in (("", "-") if published is None else (str(published),)), name
        assert any(cell.strip() == str(ZOO[name].preset().image_size) for cell in cells), name


def test_the_licence_and_changelog_name_this_version() -> None:
    from protomask import __version__

    assert "The protomask developers" in (REPOSITORY / "LICENSE").read_text()
    assert f"## [{__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text()
