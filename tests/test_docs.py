"""What the documentation shows is there: Python that type-checks, commands that parse, names, files and links."""

from __future__ import annotations

import ast
import functools
import re
import shlex
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from protomask.cli.arguments import run_verb
from protomask.cli.codes import DONE
from protomask.cli.main import VERBS, main

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("**/*.md")))
PLACEHOLDER = re.compile(r"[A-Z]{2,}")
"""Of inline commands: ``protomask VERB --help``."""


def code_blocks(page: Path, *languages: str) -> list[tuple[int, str]]:
    """Line number of the first line, and text, of every fenced block in one of the languages."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(rf"^```(?:{'|'.join(languages)})\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [(text.count("\n", 0, block.start(1)) + 1, block[1]) for block in found]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def inline_code(page: Path) -> list[str]:
    """What stands between single backticks, each on one line."""
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(page))]


def headings(page: Path) -> list[str]:
    """The texts of the headings, in order."""
    return re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)


each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


# Python


@each_page
def test_python_blocks_are_python_that_imports_what_exists(page: Path) -> None:
    for _, block in code_blocks(page, "python"):
        tree = ast.parse(block, filename=str(page))
        imports: list[ast.stmt] = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, type_ignores=[]), str(page), "exec"), {})


@pytest.mark.slow
def test_python_blocks_have_no_type_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mypy import api

    # One module per page: a block may use the names of earlier ones. Lines keep their numbers.
    modules = {}
    for page in PAGES:
        lines = [""] * len(page.read_text(encoding="utf-8").splitlines())
        blocks = code_blocks(page, "python")
        for first, block in blocks:
            own = block.splitlines()
            lines[first - 1 : first - 1 + len(own)] = own
        if blocks:
            module = tmp_path / f"{page.stem.lower().replace('-', '_')}_page.py"
            module.write_text("\n".join(lines) + "\n", encoding="utf-8")
            modules[module.name] = page
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("MYPYPATH", str(REPOSITORY / "src"))
    # The settings of the project and its cache; examples have no docstrings to type, and say model = ... twice.
    output, errors, code = api.run(
        ["--strict", "--allow-redefinition", "--no-error-summary", "--hide-error-context",
         *(str(tmp_path / name) for name in modules)]
    )  # fmt: skip
    for name, page in modules.items():
        output = re.sub(rf"\S*{re.escape(name)}", str(page.relative_to(REPOSITORY)), output)
    assert code == 0, f"{output}{errors}"


# Commands


def commands(page: Path) -> list[list[str]]:
    """The words after ``protomask`` of every command in a block of shell."""
    found = []
    for _, block in code_blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r"&&|(?<!\\)\|", line):  # no such signs are quoted in the documentation
                words = shlex.split(command, comments=True)
                starts = [index for index, word in enumerate(words) if word == "protomask"]
                if starts and not {"pip", "git"} & set(words[: starts[0]]):
                    found.append(_without_redirection(words[starts[0] + 1 :]))
    return found


def test_the_nuclei_are_trained_by_the_same_commands_on_both_pages() -> None:
    def trainings(name: str) -> list[list[str]]:
        return [
            words for words in commands(REPOSITORY / "docs" / name)
            if words[0] == "train" and "runs/nuclei" in words[-1]
        ]  # fmt: skip

    assert len(trainings("train-nuclei.md")) == 3
    assert trainings("train-nuclei.md") == trainings("model-card-nuclei.md")


def _without_redirection(words: list[str]) -> list[str]:
    return words[: words.index(">")] if ">" in words else words


def _verb(words: list[str]) -> str:
    return " ".join(words[:2]) if " ".join(words[:2]) in VERBS else " ".join(words[:1])


@functools.cache
def _module(verb: str) -> ModuleType:
    """The module of a verb whose ``run`` does nothing: arguments are read, and that is all."""
    module = import_module(f"protomask.cli.{VERBS[verb][0]}")
    idle = ModuleType(module.__name__)
    idle.__dict__.update(module.__dict__)

    @functools.wraps(module.run)
    def run(**values: Any) -> int:
        return DONE

    idle.run = run  # type: ignore[attr-defined]  # the module has got it now
    return idle


@each_page
def test_commands_can_be_parsed(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in commands(page):
        shown = f"{page.name}: protomask {' '.join(words)}"
        if words[:1] in (["--help"], ["--version"]):
            continue
        verb = _verb(words)
        assert verb in VERBS, shown
        arguments = words[len(verb.split()) :]
        if "..." in arguments:  # the reader's own options belong there
            assert _flags(arguments) <= known_flags(verb), shown
            continue
        for place, word in enumerate(arguments):
            if word == "--config":  # a file that an earlier command has made
                file = tmp_path / arguments[place + 1]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("data: mydata\n")
        code = run_verb(verb, _module(verb), VERBS[verb][1], arguments)
        assert code == DONE, f"{shown}\n{capsys.readouterr().err}"


@each_page
def test_commands_within_the_text_have_the_flags_shown(page: Path) -> None:
    for code in inline_code(page):
        words = shlex.split(code) if code.startswith("protomask ") else []
        if len(words) < 2 or PLACEHOLDER.fullmatch(words[1]) or words[1].startswith("-"):
            continue
        verb = _verb(words[1:])
        assert verb in VERBS or any(known.startswith(f"{verb} ") for known in VERBS), f"{page.name}: {code}"
        if verb in VERBS:
            missing = _flags(words) - known_flags(verb)
            assert not missing, f"{page.name}: protomask {verb} has no {sorted(missing)}"


@each_page
def test_flags_within_the_text_belong_to_a_verb(page: Path) -> None:
    known = set().union(*map(known_flags, VERBS)) | FLAGS_OF_OTHERS
    shown = {match[1] for code in inline_code(page) if (match := re.match(r"(--[a-z][a-z0-9.\-]*)(?![\w.])", code))}
    assert shown <= known, f"{page.name}: {sorted(shown - known)}"


FLAGS_OF_OTHERS = {
    "--fp16", "--images", "--memory", "--mosaic", "--candidates", "--rounds",
    "--allow-unmatched-labels", "--clear-existing", "--conf-threshold", "--conv-mask-to-poly",
    "--display", "--lr",
}  # fmt: skip
"""Of TensorRT, of scripts in benchmarks/, of CVAT, and of the official YOLACT."""
FILES_OF_OTHERS = {
    "data/config.py", "demo/image_demo.py", "tools/train.py", "tools/test.py",
    "tools/analysis_tools/analyze_results.py",
}  # fmt: skip
"""Of the official YOLACT and of MMDetection."""


def _flags(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if word.startswith("--")}


@functools.cache
def known_flags(verb: str) -> frozenset[str]:
    from contextlib import redirect_stdout
    from io import StringIO

    with redirect_stdout(StringIO()) as told:
        assert main([*verb.split(), "--help"]) == DONE
    return frozenset(re.findall(r"--[\w.\-]+", told.getvalue()))


# Names, extras, files, links


@each_page
def test_dotted_names_exist(page: Path) -> None:
    for code in inline_code(page):
        if match := re.match(r"protomask(?:\.\w+)+", code):
            assert _exists(match[0]), f"{page.name}: {match[0]}"


def _exists(dotted: str) -> bool:
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        try:
            for name in parts[count:]:
                found = getattr(found, name)
        except AttributeError:
            return False
        return True
    return False


def extras() -> set[str]:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        return set(tomllib.load(file)["project"]["optional-dependencies"])


@each_page
def test_extras_to_install_exist(page: Path) -> None:
    commands = re.findall(r"pip install [^`\n]*\[([\w,]+)\]", page.read_text(encoding="utf-8"))
    shown = {name for command in commands for name in command.split(",")}
    assert shown <= extras(), f"{page.name}: {sorted(shown - extras())}"


def test_the_table_of_extras_is_complete() -> None:
    page = (REPOSITORY / "docs" / "install.md").read_text(encoding="utf-8")
    table = page.partition("| extra |")[2].partition("\n\n")[0]
    assert {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])} == extras()


@each_page
def test_tables_are_whole(page: Path) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", prose(page), flags=re.MULTILINE)
    broken = [table.partition("\n")[0] for table in tables if not re.match(r"\|.*\|\n\|[ :\-|]+\|\n", table)]
    assert not broken, f"{page.name}: no heading above {broken}"


@each_page
def test_files_of_the_repository_exist(page: Path) -> None:
    places = (REPOSITORY, REPOSITORY / "src", REPOSITORY / "src" / "protomask")
    for name in re.findall(r"(?<![\w/.])(?:\.?[\w\-]+/)+[\w\-]+\.py\b", page.read_text(encoding="utf-8")):
        known = name in FILES_OF_OTHERS or any((place / name).is_file() for place in places)
        assert known, f"{page.name}: {name}"


def anchors(page: Path) -> set[str]:
    """Fragments that GitHub makes of the page's headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(page)}


@each_page
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


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2].partition("\n\n")[0]
    shown = re.findall(r": (\S+\.md)$", navigation, flags=re.MULTILINE)
    assert len(shown) == len(set(shown))
    docs = REPOSITORY / "docs"
    written = {page.relative_to(docs).as_posix() for page in docs.rglob("*.md")}
    made = {page.relative_to(docs).with_suffix(".md").as_posix() for page in docs.rglob("*.ipynb")}
    copied = {"changelog.md", "contributing.md"}  # from beside the README
    assert set(shown) == written | made | copied, "mkdocs.yml, nav: the page belongs under one of the four parts"
