"""Paths and addresses, listed, read and written through pyarrow's file systems."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from protomask import storage
from protomask.errors import ConfigError, DataError, MissingExtraError
from protomask.storage import Place, below, is_glob, matching, place_of

NAMES = ("a.jpg", "b.png", ".hidden.jpg", "sub/c.jpg", "sub/deep/d.jpg", "sub/.secret/e.jpg")


@pytest.fixture(params=["local", "memory", "file"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A folder with files on this machine, and one in a store of fsspec's."""
    if request.param == "memory":
        pytest.importorskip("fsspec")
        address = f"memory://{uuid.uuid4().hex}/photos"
    else:
        address = str(tmp_path / "photos") if request.param == "local" else (tmp_path / "photos").as_uri()
    place = place_of(address)
    for name in NAMES:
        parent = place.child(name.rpartition("/")[0]) if "/" in name else place
        parent.make_folder()
        place.child(name).write(name.encode())
    return place


@pytest.mark.parametrize(
    ("text", "root", "path"),
    [
        ("s3://bucket/photos/a b.jpg", "s3://bucket", "photos/a b.jpg"),
        ("s3://bucket/photos?region=eu-west-1", "s3://bucket?region=eu-west-1", "photos"),
        ("gs://bucket", "gs://bucket", ""),
        ("file:///data/x.jpg", "", "/data/x.jpg"),
        ("/data/x.jpg", "", "/data/x.jpg"),
    ],
)
def test_a_text_is_taken_apart_and_put_together(text: str, root: str, path: str) -> None:
    place = place_of(text)
    assert (place.root, place.path) == (root, path)
    assert str(place).rstrip("/") == text.removeprefix("file://")


def test_relative_paths_start_where_they_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(place_of("x.jpg")) == (tmp_path / "x.jpg").as_posix()
    assert str(place_of("x.jpg", start="s3://bucket/all?region=a")) == "s3://bucket/all/x.jpg?region=a"
    assert str(place_of("x.jpg", start="s3://bucket")) == "s3://bucket/x.jpg"
    assert str(place_of("/data/x.jpg", start="s3://bucket")) == "/data/x.jpg"
    assert str(place_of("gs://b/x.jpg", start="s3://bucket")) == "gs://b/x.jpg"


def test_folders_are_listed_in_order_without_what_is_hidden(folder: Place) -> None:
    assert folder.entries() == (["a.jpg", "b.png"], ["sub"])
    assert [place.name for place in below(folder, recursive=False)] == ["a.jpg", "b.png"]
    found = list(below(folder, recursive=True))
    assert [place.name for place in found] == ["a.jpg", "b.png", "c.jpg", "d.jpg"]
    assert [place_of(str(place)).read() for place in found] == [b"a.jpg", b"b.png", b"sub/c.jpg", b"sub/deep/d.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg"]),
        ("[ab].*", ["a.jpg", "b.png"]),
        ("**/*.jpg", ["a.jpg", "c.jpg", "d.jpg"]),
        ("sub/*.jpg", ["c.jpg"]),
        ("*/deep/?.jpg", ["d.jpg"]),
        ("sub/**", ["c.jpg", "d.jpg"]),
        ("none/*", []),
    ],
)
def test_globs(folder: Place, pattern: str, expected: list[str]) -> None:
    assert [place.name for place in matching(folder.child(pattern))] == expected


def test_what_a_glob_is() -> None:
    assert is_glob("photos/*.jpg")
    assert is_glob("s3://bucket/*.jpg?region=a")
    assert not is_glob("s3://bucket/photos?region=a")


def test_kinds_and_what_is_missing(folder: Place) -> None:
    kinds = [folder.kind(), folder.child("a.jpg").kind(), folder.child("none.jpg").kind()]
    assert kinds == ["folder", "file", "nothing"]
    missing = folder.child("none.jpg")
    for ask in (missing.read, missing.open):
        with pytest.raises(DataError, match=r"none\.jpg: no such file"):
            ask()


def test_a_store_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "sleep", lambda seconds: None)
    answers: list[Exception | str] = [OSError("busy"), OSError("busy"), "content"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert storage._asked(Place("oss://b", "x"), ask) == "content"
    answers += [OSError("a"), OSError("b"), OSError("down")]
    with pytest.raises(DataError, match=r"oss://b/x: cannot be read: down"):
        storage._asked(Place("oss://b", "x"), ask)
    for root in ("", "s3://b"):  # which pyarrow has asked several times already
        answers += [OSError("disk")]
        with pytest.raises(DataError, match="/x: cannot be read: disk"):
            storage._asked(Place(root, "x" if root else "/x"), ask)


def test_unknown_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(ConfigError, match="nowhere://x"):
        place_of("nowhere://x/y").read()

    def missing(root: str) -> None:
        raise ImportError("install oss")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(MissingExtraError, match="install oss"):
        place_of("oss://x/y").read()
