"""Image size against speed and AP of one trained model (YOLACT, table 1: 400, 550 and 700 pixels).

Anchors cover the same share of the image at every size, as in the paper's models, which were trained at each size. By
default the weights are used as they are; with --train-iterations each size is fine-tuned first.

Without training, a network goes on regressing boxes in pixels as it learned to, so anchors that were scaled make them
too large or too small. The columns "fixed anchors" show the same weights with anchors that keep their pixels.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ablation import (
    add_training_options,
    ap_columns,
    argument_parser,
    compared_rows,
    draw_lines,
    fine_tune,
    load_yolact,
    measure,
    new_figure,
    prepare,
    publish,
    time_networks,
)
from measuring import note, positive
from protomask.checkpoints.io import load_exactly
from protomask.models.network import Network
from protomask.models.yolact.model import Yolact


def resized(network: Yolact, size: int, *, scale_anchors: bool = True) -> Yolact:
    """The same weights in a network for another input size."""
    config = network.config.at_image_size(size) if scale_anchors else replace(network.config, image_size=size)
    other = Yolact(config, network.class_names).eval()
    load_exactly(other, network.state_dict(), source=f"weights at {size} px")
    return other.to(memory_format=torch.channels_last)


def main() -> None:
    parser = argument_parser(__doc__, name="ablation_image_size", example="--data shapes --images 500")
    parser.add_argument("--sizes", type=positive, nargs="+", default=[160, 192, 224, 256, 320, 384], metavar="PX")
    parser.add_argument("--train-iterations", type=int, default=0, help="fine-tune each size by so many steps first")
    add_training_options(parser)
    options = parser.parse_args()
    data = prepare(options)
    source = load_yolact(options.weights)

    networks: dict[int, Network] = {}
    measured: dict[int, list[dict[str, float | None]]] = {}
    for size in options.sizes:
        if options.train_iterations:
            for seed in options.seeds:
                networks[size], metrics = fine_tune(
                    options, data, run=f"{size}px_seed{seed}", iterations=options.train_iterations, seed=seed,
                    image_size=size,
                )  # fmt: skip
                measured.setdefault(size, []).append(ap_columns(metrics))
        else:
            networks[size] = resized(source, size)
            fixed = ap_columns(measure(resized(source, size, scale_anchors=False), data))
            measured[size] = [
                {
                    **ap_columns(measure(networks[size], data)),
                    **{f"{name}, fixed anchors": fixed[name] for name in ("mask AP", "box AP")},
                }
            ]
            note(f"{size} px: mask AP {measured[size][0]['mask AP']}")
    times = time_networks(networks, data, images=options.timed_images, rounds=options.rounds)
    columns = list(measured[options.sizes[0]][0])
    rows = compared_rows("image size", measured, times)

    how = f"{options.train_iterations} steps each" if options.train_iterations else "without retraining"
    title = f"{Path(options.weights).stem}, trained at {source.config.image_size} px: image size, {how}"
    figure, (left, right) = new_figure(title)
    draw_lines(
        left,
        options.sizes,
        {name: [[one[name] for one in measured[size]] for size in options.sizes] for name in columns},
    )
    left.axvline(source.config.image_size, color="0.6", linestyle=":", linewidth=1)
    left.set(xlabel="image size (px; dotted: trained at)", ylabel="AP")
    total = [row["network ms"] + row["postprocess ms"] for row in rows]
    right.plot(total, [row["mask AP"] for row in rows], marker="o", markersize=4)
    for place, row in zip(total, rows, strict=True):
        if row["mask AP"] is not None:
            right.annotate(
                row["image size"], (place, row["mask AP"]), textcoords="offset points", xytext=(5, -9), fontsize="small"
            )
    right.set(
        xlabel="network and postprocess, ms per image", ylabel="mask AP", xlim=(0, 1.1 * max(total)), ylim=(0, None)
    )
    by_seed = {size: dict(zip(map(str, options.seeds), values, strict=False)) for size, values in measured.items()}
    publish(options, title=title, rows=rows, figure=figure, by_seed=by_seed, times_ms=times)


if __name__ == "__main__":
    main()
