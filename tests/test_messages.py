"""What the package says below the command line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import protomask

SOURCE = Path(protomask.__file__).parent
# The command line alone knows its flags; everything else names settings, which are the same from Python.
FLAG = re.compile(r"(?<![\w\"-])--[a-z][\w-]*(?![\w-]*:)")  # not of a style sheet
# Where whole commands are composed for whoever meets data of another format.
COMMANDS = {"data/recognition.py": " --split 0.8,0.2 --from "}
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] != "cli")


def strings(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and text of every string that is not a docstring."""
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_messages_name_settings_and_no_flags(path: Path) -> None:
    found = strings(ast.parse(path.read_text(encoding="utf-8")))
    allowed = COMMANDS.get(path.relative_to(SOURCE).as_posix(), "")
    assert [(line, text) for line, text in found if FLAG.search(text) and text not in allowed] == []


def test_flags_are_seen() -> None:
    code = '"""--doc"""\nname = 1\n"""--doc too"""\nraise Error(f"{name}: use --all-of-it {name}")\n'
    assert [text for _, text in strings(ast.parse(code)) if FLAG.search(text)] == [": use --all-of-it "]
