"""The reference of the command line says all that the help says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from protomask.cli.main import VERBS, main
from site_cli import page_name, verb_page, write_pages


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_the_help_has_a_heading(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb.split(), "--help"]) == 0
    shown = set(re.findall(r"^  (--[\w.\-]+)", capsys.readouterr().out, flags=re.MULTILINE))
    assert shown
    headings = re.findall(r"^### `(--[^`]+)` \{ #([\w\-]+) \}$", verb_page(verb), flags=re.MULTILINE)
    assert shown == {flag for flag, _ in headings}
    assert len({anchor for _, anchor in headings}) == len(headings)


def test_an_option_has_its_type_its_default_and_its_text() -> None:
    page = verb_page("train")
    assert "### `--epochs` { #epochs }\n\n`INT|+N`, default `50`\n{ .facts }\n\nLength of the run in passes" in page
    assert "### `--data` { #data }\n\n`TEXT`, required\n" in page
    assert "### `--resume` { #resume }\n\nalso `--no-resume`, default `no`\n" in page
    assert "`images/{train,val}/`" in page
    assert 'with `{"pseudo": 0.5}`, masks' in page


def test_the_pages_are_an_overview_and_one_for_each_verb(tmp_path: Path) -> None:
    overview, *pages = write_pages(tmp_path)
    assert pages == [page_name(verb) for verb in VERBS]
    linked = re.findall(r"^\| \[`([^`]+)`\]\(([^)]+)\) \|", (tmp_path / overview).read_text(), flags=re.MULTILINE)
    assert [verb for verb, _ in linked] == list(VERBS)
    for page, (_, link) in zip(pages, linked, strict=True):
        assert ((tmp_path / overview).parent / link) == tmp_path / page
        assert (tmp_path / page).is_file()
