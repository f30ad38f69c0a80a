"""Number of prototypes k: AP after the same short training for each k, and time per image (YOLACT, table 2b).

Every k starts from the same weights; the two layers that depend on k, the last of the Protonet and the mask
coefficients of the head, are re-initialised for all of them.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.ticker import NullLocator

from ablation import (
    add_training_options,
    ap_columns,
    argument_parser,
    compared_rows,
    draw_lines,
    fine_tune,
    load_yolact,
    new_figure,
    prepare,
    publish,
    time_networks,
)
from measuring import note, positive
from protomask.checkpoints.io import load_matching, save_weights
from protomask.models.build import build_network
from protomask.models.network import Network


def without_prototypes(weights: str, counts: list[int], file: Path) -> Path:
    """The weights with a number of prototypes that no candidate has, so that none finds layers of its own in them."""
    source = load_yolact(weights)
    network = build_network(source.config.override(num_prototypes=max(counts) + 1), class_names=source.class_names)
    re_initialised = load_matching(network, source.state_dict())
    note(f"re-initialised for every k: {', '.join(re_initialised)}")
    return save_weights(network, file)


def main() -> None:
    parser = argument_parser(
        __doc__, name="ablation_prototypes", example="--iterations 1000 --batch-size 4 --seeds 0 1 2 --images 500"
    )
    parser.add_argument(
        "--prototypes", type=positive, nargs="+", default=[8, 16, 32, 64], metavar="K", help="values of k"
    )
    parser.add_argument("--iterations", type=positive, default=300, help="training steps for each k and seed")
    parser.add_argument(
        "--image-size", type=positive, help="side of the network's input, that of the weights if absent"
    )
    add_training_options(parser)
    options = parser.parse_args()
    data = prepare(options)
    start = without_prototypes(options.weights, options.prototypes, options.output / "start.safetensors")

    networks: dict[int, Network] = {}
    measured: dict[int, list[dict[str, float | None]]] = {}
    for seed in options.seeds:
        for count in options.prototypes:
            networks[count], metrics = fine_tune(
                options, data, run=f"k{count}_seed{seed}", iterations=options.iterations, seed=seed,
                weights=str(start), image_size=options.image_size, model_options={"num_prototypes": count},
            )  # fmt: skip
            measured.setdefault(count, []).append(ap_columns(metrics))
    times = time_networks(networks, data, images=options.timed_images, rounds=options.rounds)
    columns = list(measured[options.prototypes[0]][0])
    rows = compared_rows("k", measured, times)

    title = f"{Path(options.weights).stem}: number of prototypes, {options.iterations} steps each"
    figure, (left, right) = new_figure(title)
    draw_lines(
        left,
        options.prototypes,
        {name: [[one[name] for one in measured[count]] for count in options.prototypes] for name in columns},
    )
    left.set(ylabel="AP")
    draw_lines(
        right,
        options.prototypes,
        {part: [[row[f"{part} ms"]] for row in rows] for part in times},
    )
    right.set(ylabel="ms per image")
    for axes in (left, right):
        axes.set(xlabel="prototypes k", xscale="log")
        axes.set_xticks(options.prototypes, map(str, options.prototypes))
        axes.xaxis.set_minor_locator(NullLocator())
    by_seed = {count: dict(zip(map(str, options.seeds), values, strict=True)) for count, values in measured.items()}
    publish(options, title=title, rows=rows, figure=figure, by_seed=by_seed, times_ms=times)


if __name__ == "__main__":
    main()
