"""How long the parts of a training step take: forward, criterion, backward, update."""

from __future__ import annotations

from statistics import median
from time import perf_counter

import torch

from measuring import argument_parser, report
from protomask.data.augmentation import AugmentationConfig
from protomask.data.loader import collate
from protomask.data.synthetic import CLASS_NAMES, render_scene
from protomask.data.transforms import TrainTransform
from protomask.engine.optim import build_optimizer
from protomask.models.zoo import DEFAULT_MODEL, build_criterion, build_network


def main() -> None:
    parser = argument_parser(__doc__, rounds=5)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--batch-size", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    network = build_network(options.model, class_names=CLASS_NAMES).to(memory_format=torch.channels_last).train()
    criterion = build_criterion(network)
    optimizer = build_optimizer(network, learning_rate=1e-3)
    transform = TrainTransform(AugmentationConfig(), network.geometry)
    samples = []
    for index in range(options.batch_size):
        pixels, target = render_scene(0, index)
        samples.append(transform(torch.from_numpy(pixels).permute(2, 0, 1), target))
    pixels, targets = collate(samples)
    images = network.geometry.normalize(pixels).contiguous(memory_format=torch.channels_last)
    times: dict[str, list[float]] = {}
    for turn in range(options.rounds + 1):
        last = perf_counter()

        def stop(part: str, turn: int = turn) -> None:
            nonlocal last
            now = perf_counter()
            if turn:  # the first turn warms up
                times.setdefault(part, []).append(1000 * (now - last))
            last = now

        output = network(images)
        stop("forward")
        loss = criterion(output, targets)["loss_total"]
        stop("criterion")
        optimizer.zero_grad()
        loss.backward()
        stop("backward")
        optimizer.step()
        stop("update")
    medians = {part: median(values) for part, values in times.items()}
    total = sum(medians.values())
    rows = [{"part": part, "ms": value, "share": f"{value / total:.0%}"} for part, value in medians.items()]
    rows.append({"part": "total", "ms": total, "share": f"{1000 * options.batch_size / total:.1f} images/s"})
    title = f"training step of {options.model}, batch {options.batch_size}, {sum(map(len, targets))} objects"
    report(title, rows, json_file=options.json)


if __name__ == "__main__":
    main()
