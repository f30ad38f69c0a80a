"""How long the parts after the network take, against the plain way of doing each, and that both give the same."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.ops import box_iou

from measuring import argument_parser, milliseconds, report
from protomask.ops.masks import binarize_masks, decode_rle, encode_rle, resize_masks
from protomask.ops.nms import fast_nms
from scenes import ellipse_masks, random_boxes

GRID, SIZE = (138, 138), (1080, 1920)


def dense_fast_nms(boxes, scores, iou_threshold=0.5, max_candidates=200, max_detections=100):
    """Fast NMS as the paper writes it: the full IoU matrix of every class (YOLACT section 3.2)."""
    scores, order = scores.sort(dim=1, descending=True)
    scores, order = scores[:, :max_candidates], order[:, :max_candidates]
    overlaps = torch.stack([box_iou(boxes[row], boxes[row]) for row in order]).triu_(diagonal=1)
    keep = overlaps.amax(dim=1) <= iou_threshold
    labels = torch.arange(len(scores))[:, None].expand_as(order)
    best, chosen = scores[keep].sort(descending=True, stable=True)
    chosen, best = chosen[:max_detections], best[:max_detections]
    return order[keep][chosen], labels[keep][chosen], best


def nms_row(rounds: int) -> dict:
    boxes = random_boxes(1200, 550, 550, seed=0) / 550
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(80, len(boxes), generator=generator) ** 8
    own, plain = fast_nms(boxes, scores), dense_fast_nms(boxes, scores)
    same = all(torch.equal(first, second) for first, second in zip(own, plain, strict=True))
    return _row(
        "fast NMS, 80 classes, 1200 boxes",
        "IoU matrix of every class",
        {"own": lambda: fast_nms(boxes, scores), "plain": lambda: dense_fast_nms(boxes, scores)},
        same,
        rounds,
    )


def enlarging_row(rounds: int) -> dict:
    boxes = random_boxes(50, *GRID, seed=1)
    grid = ellipse_masks(boxes, *GRID).float() * 0.9

    def plain():
        return resize_masks(grid, SIZE) > 0.5

    own, dense = binarize_masks(grid, SIZE), plain()
    # The two round alike but for pixels that lie on the threshold.
    same = int((own != dense).sum()) <= 1e-5 * own.numel()
    title = f"50 masks from {GRID[1]}x{GRID[0]} to {SIZE[1]}x{SIZE[0]}"
    return _row(
        title, "F.interpolate of whole masks", {"own": lambda: binarize_masks(grid, SIZE), "plain": plain}, same, rounds
    )


def encoding_rows(rounds: int) -> list[dict]:
    from pycocotools import mask as mask_codec

    masks = ellipse_masks(random_boxes(50, *SIZE, seed=2), *SIZE)

    def by_pycocotools():
        columns = np.asfortranarray(masks.numpy().transpose(1, 2, 0).view(np.uint8))
        return mask_codec.encode(columns)

    own, plain = encode_rle(masks), by_pycocotools()
    same = [rle["counts"].encode() for rle in own] == [rle["counts"] for rle in plain]

    def decoded_by_pycocotools():
        return mask_codec.decode(plain)

    back = torch.equal(torch.stack([decode_rle(rle) for rle in own]), masks)
    size = f"50 masks, {SIZE[1]}x{SIZE[0]}"
    return [
        _row(
            f"RLE of {size}",
            "pycocotools",
            {"own": lambda: encode_rle(masks), "plain": by_pycocotools},
            same,
            rounds,
        ),
        _row(
            f"masks of RLE, {size}",
            "pycocotools",
            {"own": lambda: [decode_rle(rle) for rle in own], "plain": decoded_by_pycocotools},
            back,
            rounds,
        ),
    ]


def _row(work: str, against: str, candidates: dict, same: bool, rounds: int) -> dict:
    times = milliseconds(candidates, rounds=rounds)
    return {
        "work": work,
        "own ms": times["own"],
        "plain ms": times["plain"],
        "plain way": against,
        "ratio": times["plain"] / times["own"],
        "same result": same,
    }


def main() -> None:
    options = argument_parser(__doc__, rounds=7).parse_args()
    torch.set_num_threads(options.threads)
    with torch.inference_mode():
        rows = [nms_row(options.rounds), enlarging_row(options.rounds), *encoding_rows(options.rounds)]
    report("after the network", rows, json_file=options.json)


if __name__ == "__main__":
    main()
