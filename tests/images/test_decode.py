from __future__ import annotations

import io
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image

from protomask.errors import DataError
from protomask.images.decode import Pixels, read_image, upright

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
# Two rows, three columns, no symmetry.
UPRIGHT = np.array([[RED, GREEN, BLUE], [WHITE, BLACK, (10, 20, 30)]], dtype=np.uint8)


def pixels(source: Any) -> Pixels:
    image = read_image(source)
    assert image.dtype == np.uint8
    assert image.flags["C_CONTIGUOUS"]
    assert image.flags["WRITEABLE"]
    return image


def noise(height: int = 48, width: int = 64) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Pixels, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=kind, **options)
    return buffer.getvalue()


# How the stored array looks for each orientation when the scene is UPRIGHT (EXIF 2.3, tag 0x0112).
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("orientation", sorted(STORED))
@pytest.mark.parametrize("kind", ["png", "tiff", "webp", "pil", "bytes"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, kind: str) -> None:
    stored = np.ascontiguousarray(STORED[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind in ("pil", "bytes"):
        content = encoded(stored, exif=exif)
        source: Any = content if kind == "bytes" else Image.open(io.BytesIO(content))
    else:
        source = tmp_path / f"image.{kind}"
        options: dict[str, Any] = {"lossless": True} if kind == "webp" else {}
        Image.fromarray(stored).save(source, exif=exif, **options)
    np.testing.assert_array_equal(pixels(source), UPRIGHT)


@pytest.mark.parametrize("orientation", sorted(STORED))
def test_exif_orientation_of_a_photograph(tmp_path: Path, orientation: int) -> None:
    stored = np.kron(STORED[orientation], np.ones((16, 16, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    np.testing.assert_allclose(pixels(tmp_path / "a.jpg")[8::16, 8::16].astype(int), UPRIGHT, atol=4)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_unknown_orientation_means_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(pixels(encoded(UPRIGHT, exif=exif)), UPRIGHT)


@pytest.mark.parametrize("orientation", sorted(STORED))
def test_arrays_are_set_upright(orientation: int) -> None:
    np.testing.assert_array_equal(upright(np.ascontiguousarray(STORED[orientation]), orientation), UPRIGHT)


def _palette_with_transparency() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putdata([0, 1])
    image.info["transparency"] = 1
    return image


MODES: list[tuple[str, Image.Image, dict[str, Any], list[tuple[int, int, int]], int]] = [
    ("gray.png", Image.fromarray(np.array([[0, 128, 255]], np.uint8)), {}, [(0,) * 3, (128,) * 3, (255,) * 3], 0),
    ("la.png", Image.fromarray(np.array([[[100, 255], [100, 0]]], np.uint8), "LA"), {}, [(100,) * 3, WHITE], 0),
    ("rgba.png", Image.fromarray(np.array([[[255, 0, 0, 255], [0, 0, 0, 0]]], np.uint8)), {}, [RED, WHITE], 0),
    ("palette.png", _palette_with_transparency(), {"transparency": 1}, [RED, WHITE], 0),
    ("bit.png", Image.fromarray(np.array([[True, False]])), {}, [WHITE, BLACK], 0),
    ("deep.png", Image.fromarray(np.array([[0, 32896, 65535]], np.uint16)), {}, [BLACK, (128,) * 3, WHITE], 0),
    ("float.tiff", Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)), {}, [BLACK, (128,) * 3, WHITE], 1),
    ("cmyk.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)), {"quality": 95}, [RED] * 256, 4),
]  # fmt: skip


@pytest.mark.parametrize(("name", "image", "options", "expected", "tolerance"), MODES, ids=[row[0] for row in MODES])
def test_files_of_any_pixel_mode(
    tmp_path: Path, name: str, image: Image.Image, options: dict[str, Any], expected: list[Any], tolerance: int
) -> None:
    image.save(tmp_path / name, **options)
    got = pixels(tmp_path / name).reshape(-1, 3)
    np.testing.assert_allclose(got.astype(int), expected, atol=tolerance)


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 3), color) for color in (RED, BLUE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (pixels(tmp_path / "a.gif") == RED).all()


# Files

FORMATS = ["png", "jpg", "gif", "webp", "tiff", "bmp", "ppm", "tga", "jp2", "avif"]


@pytest.mark.parametrize("kind", FORMATS)
def test_common_formats(tmp_path: Path, kind: str) -> None:
    image = np.full((24, 32, 3), (200, 100, 50), dtype=np.uint8)
    try:
        Image.fromarray(image).save(tmp_path / f"a.{kind}")
    except (KeyError, OSError, ValueError):
        pytest.skip(f"Pillow writes no {kind}")
    np.testing.assert_allclose(pixels(tmp_path / f"a.{kind}").astype(int), image, atol=4)
    np.testing.assert_allclose(pixels((tmp_path / f"a.{kind}").read_bytes()).astype(int), image, atol=4)


def test_the_content_counts_not_the_ending(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(UPRIGHT))
    (tmp_path / "noending").write_bytes(encoded(UPRIGHT))
    for name in ("a.jpg", "noending"):
        np.testing.assert_array_equal(pixels(tmp_path / name), UPRIGHT)


def _truncated_jpeg(path: Path) -> None:
    path.write_bytes(encoded(noise(), "JPEG", quality=95)[:-600])


def _damaged_png(path: Path) -> None:
    content = bytearray(encoded(noise()))
    content[60:400] = bytes(340)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("cut.jpg", _truncated_jpeg, "broken or truncated image"),
        ("damaged.png", _damaged_png, "broken or truncated image"),
        ("empty.jpg", lambda path: path.write_bytes(b""), "the file is empty"),
        ("text.jpg", lambda path: path.write_text("no image\n"), "not an image"),
        ("missing.jpg", lambda path: None, "no such file"),
        ("folder.jpg", lambda path: path.mkdir(), "got a folder"),
    ],
)
def test_bad_files_are_named_with_the_cause(
    tmp_path: Path, name: str, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / name)
    for source in (tmp_path / name, str(tmp_path / name)):
        with pytest.raises(DataError, match=message) as caught:
            read_image(source)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_image("a\0.jpg")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow also warns about what it then refuses
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_every_truncation_of_a_file_is_a_data_error_or_an_image(kind: str) -> None:
    content = encoded(noise(16, 16), kind)
    for length in range(1, len(content), max(1, len(content) // 40)):
        try:
            assert read_image(content[:length]).shape == (16, 16, 3)
        except DataError as error:
            assert str(error).startswith("image bytes: ")  # noqa: PT017


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "TGA", "JPEG2000", "AVIF"])
def test_damaged_files_are_data_errors_or_images(kind: str) -> None:
    random = np.random.default_rng(0)
    try:
        whole = encoded(noise(16, 16), kind)
    except (KeyError, OSError):
        pytest.skip(f"Pillow writes no {kind}")
    for _ in range(150):
        content = bytearray(whole)
        for place in random.integers(0, min(len(content), 200), random.integers(1, 6)):
            content[place] = random.integers(256)
        try:
            read_image(bytes(content))
        except DataError as error:
            assert str(error).startswith("image bytes: ")  # noqa: PT017


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(UPRIGHT))
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path / "a.png")


@pytest.mark.filterwarnings("error")
def test_more_pixels_than_pillow_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "big.png").write_bytes(encoded(noise()))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"big\.png.*too large.*MAX_IMAGE_PIXELS"):
        read_image(tmp_path / "big.png")


@pytest.mark.slow
def test_huge_legal_image(tmp_path: Path) -> None:
    Image.new("RGB", (8000, 6000), RED).save(tmp_path / "huge.png", compress_level=1)
    image = read_image(tmp_path / "huge.png")
    assert image.shape == (6000, 8000, 3)
    assert image[-1, -1].tolist() == list(RED)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n(never) print\n%%EOF\n"


@pytest.mark.parametrize("kind", ["path", "bytes", "file"])
def test_postscript_is_refused_whatever_it_is_called_and_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(POSTSCRIPT)
    with Image.open(path) as known:  # Pillow alone takes it
        assert isinstance(known, EpsImagePlugin.EpsImageFile)

    def started(*args: Any, **kwargs: Any) -> None:
        pytest.fail(f"started {args}")

    for module, name in ((subprocess, "Popen"), (os, "system"), (EpsImagePlugin, "Ghostscript")):
        monkeypatch.setattr(module, name, started)
    sources: dict[str, Any] = {"path": path, "bytes": POSTSCRIPT, "file": io.BytesIO(POSTSCRIPT)}
    with pytest.raises(DataError, match="not an image, or in a format that is not read"):
        read_image(sources[kind])


# Everything else that is an image


class Unnamed:
    """A file object with nothing but `read`."""

    def __init__(self, content: Any) -> None:
        self._content = content

    def read(self) -> Any:
        return self._content


def test_all_kinds_of_sources_give_the_same_pixels(tmp_path: Path) -> None:
    array = noise()
    content = encoded(array)
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with path.open("rb") as file:
        sources = [str(path), path, content, bytearray(content), memoryview(content), io.BytesIO(content), file,
                   Unnamed(content), Image.fromarray(array), Image.open(io.BytesIO(content)), array,
                   np.asfortranarray(array), array[::-1][::-1], array.view(np.memmap)]  # fmt: skip
        for source in sources:
            np.testing.assert_array_equal(pixels(source), array)


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 1)])
def test_gray_arrays(shape: tuple[int, ...]) -> None:
    gray = noise()[:, :, 0]
    np.testing.assert_array_equal(pixels(gray.reshape(shape)), np.repeat(gray[:, :, None], 3, axis=2))


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    array = noise()
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for source in (tensor, tensor.contiguous(), torch.nn.Parameter(tensor, requires_grad=False)):
        np.testing.assert_array_equal(pixels(source), array)


def test_tensors_are_recognised_without_importing_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    array = noise()

    class Tensor:
        """What a tensor has that is asked for."""

        shape = (3, *array.shape[:2])
        dtype = "torch.uint8"

        def detach(self) -> Tensor:
            return self

        def cpu(self) -> Tensor:
            return self

        def numpy(self) -> NDArray[np.uint8]:
            return array.transpose(2, 0, 1)

    Tensor.__module__, Tensor.__qualname__ = "torch", "Tensor"
    monkeypatch.setitem(sys.modules, "torch", None)
    np.testing.assert_array_equal(pixels(Tensor()), array)


def test_a_file_object_is_read_from_where_it_stands() -> None:
    file = io.BytesIO(b"header" + encoded(UPRIGHT))
    file.seek(6)
    np.testing.assert_array_equal(pixels(file), UPRIGHT)


def test_file_objects_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with (tmp_path / "bad.jpg").open("rb") as file, pytest.raises(DataError, match=r"bad\.jpg: not an image"):
        read_image(file)
    with pytest.raises(DataError, match=r"^image file: expected the bytes of an image file, got none"):
        read_image(io.BytesIO())
    with pytest.raises(DataError, match=r"^image bytes: expected the bytes of an image file, got none"):
        read_image(b"")
    (tmp_path / "text.jpg").write_text("text")
    with (
        (tmp_path / "text.jpg").open() as text,
        pytest.raises(DataError, match=r"text\.jpg: expected a file opened in binary mode, got one that reads str"),
    ):
        read_image(text)  # type: ignore[arg-type]


def test_the_source_is_not_shared() -> None:
    array = noise()
    array.setflags(write=False)
    image = Image.fromarray(array)
    for source in (array, array[:1, :1], array[:, :, 0], image):
        before = pixels(source).copy()
        read_image(source)[:] = 7
        np.testing.assert_array_equal(pixels(source), before)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), r"expected uint8 .* got float32 .*255 \* image"),
        (np.zeros((3, 4, 5), np.uint8), r"got uint8 of shape \(3, 4, 5\); an array has its channels last"),
        (np.zeros((4, 5, 4), np.uint8), "alpha"),
        (np.zeros((4, 5, 2), np.uint8), r"got uint8 of shape \(4, 5, 2\)$"),
        (np.zeros((1, 4, 5, 3), np.uint8), r"got uint8 of shape \(1, 4, 5, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), r"\(0, 5, 3\)"),
        (np.zeros((0, 5), np.uint8), r"\(0, 5\)"),
        (np.uint8(3), "got numpy.uint8"),
        (np.zeros((4, 4), np.bool_), "got bool"),
        (Image.new("RGB", (0, 5)), "expected an image with pixels, got size 0x5"),
        (None, "got builtins.NoneType"),
        ([1, 2], "got builtins.list"),
        (types.SimpleNamespace(), "expected a path, URL, bytes, file object, Pillow image, NumPy array or PyTorch"),
    ],
)
def test_what_is_no_image_says_what_was_expected(source: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_image(source)


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ((3, 4, 5), "float32", r"expected uint8 of shape \(3, H, W\) .* got torch.float32 .*255 \* image"),
        ((4, 5, 3), "uint8", "a tensor has its channels first"),
        ((4, 5, 6), "uint8", "drop or composite the alpha channel first"),
        ((4, 5), "uint8", r"got torch.uint8 of shape \(4, 5\)"),
        ((3, 0, 5), "uint8", r"got torch.uint8 of shape \(3, 0, 5\)"),
    ],
)
def test_wrong_tensors(shape: tuple[int, ...], kind: str, message: str) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(DataError, match=message):
        read_image(torch.zeros(shape, dtype=getattr(torch, kind)))


def test_addresses_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return encoded(UPRIGHT) if url.endswith("png") else b"<html>"

    monkeypatch.setattr("protomask.images.decode.fetch_url", fetch)
    for url in ("https://example.org/a.png", "HTTP://example.org/b.png"):
        np.testing.assert_array_equal(pixels(url), UPRIGHT)
    with pytest.raises(DataError, match=r"^https://example.org/c: not an image"):
        read_image("https://example.org/c")
    assert asked == ["https://example.org/a.png", "HTTP://example.org/b.png", "https://example.org/c"]


@pytest.mark.data
def test_photographs(data_dir: Path) -> None:
    paths = sorted((data_dir / "photos").glob("*.jpg"))
    assert len(paths) == 20
    for path in paths:
        np.testing.assert_array_equal(pixels(path), np.asarray(Image.open(path).convert("RGB")))
