"""How long one image takes in the network alone (no reading, no masks), for every preset, with untrained weights.

Images have 4:3; YOLACT makes squares of them. Of two-stage models this is all until the box head, with 1000 proposals.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from measuring import argument_parser, milliseconds, positive, report
from protomask import build, list_models
from protomask.models.network import Network
from protomask.ops.geometry import preprocess_pixels
from scenes import random_image


def main() -> None:
    parser = argument_parser(__doc__, rounds=5)
    parser.add_argument("--models", nargs="+", default=list_models(), choices=list_models(), metavar="NAME")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=positive, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    forward: dict[str, Callable[[], None]] = {}
    parameters: dict[str, float] = {}
    sizes: dict[str, str] = {}
    for name in options.models:
        network = build(name, device=options.device).network
        image = preprocess_pixels(random_image(480, 640, seed=0), network.geometry, device)
        images = network.geometry.batch([image] * options.batch_size)
        forward[name] = partial(run, network, images.contiguous(memory_format=torch.channels_last), device)
        parameters[name] = sum(tensor.numel() for tensor in network.parameters()) / 1e6
        sizes[name] = f"{image.shape[2]}x{image.shape[1]}"
    times = milliseconds(forward, rounds=options.rounds)
    rows = [
        {
            "model": name,
            "input": sizes[name],
            "parameters (M)": parameters[name],
            "forward ms per image": times[name] / options.batch_size,
            "images per second": 1000 * options.batch_size / times[name],
        }
        for name in options.models
    ]
    title = f"network alone, batch {options.batch_size}, {options.device}"
    report(title, rows, json_file=options.json)


def run(network: Network, images: Any, device: torch.device) -> None:
    with torch.inference_mode():
        network(images)
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
