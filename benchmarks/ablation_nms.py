"""Fast NMS against greedy and Soft-NMS on the same network outputs: AP, and time of NMS alone (YOLACT, table 2c)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from protomask.models.yolact.postprocess import select

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
    note,
    prepare,
    publish,
    validation_images,
)
from protomask.detection.options import NMS_MODES
from protomask.models.yolact.model import Yolact
from protomask.structures.instances import Instances

NAMES = {
    "fast": "fast", "batched": "greedy", "cross_class_fast": "cross-class fast", "soft_linear": "soft, linear",
    "soft_gaussian": "soft, gaussian",
}  # fmt: skip


def found_with(network: Yolact, kept: Kept, mode: str) -> Instances:
    """The instances of one image; cross-class fast NMS is held to as many as the others."""
    limit = network.config.max_detections
    return network.postprocess(kept.output, [kept.size], nms=mode, max_detections=limit)[0]


def main() -> None:
    parser = argument_parser(__doc__, name="ablation_nms", example="--data shapes --images 500", rounds=9)
    parser.add_argument("--modes", nargs="+", default=list(NAMES), choices=NMS_MODES, help="kinds of NMS")
    options = parser.parse_args()
    data = prepare(options)
    network = load(options.weights)
    dataset = validation_images(data, network)
    with torch.inference_mode():
        outputs = network_outputs(network, dataset)
        measured = {}
        for mode in options.modes:
            measured[mode] = ap_columns(
                measure_found(((kept.image_id, found_with(network, kept, mode)) for kept in outputs), dataset)
            )
            note(f"{mode}: mask AP {measured[mode]['mask AP']}")
        inputs = [boxes_and_scores(kept.output) for kept in outputs[: options.timed_images]]

        def suppress(given: tuple[torch.Tensor, torch.Tensor], mode: str) -> None:
            select(*given, network.config.override(nms=mode))

        times = interleaved(
            {mode: partial(suppress, mode=mode) for mode in options.modes}, inputs, rounds=options.rounds
        )
    spent = medians(times)
    rows = [{"NMS": NAMES[mode], **measured[mode], "NMS ms": spent[mode]} for mode in options.modes]

    title = f"{Path(options.weights).stem}: kinds of NMS on the same network outputs"
    figure, (left, right) = new_figure(title)
    names = [NAMES[mode].replace(" ", "\n") for mode in options.modes]
    draw_bars(left, names, {name: [row[name] for row in rows] for name in ("mask AP", "box AP")})
    left.set(ylabel="AP")
    draw_bars(right, names, {"NMS": [row["NMS ms"] for row in rows]}, digits=2)
    right.set(ylabel="NMS alone, ms per image")
    candidates = [len(boxes) for boxes, _ in inputs]
    publish(options, title=title, rows=rows, figure=figure, candidates=candidates, times_ms=times)


if __name__ == "__main__":
    main()
