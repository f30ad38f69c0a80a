from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from protomask.errors import DataError
from protomask.inference.sources import iter_image_paths, read_image

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
# Two rows, three columns, no symmetry.
UPRIGHT = np.array([[RED, GREEN, BLUE], [WHITE, BLACK, (10, 20, 30)]], dtype=np.uint8)


def pixels(source: Any) -> np.ndarray:
    image = read_image(source)
    assert image.dtype == torch.uint8
    assert image.is_contiguous()
    return image.permute(1, 2, 0).numpy()


def noise(height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


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
@pytest.mark.parametrize("kind", ["png", "tiff", "webp", "pil"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, kind: str) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "pil":
        buffer = io.BytesIO()
        stored.save(buffer, format="PNG", exif=exif)
        np.testing.assert_array_equal(pixels(Image.open(buffer)), UPRIGHT)
        return
    path = tmp_path / f"image.{kind}"
    stored.save(path, exif=exif, **({"lossless": True} if kind == "webp" else {}))
    np.testing.assert_array_equal(pixels(path), UPRIGHT)


@pytest.mark.parametrize("orientation", sorted(STORED))
def test_exif_orientation_of_a_photograph(tmp_path: Path, orientation: int) -> None:
    stored = np.kron(STORED[orientation], np.ones((16, 16, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    np.testing.assert_allclose(pixels(tmp_path / "a.jpg")[8::16, 8::16].astype(int), UPRIGHT, atol=4)


def test_unknown_orientation_means_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    Image.fromarray(UPRIGHT).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), UPRIGHT)


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
def test_pixel_modes(
    tmp_path: Path, name: str, image: Image.Image, options: dict[str, Any], expected: list[Any], tolerance: int
) -> None:
    image.save(tmp_path / name, **options)
    got = pixels(tmp_path / name).reshape(-1, 3)
    np.testing.assert_allclose(got.astype(int), expected, atol=tolerance)


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 3), color) for color in (RED, BLUE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (pixels(tmp_path / "a.gif") == RED).all()


def _truncated_jpeg(path: Path) -> None:
    Image.fromarray(noise()).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-600])


def _damaged_png(path: Path) -> None:
    Image.fromarray(noise()).save(path)
    content = bytearray(path.read_bytes())
    content[60:400] = bytes(340)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("cut.jpg", _truncated_jpeg, "broken or truncated image"),
        ("damaged.png", _damaged_png, "broken or truncated image"),
        ("empty.jpg", lambda path: path.write_bytes(b""), "the file is empty"),
        ("text.jpg", lambda path: path.write_text("no picture\n"), "not an image"),
        ("missing.jpg", lambda path: None, "no such file"),
        ("folder.jpg", lambda path: path.mkdir(), "got a folder"),
    ],
)
def test_bad_files_are_named_with_the_cause(tmp_path: Path, name: str, make: Any, message: str) -> None:
    make(tmp_path / name)
    with pytest.raises(DataError, match=message) as caught:
        read_image(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow also warns about what it then refuses
def test_every_truncation_of_a_file_is_a_data_error_or_an_image(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.gif", "a.webp", "a.tiff", "a.bmp"):
        Image.fromarray(noise(16, 16)).save(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        for length in range(1, len(content), max(1, len(content) // 25)):
            (tmp_path / name).write_bytes(content[:length])
            try:
                assert read_image(tmp_path / name).shape == (3, 16, 16)
            except DataError as error:
                assert name in str(error)  # noqa: PT017


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    Image.fromarray(UPRIGHT).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path / "a.png")


def test_more_pixels_than_pillow_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise()).save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"big\.png.*too large.*MAX_IMAGE_PIXELS"):
        read_image(tmp_path / "big.png")


@pytest.mark.slow
def test_huge_legal_image(tmp_path: Path) -> None:
    Image.new("RGB", (8000, 6000), RED).save(tmp_path / "huge.png", compress_level=1)
    image = read_image(tmp_path / "huge.png")
    assert image.shape == (3, 6000, 8000)
    assert image[:, -1, -1].tolist() == list(RED)


def test_arrays_and_tensors_equal_the_file(tmp_path: Path) -> None:
    array = noise()
    Image.fromarray(array).save(tmp_path / "a.png")
    for source in (str(tmp_path / "a.png"), tmp_path / "a.png", Image.fromarray(array), array,
                   torch.from_numpy(array).permute(2, 0, 1), np.asfortranarray(array), array[::-1][::-1]):  # fmt: skip
        np.testing.assert_array_equal(pixels(source), array)
    gray = array[:, :, 0]
    np.testing.assert_array_equal(pixels(gray), np.repeat(gray[:, :, None], 3, axis=2))


def test_the_source_is_not_shared() -> None:
    array = noise()
    array.setflags(write=False)
    tensor = torch.zeros(3, 4, 4, dtype=torch.uint8)
    for source in (array, array[:1, :1], tensor):
        before = pixels(source).copy()
        read_image(source).fill_(7)
        np.testing.assert_array_equal(pixels(source), before)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), r"expected uint8 .* got float32 .*255 \* image"),
        (np.zeros((3, 4, 5), np.uint8), r"got uint8 of shape \(3, 4, 5\); an array has its channels last"),
        (np.zeros((4, 5, 4), np.uint8), "alpha"),
        (np.zeros((1, 4, 5, 3), np.uint8), r"got uint8 of shape \(1, 4, 5, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), r"\(0, 5, 3\)"),
        (torch.zeros(3, 4, 5), r"expected uint8 of shape \(3, H, W\) .* got torch.float32"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), "a tensor has its channels first"),
        (torch.zeros(4, 5, dtype=torch.uint8), r"got torch.uint8 of shape \(4, 5\)"),
        (None, "got builtins.NoneType"),
        ([1, 2], "got builtins.list"),
    ],
)
def test_wrong_arrays(source: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_image(source)


@pytest.mark.data
def test_photographs(data_dir: Path) -> None:
    paths = iter_image_paths([data_dir / "photos"])
    assert len(paths) == 20
    for path in paths:
        np.testing.assert_array_equal(pixels(path), np.asarray(Image.open(path).convert("RGB")))


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


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([""], ["a[1].png", "f1.png", "f2.JPG", "f10.jpg"]),
        (["sub"], ["sub/f3.jpg"]),
        (["**/*"], ["a[1].png", "f1.png", "f2.JPG", "f10.jpg", "sub/deep/f4.webp", "sub/f3.jpg"]),
        (["f*"], ["f1.png", "f2.JPG", "f10.jpg"]),
        (["f10.jpg", "f1.png"], ["f10.jpg", "f1.png"]),
        (["f10.jpg", "f*", "sub/../f10.jpg"], ["f10.jpg", "f1.png", "f2.JPG"]),
        (["odd.dat", "notes.txt"], ["odd.dat", "notes.txt"]),
        (["a[1].png"], ["a[1].png"]),
    ],
)
def test_paths(tree: Path, inputs: list[str], expected: list[str]) -> None:
    assert [
        path.relative_to(tree).as_posix() for path in iter_image_paths([tree / name for name in inputs])
    ] == expected


def test_no_inputs_give_no_paths() -> None:
    assert iter_image_paths([]) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing.jpg", "no such file or folder"),
        ("none", "folder without images"),
        ("none/*", "no image matches; 1 other paths do"),
        ("*.bmp", "no image matches"),
    ],
)
def test_inputs_without_images_are_named(tree: Path, given: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        iter_image_paths([tree / "f1.png", tree / given])
    assert given in str(caught.value)
