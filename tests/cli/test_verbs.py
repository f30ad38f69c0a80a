"""A verb parses, calls and prints; what it does lies below the command line."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

from protomask.cli.main import VERBS

MOST_LINES = 60


def lines_of_run(module: str) -> int:
    """Lines of the body of ``run``, without its docstring."""
    spec = find_spec(f"protomask.cli.{module}")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    [run] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run"]
    body = run.body[1:] if ast.get_docstring(run) is not None else run.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_thin(verb: str) -> None:
    lines = lines_of_run(VERBS[verb][0])
    assert lines <= MOST_LINES, f"protomask {verb}: run has {lines} lines, expected at most {MOST_LINES}"
