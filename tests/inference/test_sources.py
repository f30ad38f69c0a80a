from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from protomask.errors import DataError
from protomask.images.decode import Pixels, read_image
from protomask.images.pixels import IMAGE_SUFFIXES
from protomask.inference.paths import iter_image_paths
from protomask.inference.sources import ImageStream, StillImages, open_source
from protomask.structures.frame import Frame


def pixels(width: int = 5, height: int = 4) -> Pixels:
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.data
def test_photographs(data_dir: Path) -> None:
    paths = iter_image_paths([data_dir / "photos"])
    assert len(paths) == 20
    frames = list(open_source(data_dir / "photos"))
    assert [frame.source for frame in frames] == [str(path) for path in paths]
    for frame, path in zip(frames, paths, strict=True):
        np.testing.assert_array_equal(frame.image, np.asarray(Image.open(path).convert("RGB")))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("f10.jpg", "f2.JPG", "f1.png", "notes.txt", ".hidden.png", "sub/f3.jpg", "sub/deep/f4.webp", "odd.dat",
                 "a[1].png"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "readme.md").write_bytes(b"x")
    (tmp_path / "dir.jpg").mkdir()
    return tmp_path


FINDS: list[tuple[list[str], list[str]]] = [
    ([""], ["a[1].png", "f1.png", "f2.JPG", "f10.jpg"]),
    (["sub"], ["sub/f3.jpg"]),
    (["**/*"], ["a[1].png", "f1.png", "f2.JPG", "f10.jpg", "sub/deep/f4.webp", "sub/f3.jpg"]),
    (["f*"], ["f1.png", "f2.JPG", "f10.jpg"]),
    (["f10.jpg", "f1.png"], ["f10.jpg", "f1.png"]),
    (["f10.jpg", "f*", "sub/../f10.jpg"], ["f10.jpg", "f1.png", "f2.JPG"]),
    (["odd.dat", "notes.txt"], ["odd.dat", "notes.txt"]),
    (["a[1].png"], ["a[1].png"]),
]


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize(("inputs", "expected"), FINDS)
def test_paths(tree: Path, inputs: list[str], expected: list[str], kind: Callable[[Path], str | Path]) -> None:
    given = [kind(tree / name) for name in inputs]
    found = iter_image_paths(given)
    assert [path.relative_to(tree).as_posix() for path in found] == expected
    opened = open_source(given)
    assert isinstance(opened, StillImages)
    assert len(opened) == len(expected)
    assert [(frame.source, frame.index) for frame in opened] == [(str(path), row) for row, path in enumerate(found)]
    if len(given) == 1:
        assert [frame.source for frame in open_source(given[0])] == [str(path) for path in found]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([""], ["a[1].png", "f1.png", "f2.JPG", "f10.jpg", "sub/deep/f4.webp", "sub/f3.jpg"]),
        (["sub", "f*"], ["sub/deep/f4.webp", "sub/f3.jpg", "f1.png", "f2.JPG", "f10.jpg"]),
        (["sub/deep", "sub"], ["sub/deep/f4.webp", "sub/f3.jpg"]),
    ],
)
def test_folders_and_below(tree: Path, inputs: list[str], expected: list[str]) -> None:
    (tree / ".cache").mkdir()
    (tree / ".cache" / "thumbnail.png").write_bytes(b"x")
    given = [tree / name for name in inputs]
    found = iter_image_paths(given, recursive=True)
    assert [path.relative_to(tree).as_posix() for path in found] == expected
    assert [frame.source for frame in open_source(given, recursive=True)] == list(map(str, found))


def test_images_deeper_down_are_named_in_the_message(tree: Path) -> None:
    (tree / "sub" / "f3.jpg").unlink()
    with pytest.raises(DataError, match="images or videos directly inside it, but 1 in its subfolders, which rec"):
        open_source(tree / "sub")
    with pytest.raises(DataError, match=r"none: folder without images or videos \("):
        open_source(tree / "none", recursive=True)


def test_no_inputs_give_no_paths() -> None:
    assert iter_image_paths([]) == []
    assert list(open_source([])) == list(open_source(())) == list(open_source(iter([]))) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing.jpg", "no such file or folder"),
        ("none", "folder without images"),
        ("none/*", "no image( or video)? matches; 1 other paths do"),
        ("*.bmp", "no image( or video)? matches"),
        ("nul\0.png", "cannot be read|no such file"),
    ],
)
def test_inputs_without_images_are_named(tree: Path, given: str, message: str) -> None:
    for find in (iter_image_paths, open_source):
        with pytest.raises(DataError, match=message) as caught:
            find([tree / "f1.png", tree / given])
        assert given in str(caught.value)
    with pytest.raises(DataError, match=message):
        open_source(tree / given)


def test_home_and_relative_paths(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree))
    monkeypatch.setenv("USERPROFILE", str(tree))
    monkeypatch.chdir(tree)
    assert iter_image_paths(["~/sub"]) == [tree / "sub" / "f3.jpg"]
    assert iter_image_paths(["sub"]) == [Path("sub/f3.jpg")]
    # A relative and an absolute path of one file are one image.
    assert iter_image_paths(["f1.png", tree / "f1.png"]) == [Path("f1.png")]


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_linked_files_are_images_of_their_own(tree: Path) -> None:
    (tree / "link.png").symlink_to(tree / "f1.png")
    assert iter_image_paths([tree / "f1.png", tree / "link.png"]) == [tree / "f1.png", tree / "link.png"]


def test_numbers_are_sorted_as_numbers_and_letters_without_case(tmp_path: Path) -> None:
    # The digit of the third name is an Arabic 3.
    wanted = ["1.png", "2.png", "\u0663.png", "10.png", "A1.png", "a01b.png", "a1c.png", "b2.png", "B.png"]
    for name in reversed(wanted):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in iter_image_paths([tmp_path])] == wanted


def test_every_ending_counts_in_any_case(tmp_path: Path) -> None:
    for suffix in IMAGE_SUFFIXES:
        (tmp_path / f"image{suffix.upper()}").write_bytes(b"x")
    assert len(iter_image_paths([tmp_path])) == len(IMAGE_SUFFIXES)


ONE_IMAGE: dict[str, Callable[[Path], tuple[Any, str]]] = {
    "text": lambda path: (str(path), str(path)),
    "path": lambda path: (path, str(path)),
    "bytes": lambda path: (path.read_bytes(), "image_0"),
    "bytearray": lambda path: (bytearray(path.read_bytes()), "image_0"),
    "memoryview": lambda path: (memoryview(path.read_bytes()), "image_0"),
    "open file": lambda path: (path.open("rb"), str(path)),
    "file in memory": lambda path: (io.BytesIO(path.read_bytes()), "image_0"),
    "Pillow image": lambda path: (Image.open(path), "image_0"),
    "array": lambda path: (read_image(path), "image_0"),
    "frame": lambda path: (Frame(read_image(path), source="camera"), "camera"),
}


@pytest.mark.parametrize("kind", ONE_IMAGE)
@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: [one], lambda one: (one,), lambda one: iter([one])])
def test_one_image_of_any_kind(tmp_path: Path, kind: str, wrap: Callable[[Any], Any]) -> None:
    image = pixels()
    Image.fromarray(image).save(tmp_path / "a.png")
    given, name = ONE_IMAGE[kind](tmp_path / "a.png")
    [frame] = open_source(wrap(given))
    assert (frame.source, frame.index, frame.time, frame.found, frame.error) == (name, 0, None, None, None)
    np.testing.assert_array_equal(frame.image, image)


def test_a_tensor_is_one_image() -> None:
    torch = pytest.importorskip("torch")
    [frame] = open_source(torch.from_numpy(pixels()).permute(2, 0, 1))
    np.testing.assert_array_equal(frame.image, pixels())


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: [one], lambda one: iter([one])])
def test_an_image_from_standard_input(monkeypatch: pytest.MonkeyPatch, wrap: Callable[[Any], Any]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(encoded(pixels()))))
    [frame] = open_source(wrap("-"))
    assert frame.source == "stdin"
    np.testing.assert_array_equal(frame.image, pixels())


def test_empty_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    [frame] = open_source("-")
    with pytest.raises(DataError, match="expected the bytes of an image file, got none"):
        _ = frame.image


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: [one], lambda one: iter([one])])
@pytest.mark.parametrize("url", ["http://example.org/a*.png?b=[1]", "HTTPS://example.org/a.png"])
def test_addresses_are_fetched_and_never_taken_for_globs(
    url: str, wrap: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return encoded(pixels())

    monkeypatch.setattr("protomask.images.decode.fetch_url", fetch)
    [frame] = open_source(wrap(url))
    assert (frame.source, asked) == (url, [])
    np.testing.assert_array_equal(frame.image, pixels())
    assert asked == [url]


def test_a_list_of_many_kinds(tree: Path) -> None:
    file = tree / "real.png"
    file.write_bytes(encoded(pixels(3)))
    given: list[Any] = [pixels(1), file, encoded(pixels(2)), str(file), tree / "sub", pixels(1)]
    opened = open_source(given)
    frames = list(opened)
    # Files once each; other images as often as they are given.
    assert [frame.source for frame in frames] == [
        "image_0", str(file), "image_2", str(tree / "sub" / "f3.jpg"), "image_4",
    ]  # fmt: skip
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert [frames[place].image.shape[1] for place in (0, 1, 2, 4)] == [1, 3, 2, 1]
    assert [frame.source for frame in opened] == [frame.source for frame in frames]


def test_frames_keep_their_own_numbers_and_times() -> None:
    given = [Frame(pixels(), source="video", index=7, time=0.25), Frame(pixels(), source="video", index=9, time=0.5)]
    for source in (given, tuple(given), iter(given)):
        assert [(frame.index, frame.time) for frame in open_source(source)] == [(7, 0.25), (9, 0.5)]
    assert next(iter(open_source(given[1]))) is given[1]
    mixed = list(open_source([given[0], pixels()]))
    assert [frame.source for frame in mixed] == ["video", "image_1"]


def test_a_generator_is_advanced_as_frames_are_asked_for() -> None:
    made: list[int] = []

    def images() -> Iterator[Pixels]:
        for width in range(1, 1000):
            made.append(width)
            yield pixels(width)

    opened = open_source(images())
    assert isinstance(opened, ImageStream)
    frames = iter(opened)
    assert made == []
    assert next(frames).image.shape == (4, 1, 3)
    assert next(frames).source == "image_1"
    assert made == [1, 2]


def test_images_are_read_when_they_are_used(tree: Path) -> None:
    frames = list(open_source([tree / "f1.png", tree / "f10.jpg"]))
    read = frames[0].read()
    assert isinstance(read.error, DataError)
    assert str(tree / "f1.png") in str(read.error)
    assert frames[1].error is None
    with pytest.raises(DataError, match=r"f10\.jpg"):
        _ = frames[1].image


@pytest.mark.parametrize("source", [None, 5.5, object()])
def test_what_is_no_source_is_named_when_it_is_read(source: Any) -> None:
    [frame] = open_source(source)
    with pytest.raises(DataError, match=f"image: expected a path, .*, got builtins.{type(source).__name__}"):
        _ = frame.image
