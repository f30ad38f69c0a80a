from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from protomask.masks.grids import assemble_windows
from protomask.ops.masks import assemble_masks, crop_masks, crop_windows, mask_iou, sanitize_boxes


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, Tensor]:
    with np.load(golden_dir / "yolact" / "ops.npz") as arrays:
        return {
            name: torch.from_numpy(arrays[name])
            for name in arrays.files
            if name.startswith(("crop.", "sanitize.", "mask_iou."))
        }


# Assembly and crop


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
    cropped = crop_masks(masks, torch.tensor([[0.25, 0.25, 0.5, 0.5]]), padding=0)
    (gradient,) = torch.autograd.grad(cropped.sum(), masks)
    assert torch.nonzero(gradient[0]).tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]


@given(st.tuples(*[st.integers(1, 24)] * 2), st.integers(0, 2**32), st.integers(0, 2), st.sampled_from([0, 1, 5]))
def test_windows_without_pytorch_are_assembly_and_crop(
    grid: tuple[int, int], seed: int, padding: int, count: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    prototypes = torch.randn(*grid, 4, generator=generator)
    coefficients = torch.randn(count, 4, generator=generator)
    boxes = torch.rand(count, 4, generator=generator) * 2 - 0.5  # reversed and outside, too
    dense = crop_masks(assemble_masks(prototypes, coefficients), boxes, padding=padding)
    painted = torch.zeros_like(dense)
    windows = assemble_windows(prototypes.numpy(), coefficients.numpy(), boxes.numpy(), padding=padding)
    for probs, (top, left, part) in zip(painted, windows, strict=True):
        probs[top : top + part.shape[0], left : left + part.shape[1]] = torch.from_numpy(part)
    assert torch.equal(painted > 0, crop_windows(boxes, grid, padding=padding))
    torch.testing.assert_close(painted, dense, rtol=0, atol=1e-6)


# Overlaps


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
