from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from protomask.errors import DataError
from protomask.ops import masks as ops
from protomask.ops.masks import (
    Polygon,
    assemble_masks,
    binarize_masks,
    box_of_masks,
    crop_masks,
    decode_rle,
    encode_rle,
    iter_binary_masks,
    mask_iou,
    mask_to_polygons,
    paste_mask,
    polygons_to_mask,
    resize_masks,
    rle_area,
    sanitize_boxes,
)

bitmaps = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


def drawn(*rows: str) -> Tensor:
    return torch.tensor([[pixel == "#" for pixel in row] for row in rows])


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, Tensor]:
    with np.load(golden_dir / "yolact" / "ops.npz") as arrays:
        return {
            name: torch.from_numpy(arrays[name])
            for name in arrays.files
            if name.startswith(("crop.", "sanitize.", "mask_iou."))
        }


# Assembly, crop, resize


def test_assemble_masks_is_the_sigmoid_of_the_combination() -> None:
    prototypes, coefficients = torch.randn(5, 7, 3), torch.randn(4, 3)
    expected = torch.einsum("hwk,nk->nhw", prototypes, coefficients).sigmoid()
    torch.testing.assert_close(assemble_masks(prototypes, coefficients), expected)
    assert assemble_masks(prototypes, coefficients[:0]).shape == (0, 5, 7)


@pytest.mark.parametrize(("padding", "key"), [(1, "crop.out"), (0, "crop.out_padding0")])
def test_crop_equals_the_official_one(golden: dict[str, Tensor], padding: int, key: str) -> None:
    cropped = crop_masks(golden["crop.masks"].permute(2, 0, 1), golden["crop.boxes"], padding=padding)
    assert torch.equal(cropped, golden[key].permute(2, 0, 1))


@pytest.mark.parametrize("padding", [0, 1, 3])
@pytest.mark.parametrize("truncate", [False, True])
def test_sanitize_equals_the_official_one(golden: dict[str, Tensor], padding: int, truncate: bool) -> None:
    side = int(golden["sanitize.img_size"])
    low, high = golden["sanitize.x1"], golden["sanitize.x2"]
    boxes = sanitize_boxes(torch.stack([low, high, high, low], dim=1), (side, side), padding=padding, truncate=truncate)
    expected = golden[f"sanitize.pad{padding}.cast{int(truncate)}"]
    assert boxes.dtype == expected.dtype
    assert torch.equal(boxes, torch.stack([expected[0], expected[0], expected[1], expected[1]], dim=1))


def test_sanitize_uses_width_for_x_and_height_for_y() -> None:
    assert sanitize_boxes(torch.tensor([[0.5, 0.5, 2.0, 2.0]]), (10, 20)).tolist() == [[10.0, 5.0, 20.0, 10.0]]


def test_crop_and_sanitize_without_boxes() -> None:
    assert crop_masks(torch.zeros(0, 4, 5), torch.zeros(0, 4)).shape == (0, 4, 5)
    assert sanitize_boxes(torch.zeros(0, 4), (4, 5), truncate=True).shape == (0, 4)


def test_crop_passes_gradients_inside_only() -> None:
    masks = torch.rand(1, 8, 8, requires_grad=True)
    crop_masks(masks, torch.tensor([[0.25, 0.25, 0.5, 0.5]]), padding=0).sum().backward()
    assert masks.grad is not None
    assert torch.nonzero(masks.grad[0]).tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]


@given(st.tuples(*[st.integers(1, 24)] * 2), st.tuples(*[st.integers(1, 60)] * 2), st.integers(0, 2**32), st.booleans())
@settings(max_examples=80, deadline=None)
def test_binarize_equals_resize_and_threshold(
    grid: tuple[int, int], size: tuple[int, int], seed: int, sparse: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(3, *grid, generator=generator)
    if sparse:
        masks *= torch.rand(3, *grid, generator=generator) > 0.8
    resized = resize_masks(masks, size)
    differ = binarize_masks(masks, size) != (resized > 0.5)
    assert ((resized[differ] - 0.5).abs() < 1e-6).all()


def test_binarize_is_strict() -> None:
    assert not binarize_masks(torch.full((1, 2, 2), 0.5), (2, 2)).any()
    assert binarize_masks(torch.full((1, 2, 2), 0.6), (3, 5)).all()


def test_iteration_bounds_the_float_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = torch.rand(10, 6, 6)
    whole = binarize_masks(masks, (20, 30))
    monkeypatch.setattr(ops, "FLOAT_BUFFER_BYTES", 3 * 20 * 30 * 4)
    chunks = list(iter_binary_masks(masks, (20, 30)))
    assert [len(chunk) for chunk in chunks] == [3, 3, 3, 1]
    assert torch.equal(torch.cat(chunks), whole)
    monkeypatch.setattr(ops, "FLOAT_BUFFER_BYTES", 1)
    assert torch.equal(torch.cat(list(iter_binary_masks(masks, (20, 30)))), whole)
    assert [len(chunk) for chunk in iter_binary_masks(masks, (2, 2), max_chunk=4)] == [1] * 10


def test_resize_without_masks() -> None:
    assert resize_masks(torch.zeros(0, 4, 4), (7, 9)).shape == (0, 7, 9)
    assert binarize_masks(torch.zeros(0, 4, 4), (7, 9)).shape == (0, 7, 9)
    assert list(iter_binary_masks(torch.zeros(0, 4, 4), (7, 9))) == []


# Pasting

SIZE = (40, 50)
BOXES = {
    "inside": (3.3, 4.7, 20.2, 30.9),
    "whole pixels": (10.0, 10.0, 20.0, 20.0),
    "whole image": (0.0, 0.0, 50.0, 40.0),
    "over the corner": (-7.5, -3.2, 12.1, 9.9),
    "over the far corner": (41.0, 33.0, 66.0, 58.0),
    "larger than the image": (-20.0, -30.0, 80.0, 90.0),
    "small": (10.2, 10.3, 10.9, 11.1),
    "no width": (10.0, 5.0, 10.0, 25.0),
    "no area": (10.5, 5.5, 10.5, 5.5),
}


def pasted(mask: Tensor, box: tuple[float, ...], *, continuous: bool) -> Tensor:
    whole = torch.zeros(SIZE)
    x1, y1, x2, y2 = box
    window, part = paste_mask(mask, (x1, y1, x2, y2), SIZE, continuous=continuous)
    whole[window] = part
    return whole


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_integer_paste_equals_torchvisions(box: tuple[float, ...]) -> None:
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    mask = torch.rand(28, 28, generator=torch.Generator().manual_seed(0))
    (wanted,) = paste_masks_in_image(mask[None, None], torch.tensor([box]), SIZE)
    torch.testing.assert_close(pasted(mask, box, continuous=False), wanted[0])


@pytest.mark.parametrize("box", [box for name, box in BOXES.items() if not name.startswith("no ")])
def test_continuous_paste_equals_sampling_the_whole_image(box: tuple[float, ...]) -> None:
    mask = torch.rand(28, 28, generator=torch.Generator().manual_seed(0))
    x1, y1, x2, y2 = box
    y = (torch.arange(SIZE[0]) + 0.5 - y1) / (y2 - y1) * 2 - 1
    x = (torch.arange(SIZE[1]) + 0.5 - x1) / (x2 - x1) * 2 - 1
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)
    (wanted,) = torch.nn.functional.grid_sample(mask[None, None], grid[None], align_corners=False)[0]
    got = pasted(mask, box, continuous=True)
    # Half a mask cell of a large box reaches farther than the window, but fades to below a half there.
    torch.testing.assert_close(got >= 0.5, wanted >= 0.5)
    inside = got > 0
    torch.testing.assert_close(got[inside], wanted[inside], rtol=0, atol=1e-4)


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize(
    "box", [(-30.0, 5.0, -10.0, 9.0), (5.0, -30.0, 9.0, -10.0), (70.0, 5.0, 90.0, 9.0), (5.0, 60.0, 9.0, 80.0)]
)
def test_masks_outside_the_image_have_no_window(box: tuple[float, float, float, float], continuous: bool) -> None:
    window, part = paste_mask(torch.ones(28, 28), box, SIZE, continuous=continuous)
    assert part.numel() == 0
    assert torch.zeros(SIZE)[window].shape == part.shape


@pytest.mark.parametrize("box", [BOXES["no width"], BOXES["no area"]])
def test_continuous_paste_of_boxes_without_area_is_finite(box: tuple[float, ...]) -> None:
    got = pasted(torch.full((28, 28), 0.7), box, continuous=True)
    assert got.isfinite().all()
    assert ((got == 0) | ((got - 0.7).abs() < 1e-6)).all()


# Boxes and overlaps


def test_box_of_masks_has_exclusive_far_edges() -> None:
    masks = torch.stack([drawn("....", ".#..", "...."), drawn("...#", "....", "#..."), drawn("....", "....", "....")])
    boxes = box_of_masks(masks)
    assert boxes.dtype == torch.float32
    assert boxes.tolist() == [[1, 1, 2, 2], [0, 0, 4, 3], [0, 0, 0, 0]]
    assert box_of_masks(torch.zeros(0, 3, 4, dtype=torch.bool)).shape == (0, 4)
    assert box_of_masks(torch.zeros(2, 0, 4, dtype=torch.bool)).tolist() == [[0] * 4] * 2


def test_mask_iou_equals_the_official_one(golden: dict[str, Tensor]) -> None:
    a, b = golden["mask_iou.a"], golden["mask_iou.b"]
    assert torch.equal(mask_iou(a, b), golden["mask_iou.out"])
    assert torch.equal(mask_iou(a, b, torch.ones(5, dtype=torch.bool)), golden["mask_iou.crowd_out"])
    mixed = torch.tensor([True, False, True, False, False])
    expected = torch.where(mixed, golden["mask_iou.crowd_out"], golden["mask_iou.out"])
    assert torch.equal(mask_iou(a, b, mixed), expected)


def test_mask_iou_of_nothing() -> None:
    some, none = torch.ones(2, 3, 4, dtype=torch.bool), torch.zeros(0, 3, 4, dtype=torch.bool)
    assert mask_iou(some, none).shape == (2, 0)
    assert mask_iou(none, some).shape == (0, 2)
    assert mask_iou(none, none).shape == (0, 0)
    blank = torch.zeros(1, 3, 4, dtype=torch.bool)
    assert mask_iou(blank, blank, torch.tensor([True])).item() == 0


# Run-length codes


@given(bitmaps)
@settings(max_examples=200, deadline=None)
def test_rle_equals_the_coco_api(bitmap: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    expected = coco.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    (rle,) = encode_rle(torch.from_numpy(bitmap)[None])
    assert rle == {"size": list(bitmap.shape), "counts": expected["counts"].decode()}
    assert np.array_equal(decode_rle(rle).numpy(), bitmap)
    assert np.array_equal(decode_rle(expected).numpy(), bitmap)
    assert rle_area(rle) == bitmap.sum()


def test_rle_of_large_masks_with_long_and_shrinking_runs() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(6, 700, 900, dtype=torch.bool)
    for mask in masks[:5]:
        for _ in range(4):
            y, x, h, w = (int(v) for v in torch.randint(0, 600, (4,), generator=generator))
            mask[y : y + h, x : x + w] ^= True
    masks[4] = True
    expected = coco.encode(np.asfortranarray(masks.permute(1, 2, 0).numpy().astype(np.uint8)))
    codes = encode_rle(masks)
    assert [code["counts"] for code in codes] == [code["counts"].decode() for code in expected]
    assert torch.equal(torch.stack([decode_rle(code) for code in codes]), masks)


def test_rle_of_views_and_of_nothing() -> None:
    mask = torch.rand(9, 14, 8) > 0.5
    view = mask.permute(2, 0, 1)[:, ::2, 1:]
    assert torch.equal(torch.stack([decode_rle(code) for code in encode_rle(view)]), view)
    assert encode_rle(torch.zeros(0, 4, 5, dtype=torch.bool)) == []
    (blank,) = encode_rle(torch.zeros(1, 0, 5, dtype=torch.bool))
    assert decode_rle(blank).shape == (0, 5)


def test_uncompressed_counts() -> None:
    rle = {"size": [2, 3], "counts": [1, 2, 3]}
    assert torch.equal(decode_rle(rle), drawn(".#.", "#.."))
    assert rle_area(rle) == 2


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"counts": "0"}, "'size' and 'counts'"),
        ("52203", "'size' and 'counts'"),
        ({"size": [2], "counts": "6"}, "height, width"),
        ({"size": None, "counts": "6"}, "height, width"),
        ({"size": [-2, -3], "counts": "6"}, "at least 0"),
        ({"size": [2, 3], "counts": "5"}, "2 x 3 = 6 pixels in total, got 5"),
        ({"size": [2, 3], "counts": ""}, "got 0"),
        ({"size": [2, 3], "counts": "7"}, "within 2 x 3"),
        ({"size": [2, 3], "counts": "6 "}, "got ' ' at position 1"),
        ({"size": [2, 3], "counts": b"6\xff"}, "at position 1"),
        ({"size": [2, 3], "counts": "6é"}, "ASCII"),
        ({"size": [2, 3], "counts": "1P"}, "complete last number"),
        ({"size": [2, 3], "counts": "PPPPPPPP0"}, "at most 7"),
        ({"size": [2, 3], "counts": "O7"}, "run lengths of at least 0, got -1"),
        ({"size": [2, 3], "counts": [7, -1]}, "at least 0, got -1"),
        ({"size": [2, 3], "counts": [1.5, 4.5]}, "list of integers"),
        ({"size": [2, 3], "counts": [[6]]}, "list of integers"),
        ({"size": [2, 3], "counts": [[6], [1, 2]]}, "flat list"),
        ({"size": [2, 3], "counts": None}, "NoneType"),
    ],
)
def test_malformed_rle_says_what_was_expected(rle: Any, message: str) -> None:
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        decode_rle(rle)


@given(st.text(alphabet=[chr(code) for code in range(48, 112)], max_size=30), st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_any_counts_decode_or_raise_data_error(counts: str, height: int, width: int) -> None:
    try:
        mask = decode_rle({"size": [height, width], "counts": counts})
    except DataError:
        return
    assert mask.shape == (height, width)


# Polygons


def ring_area(ring: np.ndarray[Any, np.dtype[Any]]) -> float:
    x, y = ring.astype(float).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


PICTURES = {
    "empty": (drawn("...", "..."), []),
    "full": (drawn("###", "###"), [(4, [])]),
    "pixel": (drawn("...", ".#."), [(4, [])]),
    "two parts": (drawn("#.#"), [(4, []), (4, [])]),
    "corner touch": (drawn("#.", ".#"), [(4, []), (4, [])]),
    "other corner touch": (drawn(".#", "#."), [(4, []), (4, [])]),
    "ring": (drawn("###", "#.#", "###"), [(4, [4])]),
    "two holes touching in a corner": (drawn("####", "#.##", "##.#", "####"), [(4, [4, 4])]),
    "ring closed by a corner": (drawn("###", "#.#", "##."), [(6, [4])]),
    "island in a hole": (drawn("#####", "#...#", "#.#.#", "#...#", "#####"), [(4, [4]), (4, [])]),
    "second part owns the hole": (drawn("#.####", "..#..#", "..####"), [(4, []), (4, [4])]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_polygons_of_pictures(name: str) -> None:
    mask, expected = PICTURES[name]
    polygons = mask_to_polygons(mask)
    assert [(len(p.exterior), [len(hole) for hole in p.holes]) for p in polygons] == expected
    assert torch.equal(polygons_to_mask(polygons, tuple(mask.shape)), mask)


def test_a_square_starts_at_its_top_left_corner_and_runs_clockwise() -> None:
    (polygon,) = mask_to_polygons(drawn("....", ".##.", ".##."))
    assert polygon.exterior.tolist() == [[1, 1], [3, 1], [3, 3], [1, 3]]


@given(bitmaps)
@settings(max_examples=300, deadline=None)
def test_polygons_keep_every_pixel(bitmap: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    polygons = mask_to_polygons(bitmap)
    assert np.array_equal(polygons_to_mask(polygons, bitmap.shape).numpy(), bitmap)
    height, width = bitmap.shape
    area = 0.0
    for polygon in polygons:
        assert ring_area(polygon.exterior) > 0
        assert all(ring_area(hole) < 0 for hole in polygon.holes)
        area += ring_area(polygon.exterior) + sum(map(ring_area, polygon.holes))
        for ring in (polygon.exterior, *polygon.holes):
            assert len({tuple(vertex) for vertex in ring.tolist()}) == len(ring)
            steps = np.roll(ring, -1, axis=0) - ring
            assert ((steps == 0).sum(axis=1) == 1).all()
            assert ((steps[:, 0] == 0) != (np.roll(steps, 1, axis=0)[:, 0] == 0)).all()
        filled = polygons_to_mask([Polygon(polygon.exterior)], (height, width)).numpy()
        for hole in polygon.holes:
            assert not (polygons_to_mask([Polygon(hole)], (height, width)).numpy() & ~filled).any()
        # The COCO rasteriser agrees on outlines along pixel edges.
        (code,) = coco.frPyObjects([polygon.exterior.astype(float).ravel().tolist()], height, width)
        assert np.array_equal(coco.decode(code).astype(bool), filled)
    assert area == bitmap.sum()


@given(st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_polygons_of_nested_rings(seed: int) -> None:
    rows, columns = np.mgrid[:70, :90]
    y, x, period = np.random.default_rng(seed).uniform((0, 0, 4), (70, 90, 12))
    bitmap = (np.hypot(rows - y, columns - x) % period) < period / 2
    assert np.array_equal(polygons_to_mask(mask_to_polygons(bitmap), bitmap.shape).numpy(), bitmap)


def test_rasterising_takes_fractions_either_direction_and_cuts_at_the_frame() -> None:
    square = np.array([[-5.0, 0.6], [1.5, 0.6], [1.5, 9.0], [-5.0, 9.0]])
    expected = drawn("...", "#..", "#..")
    for ring in (square, square[::-1]):
        assert torch.equal(polygons_to_mask([Polygon(ring)], (3, 3)), expected)
    triangle = Polygon(np.array([[0, 0], [4.5, 4], [0, 4]]))
    assert torch.equal(polygons_to_mask([triangle], (4, 4)), drawn("#...", "##..", "###.", "####"))
    assert not polygons_to_mask([], (2, 3)).any()


def test_overlapping_parts_are_united() -> None:
    frame = Polygon(np.array([[0, 0], [4, 0], [4, 4], [0, 4]]), (np.array([[1, 1], [1, 3], [3, 3], [3, 1]]),))
    bar = Polygon(np.array([[0, 1], [4, 1], [4, 2], [0, 2]]))
    assert torch.equal(polygons_to_mask([frame, bar], (4, 4)), drawn("####", "####", "#..#", "####"))


def test_polygons_accept_tensors_and_are_int32() -> None:
    (polygon,) = mask_to_polygons(torch.ones(2, 2, dtype=torch.bool))
    assert polygon.exterior.dtype == np.int32
