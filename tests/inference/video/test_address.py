from __future__ import annotations

import sys
from pathlib import Path

import pytest

from protomask.errors import DataError
from protomask.inference.video.address import Address, address_of, file_address, looks_like_video


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (0, Address("camera:0", "/dev/video0", "v4l2", True)),
        ("2", Address("camera:2", "/dev/video2", "v4l2", True)),
        ("camera:1", Address("camera:1", "/dev/video1", "v4l2", True)),
        ("/dev/video0", Address("camera:0", "/dev/video0", "v4l2", True)),
        ("rtsp://host:554/a", Address("rtsp://host:554/a", "rtsp://host:554/a", None, True)),
        ("rtsp://me:secret@host/a", Address("rtsp://me:***@host/a", "rtsp://me:secret@host/a", None, True)),
        ("http://host/a.mp4?x=1", Address("http://host/a.mp4?x=1", "http://host/a.mp4?x=1", None, None)),
        ("https://host/live.M3U8", Address("https://host/live.M3U8", "https://host/live.M3U8", None, None)),
        ("stream:http://host/feed", Address("http://host/feed", "http://host/feed", None, None)),
        ("stream:udp://@:1234", Address("udp://@:1234", "udp://@:1234", None, True)),
        ("http://host/a.png", None),
        ("http://host/feed", None),
        ("clip.mp4", None),
        ("a:b.mp4", None),
        ("1234", None),
        ("-", None),
    ],
)
def test_what_is_a_camera_or_stream(text: str | int, expected: Address | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert address_of(text) == expected


@pytest.mark.parametrize(
    ("platform", "name", "format", "url"),
    [("darwin", "1", "avfoundation", "1"), ("win32", "HD Webcam", "dshow", "video=HD Webcam")],
)
def test_cameras_of_other_systems(
    platform: str, name: str, format: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert address_of(f"camera:{name}") == Address(f"camera:{name}", url, format, True)
    monkeypatch.setattr(sys, "platform", "aix")
    with pytest.raises(DataError, match="expected Linux, macOS or Windows, got aix"):
        address_of("camera:0")


def test_a_file_named_like_a_camera_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("0").write_bytes(b"x")
    assert address_of("0") is None


def test_names_of_files_are_no_protocols() -> None:
    assert file_address(Path("a:b.mp4")).url == "file:a:b.mp4"


@pytest.mark.parametrize(
    ("beginning", "expected"),
    [
        (b"\x00\x00\x00\x20ftypisom", True),
        (b"\x00\x00\x00\x20ftypavif", False),
        (b"\x1aE\xdf\xa3rest", True),
        (b"RIFF\x00\x00\x00\x00AVI LIST", True),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", False),
        (b"G" + bytes(187) + b"G", True),
        (b"GIF89a" + bytes(200), False),
        (b"YUV4MPEG2 W64", True),
        (b"\x89PNG\r\n\x1a\n", False),
        (b"\xff\xd8\xff\xe0", False),
        (b"", False),
    ],
)
def test_videos_by_their_first_bytes(beginning: bytes, expected: bool) -> None:
    assert looks_like_video(beginning) is expected
