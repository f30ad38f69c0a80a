"""How long the parts after the network take, against the plain way of doing each, and that both give the same.

The package does all of it in NumPy, in few and small arrays. The plain way is PyTorch's: whole tensors at every step.
With ``--memory``, how much memory masks of a large frame take instead, each way in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from goldens import golden_image, golden_network
from measuring import argument_parser, milliseconds, report
from protomask.detection.nms import fast_nms
from protomask.detection.options import PredictOptions
from protomask.masks.grids import GridWindow, assemble_windows, cut_windows, interpolate_runs, resized_line
from protomask.masks.rle import Rle, decode_rle, encode_rle
from protomask.models.build import build_network
from protomask.models.families import read_output
from protomask.models.network import Network
from protomask.models.yolact.heads import YolactOutput
from protomask.ops.boxes import decode_boxes
from protomask.ops.geometry import preprocess_pixels
from protomask.ops.masks import assemble_masks, crop_masks
from protomask.structures.instances import Instances
from scenes import ellipse_masks, random_boxes

GRID, SIZE, LARGE = (138, 138), (1080, 1920), (2160, 3840)
EVERYTHING = PredictOptions(score_threshold=0.0)
Row = dict[str, Any]


# The plain way


def dense_fast_nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float = 0.5, max_candidates: int = 200, max_detections: int = 100
) -> tuple[Tensor, Tensor, Tensor]:
    """Fast NMS as the paper writes it: the full IoU matrix of every class (YOLACT section 3.2)."""
    scores, order = scores.sort(dim=1, descending=True)
    scores, order = scores[:, :max_candidates], order[:, :max_candidates]
    overlaps = torch.stack([box_iou(boxes[row], boxes[row]) for row in order]).triu_(diagonal=1)
    keep = overlaps.amax(dim=1) <= iou_threshold
    labels = torch.arange(len(scores), device=order.device)[:, None].expand_as(order)
    best, chosen = scores[keep].sort(descending=True, stable=True)
    chosen, best = chosen[:max_detections], best[:max_detections]
    return order[keep][chosen], labels[keep][chosen], best


def encode_by_pycocotools(masks: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """One (H, W) mask after the other, as the official evaluation does."""
    from pycocotools import mask as mask_codec

    return [mask_codec.encode(np.asfortranarray(mask)) for mask in masks.view(np.uint8)]


def textbook(output: YolactOutput, size: tuple[int, int]) -> tuple[Tensor, Tensor, list[dict[str, Any]]]:
    """From the heads to run-length codes, everything dense: all scores, all boxes, whole masks on the whole frame."""
    scores = output.class_logits[0].softmax(dim=-1)[:, 1:].T
    boxes = decode_boxes(output.box_deltas[0], output.anchors)
    looked_at = scores.amax(dim=0) > 0.05
    coefficients = output.mask_coefficients[0, looked_at]
    boxes = boxes[looked_at]
    kept, labels, scores = dense_fast_nms(boxes, scores[:, looked_at])
    grid = crop_masks(assemble_masks(output.prototypes[0], coefficients[kept]), boxes[kept])
    masks = F.interpolate(grid[None], size, mode="bilinear", align_corners=False)[0] > 0.5
    return labels, scores, encode_by_pycocotools(masks.numpy())


# This package's way


def read(network: Network, output: YolactOutput, size: tuple[int, int]) -> Instances:
    """From the heads to instances in a frame (H, W)."""
    [found] = read_output(network, output, [size], EVERYTHING)
    return found


def codes_of(network: Network, output: YolactOutput, size: tuple[int, int]) -> list[Rle]:
    """From the heads to run-length codes."""
    return read(network, output, size).rle()


def golden_output(network: Network, number: int) -> tuple[YolactOutput, tuple[int, int]]:
    """Heads and prototypes for a golden image, and its (H, W)."""
    image = golden_image(number)
    batch = network.geometry.batch([preprocess_pixels(image, network.geometry, torch.device("cpu"))])
    return network(batch.contiguous(memory_format=torch.channels_last)), (image.shape[0], image.shape[1])


# Time


def pipeline_rows(rounds: int) -> list[Row]:
    network = golden_network().to(memory_format=torch.channels_last)
    rows = []
    for number in (1, 2):
        output, own_size = golden_output(network, number)
        for size in (own_size, SIZE, LARGE) if number == 1 else (own_size,):
            found = read(network, output, size)
            labels, scores, codes = textbook(output, size)
            same = np.array_equal(found.labels, labels) and np.allclose(found.scores, scores, rtol=0, atol=1e-6)
            differing = [
                int((decode_rle(one) != decode_rle(other)).sum()) for one, other in zip(found.rle(), codes, strict=True)
            ]
            # A pixel whose interpolated value lies on the threshold may fall on either side.
            same = same and sum(differing) <= 1e-5 * len(found) * size[0] * size[1]
            rows.append(
                measure(
                    f"golden image {number}, heads to RLE of {len(found)} masks, {size[1]}x{size[0]}",
                    "textbook: everything dense",
                    own=partial(codes_of, network, output, size),
                    plain=partial(textbook, output, size),
                    same=same,
                    rounds=rounds if size != LARGE else min(rounds, 3),
                )
            )
    return rows


def nms_rows(rounds: int) -> list[Row]:
    rows = []
    for classes, count in ((80, 1200), (10, 180)):
        boxes = random_boxes(count, 550, 550, seed=0) / np.float32(550)
        scores = np.random.default_rng(0).uniform(size=(classes, len(boxes))).astype(np.float32) ** 8
        tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
        found, expected = fast_nms(boxes, scores), dense_fast_nms(*tensors)
        rows.append(
            measure(
                f"fast NMS, {classes} classes, {count} boxes",
                "IoU matrix of every class",
                own=partial(fast_nms, boxes, scores),
                plain=partial(dense_fast_nms, *tensors),
                same=all(np.array_equal(found[part], expected[part].numpy()) for part in range(3)),
                rounds=rounds,
            )
        )
    return rows


def assembling_row(rounds: int) -> Row:
    boxes = random_boxes(100, 1, 1, seed=3)
    rng = np.random.default_rng(3)
    prototypes = rng.uniform(0, 1, (*GRID, 32)).astype(np.float32)
    coefficients = rng.uniform(-1, 1, (len(boxes), 32)).astype(np.float32)
    tensors = [torch.from_numpy(array) for array in (prototypes, coefficients, boxes)]

    def plain() -> Tensor:
        return crop_masks(assemble_masks(tensors[0], tensors[1]), tensors[2])

    windows = assemble_windows(prototypes, coefficients, boxes)
    return measure(
        f"100 masks from 32 prototypes of {GRID[1]}x{GRID[0]}",
        "whole masks, then cropped",
        own=partial(assemble_windows, prototypes, coefficients, boxes),
        plain=plain,
        same=bool(np.abs(on_grid(windows) - plain().numpy()).max() < 1e-5),
        rounds=rounds,
    )


def on_grid(windows: Sequence[GridWindow]) -> NDArray[np.float32]:
    """(N, h, w): the windows on their grid."""
    masks = np.zeros((len(windows), *GRID), dtype=np.float32)
    for mask, (top, left, probs) in zip(masks, windows, strict=True):
        mask[top : top + probs.shape[0], left : left + probs.shape[1]] = probs
    return masks


def enlarging_row(rounds: int) -> Row:
    grid = ellipse_masks(random_boxes(50, *GRID, seed=1), *GRID) * np.float32(0.9)
    rows, columns = (resized_line(*sides) for sides in zip(GRID, SIZE, strict=True))
    tensor = torch.from_numpy(grid)

    def own() -> Sequence[NDArray[np.int64]]:
        return interpolate_runs(cut_windows(grid), rows, columns, SIZE[0])

    def plain() -> Tensor:
        return F.interpolate(tensor[None], SIZE, mode="bilinear", align_corners=False)[0] > 0.5

    areas = np.array([np.diff(runs).sum() for runs in own()])
    same = np.abs(areas - plain().flatten(1).sum(dim=1).numpy()).sum() <= 1e-5 * plain().numel()
    title = f"50 masks from {GRID[1]}x{GRID[0]} to {SIZE[1]}x{SIZE[0]}"
    return measure(title, "F.interpolate of whole masks", own=own, plain=plain, same=bool(same), rounds=rounds)


def encoding_rows(rounds: int) -> list[Row]:
    from pycocotools import mask as mask_codec

    masks = ellipse_masks(random_boxes(50, *SIZE, seed=2), *SIZE)
    own, plain = encode_rle(masks), encode_by_pycocotools(masks)
    size = f"50 masks, {SIZE[1]}x{SIZE[0]}"
    return [
        measure(
            f"RLE of {size}",
            "pycocotools",
            own=partial(encode_rle, masks),
            plain=partial(encode_by_pycocotools, masks),
            same=[rle["counts"].encode() for rle in own] == [rle["counts"] for rle in plain],
            rounds=rounds,
        ),
        measure(
            f"masks of RLE, {size}",
            "pycocotools",
            own=lambda: [decode_rle(rle) for rle in own],
            plain=partial(mask_codec.decode, plain),
            same=np.array_equal(np.stack([decode_rle(rle) for rle in own]), masks),
            rounds=rounds,
        ),
    ]


def measure(
    work: str, against: str, *, own: Callable[[], Any], plain: Callable[[], Any], same: bool, rounds: int
) -> Row:
    times = milliseconds({"own": own, "plain": plain}, rounds=rounds)
    return {
        "work": work,
        "own ms": times["own"],
        "plain ms": times["plain"],
        "plain way": against,
        "ratio": times["plain"] / times["own"],
        "same result": same,
    }


# Memory


USES: Mapping[str, Callable[[Instances], Any]] = {
    "RLE": Instances.rle,
    "polygons": Instances.polygons,
    "windows, one by one": lambda found: sum(int(mask.sum()) for _, _, mask in found.windows()),
    "overlay (the picture has 25 MB)": lambda found: found.draw(np.zeros((*LARGE, 3), dtype=np.uint8)),
}
TEXTBOOK = "RLE, textbook"


def memory_rows(threads: int) -> list[Row]:
    """What each use adds to the peak of a process that already holds the network's output."""
    output, _ = golden_output(golden_network(), 1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "output.pt"
        torch.save(output._asdict(), path)
        for use in (*USES, TEXTBOOK):
            command = [sys.executable, __file__, "--memory-of", use, str(path), "--threads", str(threads)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append({"100 masks, 3840x2160": use, "MB above the network": json.loads(done.stdout)})
    return rows


def measure_memory(use: str, path: str) -> None:
    with torch.device("meta"):  # without weights, which would raise the peak before anything is measured
        network = build_network("yolact_resnet50").eval()
    output = YolactOutput(**torch.load(path))
    encode_by_pycocotools(np.zeros((1, 2, 2), dtype=np.bool_))  # loads the library
    before = peak_memory()
    if use == TEXTBOOK:
        textbook(output, LARGE)
    else:
        USES[use](read(network, output, LARGE))
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
            assembling_row(options.rounds),
            enlarging_row(options.rounds),
            *encoding_rows(options.rounds),
        ]
    report("after the network", rows, json_file=options.json)


if __name__ == "__main__":
    main()
