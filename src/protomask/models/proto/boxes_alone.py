"""What a mask can learn where only the object's box is known."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from protomask.ops.colors import srgb_to_lab

_FILLED = 0.3
"""Weight of the guess that a place in the box is of the object, where that one outside is not has weight 1."""
_COLOR_SPREAD = 2.0
"""Distance in CIELAB at which the likeness of two colours has fallen to 1 / e."""
_LIKENESS = 0.3
"""Two places whose colours are at least so alike should both be of the object, or neither."""
_APART = 2
"""Cells between neighbours that are compared."""


def loss_from_boxes(logits: Tensor, within: Tensor, colors: Tensor, side: int) -> Tensor:
    """Three terms with equal weights, of which two are those of Tian et al. 2021 (BoxInst, equations 2 and 4).

    Projection: the mask reaches the four sides of the box, its maxima along rows and columns being compared with those
    of the box by Dice. Pairwise: where neighbours look alike, both are in the mask or neither is. These two alone need
    thousands of steps before masks are more than a few pixels; so as in GrabCut (Rother et al. 2004) places outside the
    box are surely background, and those inside are the object's unless their colours tell otherwise.

    Args:
        logits: (N, K, P) of K masks of each of N objects, at P places, a grid of ``side`` rows.
        within: (N, P) bool, whether the places lie in the object's box.
        colors: (N, P, 3) sRGB of the places, 0..1.
        side: places along each side of the grid.

    Returns:
        (N, K).

    """
    grid, inside = logits.reshape(*logits.shape[:2], side, side), within.reshape(-1, side, side)
    lab = srgb_to_lab(colors).reshape(-1, side, side, 3)
    return _single(logits, within) + _projection(grid.sigmoid(), inside) + _pairwise(grid, inside, lab)


def _single(logits: Tensor, within: Tensor) -> Tensor:
    """(N, K): cross entropy of (N, K, P), means outside the (N, P) box and, with less weight, inside."""
    outside = (F.softplus(logits) * ~within[:, None]).sum(dim=-1) / (~within).sum(dim=-1).clamp(min=1)[:, None]
    inside = (F.softplus(-logits) * within[:, None]).sum(dim=-1) / within.sum(dim=-1).clamp(min=1)[:, None]
    return outside + _FILLED * inside


def _projection(probs: Tensor, inside: Tensor) -> Tensor:
    """(N, K): 1 less Dice between the maxima of (N, K, s, s) along each axis and those of (N, s, s)."""
    total = probs.new_zeros(probs.shape[:2])
    for axis in (-1, -2):
        found, wanted = probs.amax(dim=axis), inside.any(dim=axis)[:, None].to(probs)
        halves = (found**2).sum(dim=-1) + wanted.sum(dim=-1)
        total = total + 1 - 2 * (found * wanted).sum(dim=-1) / halves.clamp(min=1e-6)
    return total


def _pairwise(logits: Tensor, inside: Tensor, lab: Tensor) -> Tensor:
    """(N, K): mean negative logarithm of the probability that neighbours that look alike are of one kind."""
    total, count = logits.new_zeros(logits.shape[:2]), logits.new_zeros(len(logits))
    for one, other in _neighbours():
        distance = (lab[one] - lab[other]).norm(dim=-1)
        alike = ((-distance / _COLOR_SPREAD).exp() >= _LIKENESS) & (inside[one] | inside[other])
        first, second = logits[(slice(None), *one)], logits[(slice(None), *other)]
        both, neither = F.logsigmoid(first) + F.logsigmoid(second), F.logsigmoid(-first) + F.logsigmoid(-second)
        total = total - (torch.logaddexp(both, neither) * alike[:, None]).sum(dim=(-2, -1))
        count = count + alike.sum(dim=(-2, -1))
    return total / count.clamp(min=1)[:, None]


def _neighbours() -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Two parts of (N, s, s) for each of four directions, so that neighbours lie at the same place in both."""
    whole, near, far = slice(None), slice(None, -_APART), slice(_APART, None)
    yield (whole, whole, near), (whole, whole, far)
    yield (whole, near, whole), (whole, far, whole)
    yield (whole, near, near), (whole, far, far)
    yield (whole, near, far), (whole, far, near)
