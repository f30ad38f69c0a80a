"""Masks cropped to the predicted box, and not cropped, from the same network outputs (YOLACT, section 3.3)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from protomask.models.yolact.postprocess import select
from torchvision.ops import clip_boxes_to_image

from ablation import (
    Kept,
    ap_columns,
    argument_parser,
    boxes_and_scores,
    draw_bars,
    interleaved,
    load,
    measure_found,
    medians,
    network_outputs,
    new_figure,
    prepare,
    publish,
    validation_images,
)
from protomask.models.yolact.model import Yolact
from protomask.ops.masks import assemble_masks, crop_masks
from protomask.structures.instances import Instances
from protomask.structures.mask_sources import GridMasks

SIZES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


def found_with(network: Yolact, kept: Kept, *, crop: bool) -> Instances:
    """The instances of one image: `YolactPostprocess`, but for the choice. Mask scores are those of cropped masks."""
    boxes, class_scores = boxes_and_scores(kept.output)
    chosen, labels, scores = select(boxes, class_scores, network.config)
    boxes = boxes[chosen]
    whole = assemble_masks(kept.output.prototypes[0], kept.output.mask_coefficients[0, chosen])
    cropped = crop_masks(whole, boxes)
    height, width = kept.size
    return Instances(
        boxes=clip_boxes_to_image(boxes * boxes.new_tensor([width, height, width, height]), kept.size),
        labels=labels,
        class_scores=scores,
        masks=GridMasks(cropped if crop else whole, kept.size),
        image_size=kept.size,
        class_names=network.class_names,
        mask_scores=None if network.rescoring is None else network.rescoring(cropped, labels),
    )


def check(network: Yolact, kept: Kept) -> None:
    """Cropped masks must be those of the package, or nothing said here would be about it."""
    own, package = found_with(network, kept, crop=True), network.postprocess(kept.output, [kept.size])[0]
    if not (torch.equal(own.boxes, package.boxes) and torch.equal(own.masks, package.masks)):
        raise RuntimeError(f"image {kept.image_id}: this script finds something else than the package")


def main() -> None:
    parser = argument_parser(__doc__, name="ablation_crop", example="--data shapes --images 500")
    options = parser.parse_args()
    data = prepare(options)
    network = load(options.weights)
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
