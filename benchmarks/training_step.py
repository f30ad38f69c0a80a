"""How long a training step takes, part by part: in channels-last order and in bf16, against the textbook's plain step.

The textbook step (contiguous float32 tensors, as the official code has them) is another layout of the same network.
The time of one image forward, in evaluation mode, is printed too: a step is often quoted in forwards. Peak memory is
printed with a single candidate only (``--candidates float32``), for it belongs to the process.

Several models (``--models yolact_nano protomask_n``) are compared at one input size, in turns within one run, in
channels-last float32 unless ``--candidates`` says otherwise; the ratio is that of the first.
"""

from __future__ import annotations

import copy
import resource
import sys
from argparse import Namespace
from collections.abc import Collection
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from measuring import argument_parser, positive, report
from protomask.data.synthetic.scene import render_scene
from protomask.data.synthetic.shapes import CLASS_NAMES
from protomask.data.training.augmentation import AugmentationConfig
from protomask.data.training.loader import collate
from protomask.data.training.transforms import TrainTransform
from protomask.defaults import DEFAULT_NETWORK
from protomask.engine.allocation import keeping_freed_memory
from protomask.engine.optim import build_optimizer, freeze_batch_norm, freeze_stages
from protomask.models.build import build_criterion, build_network
from protomask.models.network import Network
from protomask.models.zoo import zoo_entry
from protomask.ops.depthwise import DepthwiseGradientsInFloat32
from protomask.structures.target import Target

LAYOUTS = {"textbook": torch.contiguous_format, "float32": torch.channels_last, "bf16": torch.channels_last}


class Candidate:
    """A network in training with everything that a step needs."""

    def __init__(self, name: str, network: Network, images: Tensor, targets: list[Target], *, freeze_bn: bool) -> None:
        layout = LAYOUTS[name]
        self.network = copy.deepcopy(network).to(memory_format=layout).train()
        if freeze_bn:
            freeze_batch_norm(self.network)
        self.criterion = build_criterion(self.network)
        self.optimizer = build_optimizer(self.network, learning_rate=1e-5)
        self.images = network.geometry.normalize(images).contiguous(memory_format=layout)
        self.targets = targets
        self.autocast = torch.autocast("cpu", torch.bfloat16, enabled=name == "bf16")
        self.times: dict[str, list[float]] = {}

    def step(self) -> None:
        last = perf_counter()

        def stop(part: str) -> None:
            nonlocal last
            now = perf_counter()
            self.times.setdefault(part, []).append(1000 * (now - last))
            last = now

        with self.autocast, DepthwiseGradientsInFloat32():
            output = self.network(self.images)
        stop("forward")
        loss = self.criterion(output, self.targets)["loss_total"]
        stop("criterion")
        self.optimizer.zero_grad()
        loss.backward()
        stop("backward")
        self.optimizer.step()
        stop("update")

    def forward_one(self) -> None:
        modes = {module: module.training for module in self.network.modules()}
        self.network.eval()
        with torch.inference_mode(), self.autocast:
            started = perf_counter()
            self.network(self.images[:1])
            self.times.setdefault("one image", []).append(1000 * (perf_counter() - started))
        for module, training in modes.items():
            module.training = training


def take_turns(candidates: Collection[Candidate], rounds: int, *, one_image: bool = False) -> None:
    """Time steps of all in turns, and forwards of one image, after a turn that warms up."""
    for turn in range(rounds + 1):
        for candidate in candidates:
            if turn == 1:
                candidate.times.clear()
            candidate.step()
            if one_image:
                candidate.forward_one()


def main() -> None:
    parser = argument_parser(__doc__, rounds=5)
    parser.add_argument("--models", nargs="+", default=[DEFAULT_NETWORK], help="of the zoo; several are compared")
    parser.add_argument("--image-size", type=positive, help="side of the input; the first model's own by default")
    parser.add_argument("--classes", type=positive, help="number of classes; the model's own by default")
    parser.add_argument("--batch-size", type=positive, default=4, help="images per step")
    parser.add_argument("--freeze-bn", action="store_true", help="fix batch norm, as published for small batches")
    parser.add_argument("--frozen-stages", type=int, default=0, help="first stages of the backbone that do not learn")
    parser.add_argument("--candidates", nargs="+", choices=list(LAYOUTS), help="what to compare; all by default")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    candidates = _candidates(options)
    with keeping_freed_memory():
        take_turns(candidates.values(), options.rounds, one_image=True)
    rows = []
    for name, candidate in candidates.items():
        spent = {f"{part} ms": median(values) for part, values in candidate.times.items()}
        one = spent.pop("one image ms")
        total = sum(spent.values())
        rows.append({"step": name, **spent, "total ms": total, "one image forward ms": one})
    for row in rows:
        row["times as fast"] = rows[0]["total ms"] / row["total ms"]
        row["step in forwards of the first"] = row["total ms"] / rows[0]["one image forward ms"]
    title = f"training step of {', '.join(options.models)}, batch {options.batch_size}, at {options.image_size} px"
    report(title, rows, json_file=options.json)
    if len(candidates) == 1:
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit:.0f} MiB")


def _candidates(options: Namespace) -> dict[str, Candidate]:
    """Every model in every layout; all with the same images."""
    if options.image_size is None:
        options.image_size = zoo_entry(options.models[0]).preset().image_size
    several = len(options.models) > 1
    layouts = options.candidates or (["float32"] if several else list(LAYOUTS))
    found = {}
    for model in options.models:
        names = CLASS_NAMES if options.classes is None else None
        network = build_network(model, class_names=names, num_classes=options.classes, image_size=options.image_size)
        freeze_stages(network.backbone, options.frozen_stages)
        transform = TrainTransform(AugmentationConfig(), network.geometry)
        torch.manual_seed(1)  # the same crops for every model
        samples = []
        for index in range(options.batch_size):
            pixels, target = render_scene(0, index)
            samples.append(transform(torch.from_numpy(pixels).permute(2, 0, 1), target))
        images, targets = collate(samples)
        for layout in layouts:
            name = f"{model} {layout}" if several else layout
            found[name] = Candidate(layout, network, images, targets, freeze_bn=options.freeze_bn)
    return found


if __name__ == "__main__":
    main()
