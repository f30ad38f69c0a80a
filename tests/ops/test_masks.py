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
from torch.nn import functional as F

from protomask.errors import DataError
from protomask.masks.grids import GridWindow, assemble_windows, cut_windows, interpolate_runs, region_lines, resized_line
from protomask.masks.polygons import Polygon, mask_to_polygons, polygons_to_mask
from protomask.ops.masks import assemble_masks, crop_masks, mask_iou, sanitize_boxes
from protomask.masks.runs import boxes_of_masks, intersect_runs, mask_runs, move_runs, rectangle_runs, runs_area, runs_to_window, unite_runs
from protomask.masks.rle import decode_rle, encode_rle, encode_runs, rle_area

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


# Interpolation. `interpolated` is the dense definition that every mask on a grid stands for.


def interpolated(probs: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, h, w) to (N, H, W) float32, by PyTorch."""
    return F.interpolate(probs[None], size, mode="bilinear", align_corners=False)[0]


def enlarged(windows: list[GridWindow], grid: tuple[int, int], size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """(N, H, W) bool, by runs and windows."""
    rows, columns = (resized_line(*sides) for sides in zip(grid, size, strict=True))
    masks = torch.zeros(len(windows), *size, dtype=torch.bool)
    found = interpolate_runs(windows, rows, columns, size[0], threshold=threshold)
    for mask, runs in zip(masks, found, strict=True):
        assert (np.diff(runs.ravel()) > 0).all()
        top, left, part = runs_to_window(runs, size[0])
        mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        assert torch.equal(decode_rle(encode_runs([runs], size)[0]), mask)
        assert np.array_equal(mask_runs(mask), runs)
    return masks


grids = st.tuples(*[st.integers(1, 24)] * 2)
sizes = st.tuples(*[st.integers(1, 60)] * 2)


@given(grids, sizes, st.integers(0, 2**32), st.booleans(), st.sampled_from([0.0, 0.3, 0.5]))
@settings(max_examples=150, deadline=None)
def test_runs_are_those_of_the_dense_definition(
    grid: tuple[int, int], size: tuple[int, int], seed: int, sparse: bool, threshold: float
) -> None:
    """Equal but where the interpolated value is within 1e-6 of the threshold.

    There rounding decides: PyTorch interpolates both axes in float32, here the crossing down a column is computed in
    float64 from columns interpolated in float32. The next test has no such pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    probs = torch.rand(3, *grid, generator=generator)
    if sparse:
        probs *= torch.rand(3, *grid, generator=generator) > 0.8
    dense = interpolated(probs, size)
    differ = enlarged(cut_windows(probs, threshold=threshold), grid, size, threshold) != (dense > threshold)
    assert ((dense[differ] - threshold).abs() < 1e-6).all()


@given(grids, st.tuples(*[st.sampled_from([1, 2, 4, 8])] * 2), st.integers(0, 2**32), st.sampled_from([2, 4, 64]))
@settings(max_examples=150, deadline=None)
def test_runs_are_bit_equal_to_the_dense_definition_where_floats_are_exact(
    grid: tuple[int, int], factors: tuple[int, int], seed: int, levels: int
) -> None:
    """Multiples of 1/64, enlarged by powers of two: no rounding anywhere, and many values exactly at the threshold."""
    generator = torch.Generator().manual_seed(seed)
    probs = torch.randint(0, levels + 1, (3, *grid), generator=generator) / levels
    size = (grid[0] * factors[0], grid[1] * factors[1])
    assert torch.equal(enlarged(cut_windows(probs), grid, size), interpolated(probs, size) > 0.5)


@given(grids, sizes, st.integers(0, 2**32), st.integers(0, 2))
@settings(max_examples=150, deadline=None)
def test_assembly_in_windows_is_assembly_and_crop(
    grid: tuple[int, int], size: tuple[int, int], seed: int, padding: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    prototypes = torch.randn(*grid, 4, generator=generator)
    coefficients = torch.randn(5, 4, generator=generator)
    boxes = torch.rand(5, 4, generator=generator) * 2 - 0.5  # reversed and outside, too
    dense = crop_masks(assemble_masks(prototypes, coefficients), boxes, padding=padding)
    windows = assemble_windows(prototypes, coefficients, boxes, padding=padding)
    painted = torch.zeros_like(dense)
    for probs, (top, left, part) in zip(painted, windows, strict=True):
        probs[top : top + part.shape[0], left : left + part.shape[1]] = torch.from_numpy(part)
    assert torch.equal(painted > 0, dense > 0)
    torch.testing.assert_close(painted, dense, rtol=0, atol=1e-6)
    # The same floats give the same masks, whether they come as windows or as whole grids.
    assert torch.equal(enlarged(windows, grid, size), enlarged(cut_windows(painted), grid, size))
    values = interpolated(painted, size)
    differ = enlarged(windows, grid, size) != (values > 0.5)
    assert ((values[differ] - 0.5).abs() < 1e-6).all()


def test_the_threshold_is_strict() -> None:
    assert not enlarged(cut_windows(torch.full((1, 2, 2), 0.5)), (2, 2), (2, 2)).any()
    assert enlarged(cut_windows(torch.full((1, 2, 2), 0.6)), (2, 2), (3, 5)).all()


def test_diverged_probabilities_give_some_mask() -> None:
    probs = torch.rand(3, 6, 6)
    probs[0, 2:4], probs[1, 1, 1], probs[2, 3] = float("nan"), float("inf"), -float("inf")
    assert enlarged(cut_windows(probs), (6, 6), (20, 30)).shape == (3, 20, 30)


def test_no_masks_and_no_pixels() -> None:
    assert cut_windows(torch.zeros(0, 4, 4)) == enlarged([], (4, 4), (7, 9)).tolist() == []
    assert assemble_windows(torch.zeros(4, 4, 2), torch.zeros(0, 2), torch.zeros(0, 4)) == []
    assert encode_runs([], (7, 9)) == []
    assert not enlarged(cut_windows(torch.zeros(2, 4, 4)), (4, 4), (7, 9)).any()


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
    x1, y1, x2, y2 = box
    rows, columns = region_lines((x1, y1, x2, y2), len(mask), SIZE, continuous=continuous)
    (runs,) = interpolate_runs([GridWindow(0, 0, mask.numpy())], rows, columns, SIZE[0])
    return decode_rle(encode_runs([runs], SIZE)[0])


def blob(seed: int) -> Tensor:
    return torch.rand(28, 28, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_integer_paste_equals_torchvisions(box: tuple[float, ...]) -> None:
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    for seed in range(5):
        (wanted,) = paste_masks_in_image(blob(seed)[None, None], torch.tensor([box]), SIZE)
        differ = pasted(blob(seed), box, continuous=False) != (wanted[0] > 0.5)
        assert ((wanted[0][differ] - 0.5).abs() < 1e-5).all()


@pytest.mark.parametrize("box", [box for name, box in BOXES.items() if not name.startswith("no ")])
def test_continuous_paste_equals_sampling_the_whole_image(box: tuple[float, ...]) -> None:
    x1, y1, x2, y2 = box
    y = (torch.arange(SIZE[0]) + 0.5 - y1) / (y2 - y1) * 2 - 1
    x = (torch.arange(SIZE[1]) + 0.5 - x1) / (x2 - x1) * 2 - 1
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)
    for seed in range(5):
        (wanted,) = F.grid_sample(blob(seed)[None, None], grid[None], align_corners=False)[0]
        differ = pasted(blob(seed), box, continuous=True) != (wanted > 0.5)
        assert ((wanted[differ] - 0.5).abs() < 1e-4).all()


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize(
    "box", [(-30.0, 5.0, -10.0, 9.0), (5.0, -30.0, 9.0, -10.0), (70.0, 5.0, 90.0, 9.0), (5.0, 60.0, 9.0, 80.0)]
)
def test_regions_outside_the_image_have_no_pixel(box: tuple[float, float, float, float], continuous: bool) -> None:
    assert not pasted(torch.ones(28, 28), box, continuous=continuous).any()


@pytest.mark.parametrize("box", [BOXES["no width"], BOXES["no area"]])
def test_continuous_paste_of_boxes_without_area(box: tuple[float, ...]) -> None:
    assert not pasted(torch.full((28, 28), 0.4), box, continuous=True).any()
    assert pasted(torch.full((28, 28), 0.7), box, continuous=True).sum() <= 3 * 22


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


@given(bitmaps, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_runs_move_with_their_part_of_the_frame(
    bitmap: np.ndarray[Any, np.dtype[np.bool_]], left: int, top: int, right: int, bottom: int
) -> None:
    frame = np.pad(bitmap, ((top, bottom), (left, right)))
    moved = move_runs(mask_runs(bitmap), len(bitmap), left=left, top=top, frame_height=len(frame))
    assert np.array_equal(moved, mask_runs(frame))
    box = (left, top, left + bitmap.shape[1], top + len(bitmap))
    assert np.array_equal(
        rectangle_runs(box, len(frame)), mask_runs(np.pad(bitmap | True, ((top, bottom), (left, right))))
    )


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9)))
def test_runs_of_common_and_of_all_pixels(bitmaps: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    runs = [mask_runs(bitmap) for bitmap in bitmaps]
    assert np.array_equal(unite_runs(runs), mask_runs(bitmaps.any(axis=0)))
    assert np.array_equal(intersect_runs(runs[0], runs[-1]), mask_runs(bitmaps[0] & bitmaps[-1]))
    assert runs_area(runs[0]) == bitmaps[0].sum()


def test_runs_of_nothing() -> None:
    nothing = mask_runs(np.zeros((3, 4), dtype=np.bool_))
    assert len(unite_runs([])) == len(unite_runs([nothing])) == len(rectangle_runs((2, 1, 2, 3), 3)) == 0
    assert len(move_runs(nothing, 3, left=1, top=1, frame_height=9)) == len(intersect_runs(nothing, nothing)) == 0


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
