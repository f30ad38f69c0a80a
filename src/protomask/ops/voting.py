"""The vote of regions on masks as one operation of a graph: a loop over the detections, each with a window of its own.

PyTorch runs it as it is; `protomask.exporting.voting_onnx` translates it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from protomask.detection.voting import MASK_SHARE


@torch.library.custom_op(
    "protomask::count_votes", mutates_args=(),
    # PyTorch 2.4 does not find the types of annotations that are not evaluated.
    schema="(Tensor boxes, Tensor masks, Tensor weights, Tensor image_size) -> (Tensor, Tensor, Tensor)",
)  # fmt: skip
def count_votes(boxes: Tensor, masks: Tensor, weights: Tensor, image_size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count what regions vote for, see `protomask.detection.voting.elect`.

    Args:
        boxes: (R, 4) float32 xyxy, first and last pixels of each region in the image, whole numbers.
        masks: (R, m, m) float32 in 0..1.
        weights: (N, R) float32: what the vote of a region counts for each detection, 0 for those that have none.
        image_size: (2,) float32, (H, W).

    Returns:
        boxes: (N, 4) float32 xyxy of the voted masks, which end behind their last pixels.
        shares: (N, m, m) float32 share of the votes, on a grid over the box.
        there: (N,) float32, 1 where a mask has two rows and columns, 0 where it is none.

    """
    counted = [_count(boxes, masks, row, image_size) for row in weights]
    voted, shares, there = zip(*counted, strict=True)
    return torch.stack(voted), torch.stack(shares), torch.stack(there)


@count_votes.register_fake
def _(boxes: Tensor, masks: Tensor, weights: Tensor, image_size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    count, cells = weights.shape[0], masks.shape[1]
    return boxes.new_empty(count, 4), masks.new_empty(count, cells, cells), boxes.new_empty(count)


def _count(boxes: Tensor, masks: Tensor, weights: Tensor, image_size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    voters = weights.nonzero()[:, 0]
    own, probs, cells = boxes[voters], masks[voters], masks.shape[1]
    if len(voters) == 0:
        return boxes.new_zeros(4), masks.new_zeros(cells, cells), boxes.new_zeros(())
    (left, top), (right, bottom) = own[:, :2].amin(dim=0), own[:, 2:].amax(dim=0)
    x, y = torch.arange(float(left) - 1, float(right) + 2), torch.arange(float(top) - 1, float(bottom) + 2)
    drawn = _spread(y, own[:, 1], own[:, 3], cells) @ probs @ _spread(x, own[:, 0], own[:, 2], cells).transpose(1, 2)
    shares = torch.einsum("v,vyx->yx", weights[voters], (drawn >= MASK_SHARE).float())
    above = shares >= MASK_SHARE
    rows, columns = y[above.any(dim=1)], x[above.any(dim=0)]
    if len(rows) < 2 or len(columns) < 2 or rows[-1] == rows[0] or columns[-1] == columns[0]:
        return boxes.new_zeros(4), masks.new_zeros(cells, cells), boxes.new_zeros(())
    box = torch.stack((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    down = _sampling(box[1], box[3], y, image_size[0], cells)
    across = _sampling(box[0], box[2], x, image_size[1], cells)
    return box, down @ shares @ across.T, boxes.new_ones(())


def _spread(pixels: Tensor, first: Tensor, last: Tensor, cells: int) -> Tensor:
    """(V, P, cells) what each cell of a region contributes to each pixel of an axis; nothing outside the region."""
    place = (pixels - first[:, None] + 0.5) * (cells / (last - first + 1))[:, None] - 0.5
    shares = (1 - (place.clamp(0, cells - 1)[:, :, None] - torch.arange(cells)).abs()).clamp(min=0)
    inside = (pixels >= first[:, None]) & (pixels <= last[:, None])
    return shares * inside[:, :, None]


def _sampling(begin: Tensor, end: Tensor, pixels: Tensor, limit: Tensor, cells: int) -> Tensor:
    """(cells, P) what each pixel contributes to the centre of each cell of a box."""
    place = begin + (torch.arange(cells) + 0.5) * ((end - begin) / cells) - 0.5
    place = torch.minimum(place.clamp(min=0), limit - 1)
    return (1 - (place[:, None] - pixels).abs()).clamp(min=0)
