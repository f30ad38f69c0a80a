"""What NMS kept of a network's output, in PyTorch: which anchors, and the numbers that make their masks."""

from __future__ import annotations

import torch
from torch import Tensor

from protomask.detection.prototypes import Kept


def numbered(kept: Kept, anchors: Tensor) -> tuple[Kept, Tensor]:
    """The same with votes by numbers of anchors, (K,) of the candidates, and the (N,) numbers of what was kept."""
    if kept.votes is not None:
        kept = kept._replace(votes=kept.votes._replace(rows=anchors.cpu().numpy()[kept.votes.rows]))
    return kept, anchors[torch.from_numpy(kept.rows).to(anchors.device)]


def means(values: Tensor, kept: Kept, anchors: Tensor) -> Tensor:
    """(N, n) float32 of (A, n) ``values`` for what was kept, averaged where boxes are; the rest as of `numbered`."""
    if kept.votes is None:
        return values[anchors].float()
    voting = values[torch.from_numpy(kept.votes.rows).to(values.device)].float().cpu().numpy()
    return torch.from_numpy(kept.votes.average(voting, len(anchors))).to(values.device)
