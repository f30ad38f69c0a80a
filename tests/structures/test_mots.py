from __future__ import annotations

import struct
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from drawn_tracks import NAMES, videos
from protomask.errors import DataError
from protomask.masks.rle import decode_rle, encode_rle
from protomask.structures.mots import (
    IGNORED,
    mots_ids,
    read_mots_images,
    read_mots_text,
    write_mots_images,
    write_mots_text,
)
from protomask.structures.tracks import Tracklet, VideoTracks

CODE = encode_rle(np.ones((1, 2, 3), dtype=np.bool_))[0]


@given(videos())
def test_text_and_images_come_back_as_they_were(video: VideoTracks) -> None:
    with TemporaryDirectory() as folder:
        write_mots_text(Path(folder) / "clip.txt", video)
        text = read_mots_text(Path(folder) / "clip.txt", NAMES)
        write_mots_images(Path(folder) / "clip", video)
        images = read_mots_images(Path(folder) / "clip", NAMES)
    wanted = sorted(video.tracks, key=lambda track: track.track_id)
    assert list(images.tracks) == list(text.tracks) == wanted
    assert (images.name, images.image_size, images.num_frames) == ("clip", video.image_size, video.num_frames)
    if video.tracks:  # a text without lines does not know the size
        assert (text.name, text.image_size) == ("clip", video.image_size)
    assert text.num_frames == max((index + 1 for track in video.tracks for index in track.masks), default=0)


def test_the_better_track_has_the_pixels_that_two_claim(tmp_path: Path) -> None:
    left, right = np.zeros((2, 2, 5), dtype=np.bool_)
    left[:, :3] = right[:, 2:] = True
    tracks = tuple(
        Tracklet(track_id=number, label=0, masks={0: encode_rle(mask[None])[0]}, score=score)
        for number, mask, score in ((1, left, 0.5), (2, right, 0.9))
    )
    video = VideoTracks(name="clip", image_size=(2, 5), num_frames=1, tracks=tracks)
    write_mots_text(tmp_path / "clip.txt", video)
    first, second = read_mots_text(tmp_path / "clip.txt", NAMES).tracks
    assert (first.track_id, second.track_id) == (1000, 1001)
    np.testing.assert_array_equal(decode_rle(first.masks[0]), left & ~right)
    np.testing.assert_array_equal(decode_rle(second.masks[0]), right)


def test_regions_that_are_not_judged(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"0 {IGNORED} 10 2 3 {CODE['counts']}\n\n4 2005 2 2 3 {CODE['counts']}\n")
    video = read_mots_text(tmp_path / "a.txt", NAMES)
    assert video.num_frames == 5
    known, ignored = video.tracks
    assert (known.track_id, known.label, known.is_crowd) == (2005, 1, False)
    assert (ignored.track_id, ignored.is_crowd) == (IGNORED, True)
    assert mots_ids(video) == {2005: 2005, IGNORED: IGNORED}


def test_frames_are_counted_from_the_first_file(tmp_path: Path) -> None:
    for number in (1, 3):
        Image.fromarray(np.full((2, 3), 1001, dtype=np.uint16)).save(tmp_path / f"{number:06d}.png")
    (tmp_path / "notes.png").write_text("none of them")
    video = read_mots_images(tmp_path, NAMES)
    assert (video.num_frames, list(video.tracks[0].masks)) == (3, [0, 2])


def test_there_are_a_thousand_ids_per_class() -> None:
    tracks = tuple(Tracklet(track_id=number, label=0, masks={}) for number in range(1001))
    with pytest.raises(DataError, match="up to 1000 objects of each"):
        mots_ids(VideoTracks(name="crowd", image_size=(2, 3), num_frames=1, tracks=tracks))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("0 1000 1 2 3", "line 1: expected frame, id, class, height, width and a run-length code"),
        ("0 1000 1 2 3 6 6", "line 1: expected frame"),
        ("-1 1000 1 2 3 06", "line 1: expected frame"),
        ("0 1000 1 2 3 ~~", "line 1: RLE counts"),
        ("0 1000 1 99999999 99999999 06", "line 1: expected the height and width of a frame"),
        ("99999999 1000 1 2 3 06", "line 1: expected a frame below 1000000"),
        ("0 4000 4 2 3 06", r"object 4000: expected class 1 to 3 \(cat, dog, owl\), got 4"),
        ("0 1000 1 2 3 06\n0 1000 1 2 3 06", "line 2: object 1000 occurs twice in frame 0"),
        ("0 1000 1 2 3 06\n1 1000 2 2 3 06", "line 2: expected class 1 of object 1000 as before, got 2"),
        ("0 1000 1 2 3 06\n1 1000 1 3 2 06", r"line 2: expected frames of \(2, 3\) as before, got \(3, 2\)"),
        ("0 1000 1 2 3 \u00e4", "cannot be read as MOTS text"),
    ],
)
def test_text_that_contradicts_the_format_is_named(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(lines, encoding="utf-8")
    with pytest.raises(DataError, match=f"a.txt: {message}"):
        read_mots_text(tmp_path / "a.txt", NAMES)


def png_of(width: int, height: int) -> bytes:
    """A 16-bit gray PNG that claims a size and has no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_images_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected PNG files with numbers as names, got none"):
        read_mots_images(tmp_path, NAMES)
    file = tmp_path / "000000.png"
    for content, message in (
        (b"GIF89a", "cannot be read as an image"),
        (png_of(9000, 9000), "claims 9000x9000 pixels in a file of"),
        (png_of(4, 4), "cannot be read as an image"),
    ):
        file.write_bytes(content)
        with pytest.raises(DataError, match=f"000000.png: {message}"):
            read_mots_images(tmp_path, NAMES)
    Image.fromarray(np.zeros((2, 3, 3), dtype=np.uint8)).save(file)
    with pytest.raises(DataError, match="expected a gray PNG of 16 bits, got mode RGB"):
        read_mots_images(tmp_path, NAMES)
    Image.fromarray(np.zeros((2, 3), dtype=np.uint16)).save(file)
    Image.fromarray(np.zeros((3, 3), dtype=np.uint16)).save(tmp_path / "000001.png")
    with pytest.raises(DataError, match=r"000001.png: expected frames of \(2, 3\) as before, got \(3, 3\)"):
        read_mots_images(tmp_path, NAMES)
