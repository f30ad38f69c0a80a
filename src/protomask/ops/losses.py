"""Loss terms on plain tensors, each reduced to a sum so that the caller decides the normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from protomask.ops.matching import BACKGROUND


def shared_count(count: Tensor) -> Tensor:
    """What to divide a sum of losses by: the number of terms, at least 1.

    In distributed training the mean of the gradients over all processes is then that of one process with all images:
    every process divides by its share of all terms, not by its own number of them.

    Args:
        count: scalar, terms in the sum of this process.

    Returns:
        Scalar, float32.

    """
    total = count.float()
    if not (distributed.is_available() and distributed.is_initialized()):
        return total.clamp(min=1)
    total = total.clone()
    distributed.all_reduce(total)
    return total.clamp(min=1) / distributed.get_world_size()


def smooth_l1_sum(prediction: Tensor, target: Tensor) -> Tensor:
    """Sum of the smooth L1 distance, beta 1 (Girshick 2015, Fast R-CNN, eq. 3)."""
    return F.smooth_l1_loss(prediction, target, reduction="sum")


def varifocal_sum(
    logits: Tensor, quality: Tensor, weights: Tensor | None = None, *, alpha: float = 0.75, gamma: float = 2.0
) -> Tensor:
    """Sum of the varifocal loss (Zhang et al. 2021, VarifocalNet, eq. 2): scores learn a quality.

    Positives count as much as their quality; what should score nothing counts less the lower it scores already.

    Args:
        logits: (...) before the sigmoid.
        quality: (...) in [0, 1], 0 for negatives.
        weights: (...) further factors; all 1 by default.
        alpha: weight of negatives.
        gamma: exponent of their scores.

    """
    weight = torch.where(quality > 0, quality, alpha * logits.detach().sigmoid() ** gamma)
    if weights is not None:
        weight = weight * weights
    return F.binary_cross_entropy_with_logits(logits, quality, weight=weight, reduction="sum")


def two_bin_cross_entropy(logits: Tensor, values: Tensor, reach: float) -> Tensor:
    """Cross entropy of the two bins on both sides of each value (Li et al. 2020, Generalized Focal Loss, eq. 6).

    Args:
        logits: (..., n) of n bins that stand for equally spaced numbers from -reach to reach.
        values: (...); beyond the reach they count as it.
        reach: positive.

    Returns:
        (...).

    """
    last = logits.shape[-1] - 1
    places = ((values + reach) * (last / (2 * reach))).clamp(0, last)
    lower = places.floor().clamp(max=last - 1)
    share = places - lower
    index = lower.long()[..., None]
    log_probs = logits.log_softmax(dim=-1)
    below, above = log_probs.gather(-1, index)[..., 0], log_probs.gather(-1, index + 1)[..., 0]
    return -(below * (1 - share) + above * share)


def mine_hard_negatives(class_logits: Tensor, matched_labels: Tensor, *, negatives_per_positive: int = 3) -> Tensor:
    """Online hard example mining: the background anchors least sure to be background (SSD, section 2.2).

    Args:
        class_logits: (B, A, C + 1), background is class 0.
        matched_labels: (B, A) int64 of `Matcher`.
        negatives_per_positive: per image.

    Returns:
        (B, A) bool, the chosen background anchors; none in an image without positives.

    """
    with torch.no_grad():
        hardness = class_logits.logsumexp(dim=-1) - class_logits[..., 0]
        is_background = matched_labels == BACKGROUND
        hardness = hardness.masked_fill(~is_background, -1.0)
        num_anchors = matched_labels.shape[1]
        wanted = (matched_labels > BACKGROUND).sum(dim=1) * negatives_per_positive
        chosen = torch.zeros_like(is_background)
        for image, count in enumerate(wanted.clamp(max=num_anchors - 1).tolist()):
            chosen[image, hardness[image].topk(count).indices] = True
        return chosen & is_background


def cropped_mask_bce_sums(mask_logits: Tensor, targets: Tensor, inside: Tensor) -> Tensor:
    """Binary cross entropy of every mask over the pixels inside its crop.

    Outside the crop the prediction is exactly 0; a target pixel there costs 100, where the published loss clamps the
    logarithm of zero, and has no gradient.

    Args:
        mask_logits: (N, h, w) before the sigmoid.
        targets: (N, h, w) bool.
        inside: (N, h, w) bool.

    Returns:
        (N,) sums.

    """
    missed = (targets & ~inside).flatten(1).sum(dim=1)
    # Only the pixels in some crop take part: far fewer than N * h * w.
    owner, position = inside.flatten(1).nonzero(as_tuple=True)
    pixel_loss = F.binary_cross_entropy_with_logits(
        mask_logits.flatten(1)[owner, position], targets.flatten(1)[owner, position].to(mask_logits), reduction="none"
    )
    sums = mask_logits.new_zeros(len(mask_logits)).index_add(0, owner, pixel_loss)
    return sums + 100.0 * missed
