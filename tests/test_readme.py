"""What the README promises first is what works."""

from __future__ import annotations

import re
from importlib.resources import as_file, files
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
from PIL import Image

from protomask import __version__
from protomask.models.zoo import ZOO

REPOSITORY = Path(__file__).resolve().parents[1]
README = REPOSITORY / "README.md"
DEMO_COMMAND = "pip install uv && uv run protomask demo"


def blocks(language: str) -> list[str]:
    """Fenced blocks of the README, in order."""
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def test_the_two_commands_are_single_lines_and_the_checks_run_the_second() -> None:
    demo, test = (block.strip() for block in blocks("bash")[:2])
    assert demo == DEMO_COMMAND
    stated = re.search(r"^TEST_COMMAND='(.*)'$", (REPOSITORY / ".ci" / "run").read_text(), flags=re.MULTILINE)
    assert stated is not None
    assert test == stated[1]
    assert "\n" not in test


def test_the_first_screen_holds_no_other_command() -> None:
    first = README.read_text(encoding="utf-8").partition("\n## ")[0]
    assert first.count("```bash") == first.count("```") / 2 == 2


def test_the_first_python_example_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The README speaks of a photograph of the reader; one that ships with the package takes its place.
    with as_file(files("protomask") / "samples" / "photo_1.jpg") as photo:
        copy(photo, tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(blocks("python")[0], str(README), "exec"), names)
    found, sure, people = names["found"], names["sure"], names["people"]
    assert 0 < len(sure) <= len(found)
    assert set(people.names) == {"person"}
    assert capsys.readouterr().out.count("\n") == len(found) + 1
    assert sure.masks.shape == (len(sure), 512, 512)
    assert Image.open(tmp_path / "found.png").size == (512, 512)


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
    assert "The protomask developers" in (REPOSITORY / "LICENSE").read_text()
    assert f"## [{__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text()
