"""The page is one folder that needs nothing else."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from protomask.runtimes.shipped import SAMPLES
from protomask.serve.site import PAGE

SCRIPTS = sorted(PAGE.glob("*.js"))


def test_the_page_and_its_files_are_served(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    linked = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert {"page/app.js", "page/style.css"} <= set(linked)
    samples = client.get("page/site.json").json()["samples"]
    assert {path.rpartition("/")[2] for path in samples} == {path.name for path in SAMPLES.glob("*.jpg")}
    for path in [*linked, *samples]:
        answer = client.get(path)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache"), path
    again = client.get("page/app.js", headers={"if-none-match": client.get("page/app.js").headers["etag"]})
    assert again.status_code == 304


def test_the_page_itself_asks_for_no_key(start: object) -> None:
    client = start(key="secret")  # type: ignore[operator]
    assert client.get("/").status_code == client.get("/page/app.js").status_code == 200
    assert client.get("/v1/models").status_code == 401


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_import_only_files_of_the_folder(path: object) -> None:
    text = PAGE.joinpath(str(path)).read_text(encoding="utf-8")
    for imported in re.findall(r'(?:from|import\()\s*"([^"]+)"', text):
        assert imported.startswith("./"), imported
        assert (PAGE / imported).is_file(), imported


@pytest.mark.parametrize("path", sorted(PAGE.iterdir()), ids=lambda path: path.name)
def test_nothing_is_loaded_from_elsewhere(path: object) -> None:
    text = PAGE.joinpath(str(path)).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text)
