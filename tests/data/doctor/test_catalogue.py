from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import protomask
from conftest import REPOSITORY
from protomask.data.doctor.catalogue import REPAIRS, RULES, catalogue_page

SOURCES = Path(protomask.__file__).parent
PLACES = ("data/coco", "data/doctor", "structures/coco_json.py", "masks/outlines.py")


def sources() -> Iterator[Path]:
    for place in PLACES:
        path = SOURCES / place
        yield from [path] if path.is_file() else sorted(path.glob("*.py"))


def kinds_in_the_code() -> set[tuple[str, str]]:
    """Severity and kind of every problem that is made with both as constants."""
    found: set[tuple[object, object]] = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func).split(".")
            values = [argument.value if isinstance(argument, ast.Constant) else None for argument in node.args]
            if called[-1] == "Flaw":
                found.add(("error", values[0]))
            elif called[-1] == "Fault":
                found.add(("error", values[1]))
            elif called[-1] == "add" and "faults" in called[:-1]:
                found.add(("error", values[0]))
            elif called[-1] == "add" and len(values) > 2:
                found.add((values[0], values[1]))
    return {(str(severity), str(kind)) for severity, kind in found if severity is not None and kind is not None}


def test_the_page_is_that_of_the_code() -> None:
    page = REPOSITORY / "docs" / "odd-data.md"
    assert page.read_text(encoding="utf-8") == catalogue_page(), (
        "make it again: python -c 'from protomask.data.doctor.catalogue import catalogue_page; "
        "print(catalogue_page(), end=str())' > docs/odd-data.md"
    )


def test_every_kind_that_the_code_knows_is_listed() -> None:
    listed = {(rule.severity, rule.kind) for rule in RULES}
    assert kinds_in_the_code() <= listed
    assert len(listed) == len(RULES)


def test_every_warning_that_is_listed_is_in_the_code() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in sources() if path.name != "catalogue.py")
    assert [repair.says for repair in REPAIRS if repair.says not in code] == []
    assert [rule.kind for rule in RULES if f'"{rule.kind}"' not in code] == []
