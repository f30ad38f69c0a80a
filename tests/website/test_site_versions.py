"""The folder of all versions of the site."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from site_versions import add_version


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "index.html").write_text("new")
    return folder


def test_versions_are_ordered_as_numbers_and_the_latest_is_opened(site: Path, tmp_path: Path) -> None:
    versions = tmp_path / "versions"
    for version in ("0.9", "0.10", "0.2"):
        add_version(site, versions, version)
    listed = json.loads((versions / "versions.json").read_text())
    assert [entry["version"] for entry in listed] == ["0.10", "0.9", "0.2"]
    assert [entry["aliases"] for entry in listed] == [["latest"], [], []]
    assert "url=0.10/" in (versions / "index.html").read_text()


def test_a_version_is_replaced_and_the_others_stay(site: Path, tmp_path: Path) -> None:
    versions = tmp_path / "versions"
    add_version(site, versions, "0.2")
    (versions / "0.2" / "gone.html").write_text("old")
    add_version(site, versions, "0.3")
    entries = add_version(site, versions, "0.2")
    assert [entry["version"] for entry in entries] == ["0.3", "0.2"]
    assert [path.name for path in (versions / "0.2").iterdir()] == ["index.html"]


@pytest.mark.parametrize("version", ["dev", "0", "../0.2", "v0.2"])
def test_a_version_is_numbers(site: Path, tmp_path: Path, version: str) -> None:
    with pytest.raises(ValueError, match=r"expected numbers such as 0\.2"):
        add_version(site, tmp_path / "versions", version)
