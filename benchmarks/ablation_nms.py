"""Fast NMS against greedy and Soft-NMS on the same network outputs: AP, and time (YOLACT, table 2c).

The time is that from the logits and boxes of the candidates to those that are kept; all but the NMS is the same work.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

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
from measuring import note
from protomask.detection.options import NMS_MODES, NmsMode
from protomask.detection.prototypes import detect
from protomask.models.families import read_output
from protomask.models.prototype_config import rule_of
from protomask.models.yolact.model import Yolact
from protomask.structures.instances import Instances

NAMES = {
    "fast": "fast", "batched": "greedy", "cross_class_fast": "cross-class fast", "soft_linear": "soft, linear",
    "soft_gaussian": "soft, gaussian",
}  # fmt: skip


def found_with(network: Yolact, kept: Kept, mode: NmsMode) -> Instances:
    """The instances of one image; cross-class fast NMS is held to as many as the others."""
    options = EVERYTHING.replace(nms=mode, max_detections=network.config.max_detections)
    return read_output(network, kept.output, [kept.size], options)[0]


def main() -> None:
    parser = argument_parser(__doc__, name="ablation_nms", example="--data shapes --images 500", rounds=9)
    parser.add_argument("--modes", nargs="+", default=list(NAMES), choices=NMS_MODES, help="kinds of NMS")
    options = parser.parse_args()
    data = prepare(options)
    network = load_yolact(options.weights)
    dataset = validation_images(data, network)
    with torch.inference_mode():
        outputs = network_outputs(network, dataset)
        measured: dict[str, dict[str, float | None]] = {}
        for mode in options.modes:
            measured[mode] = ap_columns(
                measure_found(((kept.image_id, found_with(network, kept, mode)) for kept in outputs), dataset)
            )
            note(f"{mode}: mask AP {measured[mode]['mask AP']}")
        inputs = [logits_and_boxes(kept.output) for kept in outputs[: options.timed_images]]

        def suppress(given: tuple[NDArray[np.float32], NDArray[np.float32]], mode: NmsMode) -> None:
            detect(*given, rules[mode])

        limit = network.config.max_detections
        rules = {mode: rule_of(network.config).replace(nms=mode, max_detections=limit) for mode in options.modes}
        times = interleaved(
            {mode: partial(suppress, mode=mode) for mode in options.modes}, inputs, rounds=options.rounds
        )
    spent = medians(times)
    rows: list[dict[str, Any]] = [
        {"NMS": NAMES[mode], **measured[mode], "NMS ms": spent[mode]} for mode in options.modes
    ]

    title = f"{Path(options.weights).stem}: kinds of NMS on the same network outputs"
    figure, (left, right) = new_figure(title)
    names = [NAMES[mode].replace(" ", "\n") for mode in options.modes]
    draw_bars(left, names, {name: [row[name] for row in rows] for name in ("mask AP", "box AP")})
    left.set(ylabel="AP")
    draw_bars(right, names, {"NMS": [row["NMS ms"] for row in rows]}, digits=2)
    right.set(ylabel="candidates to detections, ms per image")
    candidates = [len(boxes) for _, boxes in inputs]
    publish(options, title=title, rows=rows, figure=figure, candidates=candidates, times_ms=times)


if __name__ == "__main__":
    main()
