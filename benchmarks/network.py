"""How long one image takes in the network alone (no reading, no masks), for every preset, with untrained weights.

Images have 4:3; YOLACT makes squares of them. Of two-stage models this is all until the box head, with 1000 proposals.
"""

from __future__ import annotations

import torch

from measuring import argument_parser, milliseconds, report
from protomask import build, list_models


def main() -> None:
    parser = argument_parser(__doc__, rounds=5)
    parser.add_argument("--models", nargs="+", default=list_models(), choices=list_models(), metavar="NAME")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    forward, parameters, sizes = {}, {}, {}
    for name in options.models:
        network = build(name, device=options.device).network
        geometry = network.geometry
        image = geometry.preprocess(torch.randint(256, (3, 480, 640), dtype=torch.uint8))
        images = geometry.batch([image] * options.batch_size).to(options.device)
        images = images.contiguous(memory_format=torch.channels_last)

        def run(network=network, images=images):
            with torch.inference_mode():
                network(images)
            if options.device.startswith("cuda"):
                torch.cuda.synchronize()

        forward[name] = run
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


if __name__ == "__main__":
    main()
