"""What inputs are taken for, with `protomask.inference.sources.open_source`; nothing is decoded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from protomask.errors import DataError, MissingExtraError
from protomask.inference.sources import Several, StillImages, is_live, open_source
from protomask.inference.video.options import VideoOptions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("1.png", "2.png", "clip.mp4", "10.jpg", "sub/3.png", "sub/4.png", "sub/film.MKV", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def kinds(source: Any) -> list[tuple[str, str]]:
    """Kind and name of each part."""
    parts = source.parts if isinstance(source, Several) else [source]
    return [(type(part).__name__, Path(getattr(part, "name", "")).name) for part in parts]


IMAGES, CLIP = ("StillImages", ""), ("VideoFile", "clip.mp4")


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("clip.mp4", {}, [CLIP]),
        ("1.png", {}, [IMAGES]),
        ("1.png", {"video": VideoOptions(fps=5)}, [IMAGES]),
        ("", {}, [IMAGES, CLIP]),
        ("*.mp4", {}, [CLIP]),
        ("", {"as_video": True}, [("FrameFolder", "top"), CLIP]),
        ("", {"video": VideoOptions(fps=5)}, [("FrameFolder", "top"), CLIP]),
        ("sub", {"as_video": True}, [("FrameFolder", "sub"), ("VideoFile", "film.MKV")]),
        ("", {"recursive": True}, [IMAGES, CLIP, IMAGES, ("VideoFile", "film.MKV")]),
    ],
)
def test_files_and_folders(name: str, settings: dict[str, Any], expected: list[tuple[str, str]], folder: Path) -> None:
    pytest.importorskip("av")
    found = [
        (kind, "top" if own == folder.name else own) for kind, own in kinds(open_source(folder / name, **settings))
    ]
    assert found == expected


@pytest.mark.parametrize(
    ("beginning", "expected"), [(b"\x1aE\xdf\xa3", "VideoFile"), (b"\x89PNG", "StillImages"), (b"", "StillImages")]
)
def test_a_file_with_an_unknown_ending_is_looked_into(beginning: bytes, expected: str, tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "recording.bin").write_bytes(beginning + bytes(400))
    assert kinds(open_source(tmp_path / "recording.bin"))[0][0] == expected


@pytest.mark.parametrize(
    ("text", "settings", "live"),
    [
        ("rtsp://host/a", {}, True),
        (0, {}, True),
        ("rtsp://host/a", {"live": "no"}, False),
        ("http://host/a.mp4", {"live": "yes"}, True),
        ("-", {}, False),
        ("-", {"live": "yes"}, True),
    ],
)
def test_what_is_live(text: str | int, settings: dict[str, Any], live: bool) -> None:
    pytest.importorskip("av")
    assert is_live(open_source(text, video=VideoOptions(**settings))) is live


def test_a_source_stays_what_it_is(folder: Path) -> None:
    pytest.importorskip("av")
    for given in ("rtsp://host/a", folder, folder / "clip.mp4", folder / "1.png", "-"):
        source = open_source(given)
        assert open_source(source) is source

    class Mine:
        live = True

        def __iter__(self) -> Any:
            return iter([])

    assert is_live(open_source(Mine()))


def test_an_address_of_an_image_stays_one_unless_all_are_videos() -> None:
    pytest.importorskip("av")
    assert isinstance(open_source("http://host/a"), StillImages)
    assert kinds(open_source("http://host/a", as_video=True, video=VideoOptions(live="no"))) == [("VideoFile", "a")]


def test_without_pyav_images_are_still_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    frames = list(open_source(folder))
    assert [Path(frame.source).name for frame in frames] == ["1.png", "2.png", "10.jpg", "clip.mp4"]
    assert isinstance(frames[3].error, DataError)
    assert "pip install 'protomask[video]'" in str(frames[3].error)
    for given in (folder / "clip.mp4", "rtsp://host/a", 0):
        with pytest.raises(MissingExtraError, match=r"x264 and x265 \(GPL\): pip install 'protomask\[video\]'"):
            open_source(given)
