"""Links of a small site of three pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from site_links import broken_links


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "index.html").write_text('<h2 id="resume">Resume</h2><a href="..">home</a>')
    (tmp_path / "photo.jpg").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    "link",
    ["train/", "train/#resume", "train/index.html", "#top", "photo.jpg", ".", "https://example.com/x", "mailto:a@b.c"],
)
def test_links_that_lead_somewhere(site: Path, link: str) -> None:
    (site / "index.html").write_text(f'<h1 id="top">Home</h1><a href="{link}">a link</a>')
    assert broken_links(site) == []


@pytest.mark.parametrize("tag", ['<a href="{}">', '<img src="{}">', '<script src="{}">'])
@pytest.mark.parametrize("link", ["predict/", "train/#pause", "#bottom", "photo.png", "../train/", "/predict/"])
def test_links_that_lead_nowhere_are_named_with_their_page(site: Path, tag: str, link: str) -> None:
    (site / "index.html").write_text(f'<h1 id="top">Home</h1>{tag.format(link)}')
    assert broken_links(site) == [f"index.html: {link}"]
