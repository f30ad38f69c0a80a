"""Masks cropped to the predicted box, and not cropped, from the same network outputs (YOLACT, section 3.3)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from ablation import (
    EVERYTHING,
    Kept,
    ap_columns,
    argument_parser,
    draw_bars,
    interleaved,
    load_yolact,
    logits_and_boxes,
    measure_found,
    medians,
    network_outputs,
    new_figure,
    prepare,
    publish,
    validation_images,
)
from protomask.detection import prototypes
from protomask.detection.prototypes import PrototypeRows
from protomask.models.families import read_output
from protomask.models.prototype_config import rule_of
from protomask.models.yolact.detect import paint
from protomask.models.yolact.model import Yolact
from protomask.ops.masks import assemble_masks, crop_masks
from protomask.structures.instances import Instances

SIZES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


def found_with(network: Yolact, kept: Kept, *, crop: bool) -> Instances:
    """The instances of one image, from whole grids of masks. Mask scores are those of cropped masks."""
    chosen = prototypes.detect(*logits_and_boxes(kept.output), rule_of(network.config))
    whole = assemble_masks(kept.output.prototypes[0], kept.output.mask_coefficients[0, torch.from_numpy(chosen.rows)])
    cropped = crop_masks(whole, torch.from_numpy(chosen.boxes))
    mask_scores = None if network.rescoring is None else network.rescoring(cropped, torch.from_numpy(chosen.labels))
    rows = PrototypeRows(
        chosen.boxes,
        chosen.labels,
        chosen.class_scores,
        (cropped if crop else whole).numpy(),
        None if mask_scores is None else mask_scores.numpy(),
    )
    return paint(network, rows, kept.size, EVERYTHING)


def check(network: Yolact, kept: Kept) -> None:
    """Cropped masks must be those of the package, or nothing said here would be about it."""
    own, [package] = found_with(network, kept, crop=True), read_output(network, kept.output, [kept.size], EVERYTHING)
    # A pixel whose probability lies on the threshold may fall on either side.
    differing = int((own.masks != package.masks).sum()) if len(own) == len(package) else None
    if not np.array_equal(own.boxes, package.boxes) or differing is None or differing > 1e-5 * own.masks.size:
        raise RuntimeError(f"image {kept.image_id}: this script finds something else than the package")


def main() -> None:
    parser = argument_parser(__doc__, name="ablation_crop", example="--data shapes --images 500")
    options = parser.parse_args()
    data = prepare(options)
    network = load_yolact(options.weights)
    dataset = validation_images(data, network)
    names = {"cropped": True, "not cropped": False}
    with torch.inference_mode():
        outputs = network_outputs(network, dataset)
        for kept in outputs[: options.timed_images]:
            check(network, kept)
        measured = {
            name: measure_found(((kept.image_id, found_with(network, kept, crop=crop)) for kept in outputs), dataset)
            for name, crop in names.items()
        }

        def read(kept: Kept, crop: bool) -> None:
            found_with(network, kept, crop=crop).rle()

        times = interleaved(
            {name: partial(read, crop=crop) for name, crop in names.items()},
            outputs[: options.timed_images],
            rounds=options.rounds,
        )
    spent = medians(times)
    tables = {name: metrics.tables["mask"] for name, metrics in measured.items()}
    rows = [
        {
            "masks": name,
            **ap_columns(measured[name]),
            **{f"mask {size.replace('_', ' ')}": getattr(tables[name], size) for size in SIZES[3:]},
            "NMS to run-length codes, ms": spent[name],
        }
        for name in names
    ]

    title = f"{Path(options.weights).stem}: masks cropped to the predicted box or not"
    figure, (left, right) = new_figure(title)
    for axes, chosen in ((left, SIZES[:3]), (right, SIZES[3:])):
        draw_bars(
            axes,
            [size.replace("_", " ") for size in chosen],
            {name: [getattr(tables[name], size) for size in chosen] for name in names},
        )
        axes.set(ylabel="mask AP")
    publish(options, title=title, rows=rows, figure=figure, times_ms=times)


if __name__ == "__main__":
    main()
