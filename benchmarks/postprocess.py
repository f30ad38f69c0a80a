"""How long the parts after the network take, against the plain way of doing each, and that both give the same.

With ``--memory``, how much memory masks of a large frame take instead, each way in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from protomask.models.yolact.postprocess import YolactPostprocess
from torch.nn import functional as F
from torchvision.ops import box_iou

from measuring import argument_parser, milliseconds, report
from protomask.detection.nms import fast_nms
from protomask.masks.grids import cut_windows, interpolate_runs, resized_line
from protomask.masks.rle import decode_rle, encode_rle
from protomask.models.yolact.heads import YolactOutput
from protomask.models.zoo import yolact_resnet50
from protomask.ops.boxes import decode_boxes
from protomask.ops.masks import assemble_masks, crop_masks
from scenes import ellipse_masks, random_boxes

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
GRID, SIZE, LARGE = (138, 138), (1080, 1920), (2160, 3840)


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


def encode_by_pycocotools(masks):
    """One (H, W) mask after the other, as the official evaluation does."""
    from pycocotools import mask as mask_codec

    return [mask_codec.encode(np.asfortranarray(mask)) for mask in masks.numpy().view(np.uint8)]


def textbook(output, size):
    """From the heads to run-length codes, everything dense: all scores, all boxes, whole masks on the whole frame."""
    scores = output.class_logits[0].softmax(dim=-1)[:, 1:].T
    boxes = decode_boxes(output.box_deltas[0], output.anchors)
    looked_at = scores.amax(dim=0) > 0.05
    coefficients = output.mask_coefficients[0, looked_at]
    boxes = boxes[looked_at]
    kept, labels, scores = dense_fast_nms(boxes, scores[:, looked_at])
    masks = crop_masks(assemble_masks(output.prototypes[0], coefficients[kept]), boxes[kept])
    masks = F.interpolate(masks[None], size, mode="bilinear", align_corners=False)[0] > 0.5
    return labels, scores, encode_by_pycocotools(masks)


def golden_output(number):
    """Heads and prototypes of the golden yolact_resnet50 (synthetic weights) for a golden image, and its (H, W)."""
    sys.path.insert(0, str(GOLDEN.parent))
    from golden_values import read_picture
    from golden_weights import golden_weights
    from protomask.checkpoints.formats import load_foreign

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "yolact_resnet50_1_2.pth"
        torch.save(golden_weights(GOLDEN / "yolact" / "yolact_resnet50.state_dict.json"), path)
        network = load_foreign(path).eval().to(memory_format=torch.channels_last)
    picture = read_picture(GOLDEN, number)
    image = network.geometry.preprocess(picture)[None].contiguous(memory_format=torch.channels_last)
    return network(image), tuple(picture.shape[1:])


def postprocess(output, size):
    config = yolact_resnet50()
    return YolactPostprocess(config, [str(label) for label in range(config.num_classes)])(output, [size])[0]


def pipeline_rows(rounds: int) -> list[dict]:
    rows = []
    for number in (1, 2):
        output, own_size = golden_output(number)
        for size in (own_size, SIZE, LARGE) if number == 1 else (own_size,):
            found = postprocess(output, size)
            labels, scores, codes = textbook(output, size)
            same = torch.equal(found.labels, labels) and torch.allclose(found.scores, scores, rtol=0, atol=1e-6)
            differing = [
                int((decode_rle(one) != decode_rle(other)).sum()) for one, other in zip(found.rle(), codes, strict=True)
            ]
            # A pixel whose interpolated value lies on the threshold may fall on either side.
            same &= sum(differing) <= 1e-5 * len(found) * size[0] * size[1]
            rows.append(
                _row(
                    f"golden image {number}, heads to RLE of {len(found)} masks, {size[1]}x{size[0]}",
                    "textbook: everything dense",
                    {
                        "own": lambda output=output, size=size: postprocess(output, size).rle(),
                        "plain": lambda output=output, size=size: textbook(output, size),
                    },
                    same,
                    rounds if size != LARGE else min(rounds, 3),
                )
            )
    return rows


def nms_rows(rounds: int) -> list[dict]:
    rows = []
    for classes, count in ((80, 1200), (10, 180)):
        boxes = random_boxes(count, 550, 550, seed=0) / 550
        generator = torch.Generator().manual_seed(0)
        scores = torch.rand(classes, len(boxes), generator=generator) ** 8
        own, plain = fast_nms(boxes, scores), dense_fast_nms(boxes, scores)
        same = all(torch.equal(first, second) for first, second in zip(own, plain, strict=True))
        rows.append(
            _row(
                f"fast NMS, {classes} classes, {count} boxes",
                "IoU matrix of every class",
                {
                    "own": lambda boxes=boxes, scores=scores: fast_nms(boxes, scores),
                    "plain": lambda boxes=boxes, scores=scores: dense_fast_nms(boxes, scores),
                },
                same,
                rounds,
            )
        )
    return rows


def enlarging_row(rounds: int) -> dict:
    boxes = random_boxes(50, *GRID, seed=1)
    grid = ellipse_masks(boxes, *GRID).float() * 0.9
    rows, columns = (resized_line(*sides) for sides in zip(GRID, SIZE, strict=True))

    def own():
        return interpolate_runs(cut_windows(grid), rows, columns, SIZE[0])

    def plain():
        return F.interpolate(grid[None], SIZE, mode="bilinear", align_corners=False)[0] > 0.5

    areas = torch.tensor([int(np.diff(runs).sum()) for runs in own()])
    same = int((areas - plain().flatten(1).sum(dim=1)).abs().sum()) <= 1e-5 * plain().numel()
    title = f"50 masks from {GRID[1]}x{GRID[0]} to {SIZE[1]}x{SIZE[0]}"
    return _row(title, "F.interpolate of whole masks", {"own": own, "plain": plain}, same, rounds)


def encoding_rows(rounds: int) -> list[dict]:
    from pycocotools import mask as mask_codec

    masks = ellipse_masks(random_boxes(50, *SIZE, seed=2), *SIZE)
    own, plain = encode_rle(masks), encode_by_pycocotools(masks)
    same = [rle["counts"].encode() for rle in own] == [rle["counts"] for rle in plain]
    back = torch.equal(torch.stack([decode_rle(rle) for rle in own]), masks)
    size = f"50 masks, {SIZE[1]}x{SIZE[0]}"
    return [
        _row(
            f"RLE of {size}",
            "pycocotools",
            {"own": lambda: encode_rle(masks), "plain": lambda: encode_by_pycocotools(masks)},
            same,
            rounds,
        ),
        _row(
            f"masks of RLE, {size}",
            "pycocotools",
            {"own": lambda: [decode_rle(rle) for rle in own], "plain": lambda: mask_codec.decode(plain)},
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


USES = {
    "RLE": lambda output: postprocess(output, LARGE).rle(),
    "polygons": lambda output: postprocess(output, LARGE).polygons(),
    "windows, one by one": lambda output: sum(int(mask.sum()) for _, _, mask in postprocess(output, LARGE).windows()),
    "overlay (the picture has 25 MB)": lambda output: postprocess(output, LARGE).draw(np.zeros((*LARGE, 3), np.uint8)),
    "RLE, textbook": lambda output: textbook(output, LARGE),
}


def memory_rows(threads: int) -> list[dict]:
    """What each use adds to the peak of a process that already holds the network's output."""
    output, _ = golden_output(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "output.pt"
        torch.save(output._asdict(), path)
        for use in USES:
            command = [sys.executable, __file__, "--memory-of", use, str(path), "--threads", str(threads)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append({"100 masks, 3840x2160": use, "MB above the network": json.loads(done.stdout)})
    return rows


def measure_memory(use: str, path: str) -> None:
    output = YolactOutput(**torch.load(path))
    encode_by_pycocotools(torch.zeros(1, 2, 2, dtype=torch.bool))  # loads the library
    before = peak_memory()
    USES[use](output)
    print(peak_memory() - before)


def peak_memory() -> float:
    """Most MB that this process has held (getrusage would count its parent's before the start, too)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    parser = argument_parser(__doc__, rounds=7)
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time (Linux)")
    parser.add_argument("--memory-of", nargs=2, metavar=("USE", "FILE"), help="one of those measurements")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with torch.inference_mode():
        if options.memory_of:
            measure_memory(*options.memory_of)
            return
        if options.memory:
            report("memory of large masks", memory_rows(options.threads), json_file=options.json)
            return
        rows = [
            *pipeline_rows(options.rounds),
            *nms_rows(options.rounds),
            enlarging_row(options.rounds),
            *encoding_rows(options.rounds),
        ]
    report("after the network", rows, json_file=options.json)


if __name__ == "__main__":
    main()
