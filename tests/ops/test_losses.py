from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from protomask.ops.losses import cropped_mask_bce_sums, mine_hard_negatives, smooth_l1_sum, two_bin_cross_entropy
from protomask.ops.matching import BACKGROUND, NEUTRAL


def plain_hard_negatives(logits: Tensor, labels: Tensor, ratio: int) -> list[set[int]]:
    """The definition, image by image: rank every anchor, take the first so many, keep the background ones."""
    chosen = []
    for image_logits, image_labels in zip(logits, labels, strict=True):
        hardness = image_logits.logsumexp(dim=1) - image_logits[:, 0]
        hardness[image_labels != BACKGROUND] = 0
        count = min(ratio * int((image_labels > BACKGROUND).sum()), len(image_labels) - 1)
        ranked = hardness.argsort(descending=True)[:count].tolist()
        chosen.append({anchor for anchor in ranked if image_labels[anchor] == BACKGROUND})
    return chosen


@given(st.integers(1, 3), st.integers(1, 30), st.integers(1, 4), st.integers(0, 2**32))
def test_hard_negatives_follow_their_definition(images: int, anchors: int, ratio: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, anchors, 4, generator=generator)
    labels = torch.randint(-1, 4, (images, anchors), generator=generator)
    labels[torch.rand(images, anchors, generator=generator) < 0.6] = BACKGROUND
    chosen = mine_hard_negatives(logits, labels, negatives_per_positive=ratio)
    assert [set(row.nonzero()[:, 0].tolist()) for row in chosen] == plain_hard_negatives(logits, labels, ratio)


def test_no_negatives_without_positives() -> None:
    labels = torch.tensor([[BACKGROUND, NEUTRAL, BACKGROUND], [BACKGROUND, 1, NEUTRAL]])
    chosen = mine_hard_negatives(torch.randn(2, 3, 4), labels)
    assert chosen.tolist() == [[False] * 3, [True, False, False]]


def test_mining_passes_no_gradient_and_survives_certain_logits() -> None:
    logits = torch.tensor([[[1e4, 0.0], [0.0, 1e4], [0.0, 0.0]]], requires_grad=True)
    chosen = mine_hard_negatives(logits, torch.tensor([[BACKGROUND, BACKGROUND, 1]]), negatives_per_positive=1)
    assert chosen.tolist() == [[False, True, False]]
    assert not chosen.requires_grad


def dense_mask_loss(mask_logits: Tensor, targets: Tensor, inside: Tensor) -> Tensor:
    """The published form: probabilities, zero outside the crop, and PyTorch's clamp of the logarithm."""
    probabilities = mask_logits.double().sigmoid() * inside
    return F.binary_cross_entropy(probabilities, targets.double(), reduction="none").flatten(1).sum(dim=1)


@given(st.integers(0, 5), st.integers(0, 2**32))
def test_cropped_loss_equals_the_dense_published_form(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, 6, 7, generator=generator)
    targets = torch.rand(count, 6, 7, generator=generator) < 0.4
    inside = torch.rand(count, 6, 7, generator=generator) < 0.7
    sums = cropped_mask_bce_sums(logits, targets, inside)
    torch.testing.assert_close(sums.double(), dense_mask_loss(logits, targets, inside), rtol=1e-5, atol=1e-4)


def test_gradients_equal_those_of_the_dense_form() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 5, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    targets, inside = torch.rand(2, 3, 5, 5, generator=generator).gt(0.5).unbind()
    (own,) = torch.autograd.grad(cropped_mask_bce_sums(logits, targets, inside).sum(), logits)
    (dense,) = torch.autograd.grad(dense_mask_loss(logits, targets, inside).sum(), logits)
    torch.testing.assert_close(own, dense)
    assert own[~inside].abs().max() == 0


def test_a_wrong_and_certain_pixel_costs_its_logit() -> None:
    everywhere = torch.ones(1, 1, 1, dtype=torch.bool)
    sums = cropped_mask_bce_sums(torch.full((1, 1, 1), 500.0), ~everywhere, everywhere)
    assert sums.tolist() == [500.0]


def test_a_target_outside_its_crop_costs_100_a_pixel() -> None:
    nowhere = torch.zeros(1, 2, 2, dtype=torch.bool)
    assert cropped_mask_bce_sums(torch.zeros(1, 2, 2), ~nowhere, nowhere).tolist() == [400.0]


@pytest.mark.parametrize(("difference", "loss"), [(0.5, 0.125), (1.0, 0.5), (-3.0, 2.5)])
def test_smooth_l1(difference: float, loss: float) -> None:
    prediction = torch.tensor([difference, 0.0])
    assert smooth_l1_sum(prediction, torch.zeros(2)).item() == pytest.approx(loss)
    assert smooth_l1_sum(prediction[:0], torch.zeros(0)).item() == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [(-2.0, {0: 1.0}), (0.0, {2: 1.0}), (0.25, {2: 0.75, 3: 0.25}), (2.0, {4: 1.0}), (9.0, {4: 1.0}), (-9.0, {0: 1.0})],
)
def test_a_value_teaches_the_bins_beside_it(value: float, expected: dict[int, float]) -> None:
    logits = torch.tensor([0.3, -1.0, 2.0, 0.0, 1.0], requires_grad=True)  # of -2, -1, 0, 1, 2
    loss = two_bin_cross_entropy(logits, torch.tensor(value), 2.0)
    wanted = torch.zeros(5)
    for place, share in expected.items():
        wanted[place] = share
    torch.testing.assert_close(loss, F.cross_entropy(logits, wanted))
    [gradient] = torch.autograd.grad(loss, [logits])
    torch.testing.assert_close(gradient, logits.detach().softmax(dim=0) - wanted)
