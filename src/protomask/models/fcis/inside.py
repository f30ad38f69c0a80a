"""What an FCIS had inside while it looked at an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from protomask.detection.options import PredictOptions
from protomask.detection.voting import Elected, VotingRows, elect, in_original_image
from protomask.images.resize import short_side_scale
from protomask.models.fcis.detect import detect, rule_of, settle
from protomask.models.fcis.model import own_cells, pool
from protomask.models.inside import Candidates, Floats, Inside, PositionParts

if TYPE_CHECKING:
    from protomask.models.fcis.model import FCIS, FCISOutput


@torch.no_grad()
def look_inside(
    network: FCIS, output: FCISOutput, original_sizes: Sequence[tuple[int, int]], options: PredictOptions
) -> list[Inside]:
    """Say of each of B images what competed, what was kept and what its masks are made of.

    Args:
        network: in evaluation mode.
        output: of the network.
        original_sizes: (H, W) of each image before it was resized.
        options: of the prediction; what scores little is looked into as well.

    """
    rows = detect(network, output, options)
    return [
        _look_inside(network, output, image, one, size, options)
        for image, (one, size) in enumerate(zip(rows, original_sizes, strict=True))
    ]


def _look_inside(
    network: FCIS, output: FCISOutput, image: int, rows: VotingRows, size: tuple[int, int], options: PredictOptions
) -> Inside:
    config = settle(network.config, options)
    scale = short_side_scale(size, config.image_size, config.max_image_size)
    elected = elect(rows, size, rule_of(config), scale=scale, labels=options.labels(network.class_names))
    relative = _relative(in_original_image(rows.boxes, size, scale), size)
    regions, labels = (rows.class_probs > config.candidate_threshold).nonzero()
    proposals = len(rows.boxes) // 2
    candidates = Candidates(
        boxes=relative[regions],
        origins=relative[regions % max(proposals, 1)],
        numbers=regions % max(proposals, 1),
        levels=regions // max(proposals, 1),
        labels=labels,
        scores=rows.class_probs[regions, labels],
    )
    places = {pair: place for place, pair in enumerate(zip(regions.tolist(), labels.tolist(), strict=True))}
    kept = [places[pair] for pair in zip(elected.rows.tolist(), elected.labels.tolist(), strict=True)]
    probs = output.regions[image].class_logits.softmax(dim=1).float().cpu().numpy()
    return Inside(
        rows=rows,
        boxes=_relative(elected.boxes.astype(np.float64), size),
        labels=elected.labels,
        class_scores=elected.class_scores,
        mask_scores=None,
        class_probs=probs[elected.rows],
        candidates=candidates,
        kept=np.array(kept, dtype=np.int64),
        positions=_positions(network, output, image, elected, rows, relative[:proposals]),
    )


def _positions(
    network: FCIS, output: FCISOutput, image: int, elected: Elected, rows: VotingRows, proposals: Floats
) -> PositionParts:
    boxes = output.regions[image].boxes[torch.from_numpy(elected.rows).to(output.score_maps.device)]
    size = output.image_sizes[image]
    score_maps, box_maps = (own_cells(maps[image].float(), size) for maps in (output.score_maps, output.box_maps))
    pooled = pool(score_maps, box_maps, boxes.float())
    scores = pooled.mask_logits(torch.from_numpy(elected.labels + 1).to(boxes.device)).cpu().numpy()
    return PositionParts(
        proposals=proposals,
        objectness=output.objectness[image].float().cpu().numpy(),
        outside=scores[..., 0],
        inside=scores[..., 1],
        own_mask=rows.mask_probs[elected.rows],
        votes=elected.mask_probs,
        num_votes=elected.num_votes,
    )


def _relative(boxes: NDArray[np.float64], size: tuple[int, int]) -> Floats:
    """(N, 4) boxes whose far corners are pixels, relative to the image of a size (H, W)."""
    extent = np.array([size[1], size[0]] * 2, dtype=np.float64)
    relative: Floats = ((boxes + np.array([0, 0, 1, 1])) / extent).astype(np.float32)
    return relative
