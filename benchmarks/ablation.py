"""What the ablations of this folder share: options, validation images, AP, times, short trainings, table, JSON, plot.

An ablation changes one thing and leaves all else as it is: the same weights to start from, the same images in the same
order, the same seeds. Times are medians; the candidates take turns on every image, so that a change in the machine's
load meets all of them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from measuring import Lines, milliseconds, note, positive
from protomask.bench.machine import describe_machine
from protomask.checkpoints.sources import load_network
from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.layout import open_dataset
from protomask.data.training.augmentation import AugmentationConfig
from protomask.data.training.loader import ValidationBatch, validation_batches
from protomask.detection.options import PredictOptions
from protomask.engine.config import TrainConfig
from protomask.engine.run import train
from protomask.errors import DataError
from protomask.evaluation.coco import CocoEvaluator
from protomask.evaluation.evaluate import evaluate
from protomask.evaluation.quality import QualityMeter
from protomask.evaluation.tables import CocoMetrics
from protomask.models.families import read_output
from protomask.models.network import Network
from protomask.models.yolact.heads import YolactOutput
from protomask.models.yolact.model import Yolact
from protomask.ops.boxes import decode_boxes
from protomask.structures.instances import Instances
from protomask.torch_runtime.predictor import TorchPredictor

Rows = Sequence[Mapping[str, Any]]
EVERYTHING = PredictOptions(score_threshold=0.0)
"""AP wants all that a model finds."""


# Options


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults of all options, and the example as it is written."""


def argument_parser(description: str, *, name: str, example: str, rounds: int = 5) -> argparse.ArgumentParser:
    """The options every ablation has; its files are called after ``name``."""
    parser = argparse.ArgumentParser(
        description=description, epilog=f"example:\n  python benchmarks/{name}.py {example}", formatter_class=_Help
    )
    parser.set_defaults(name=name)
    parser.add_argument("--data", type=_dataset, default="shapes", help="data set, as for protomask train")
    parser.add_argument("--weights", default="yolact_nano", help="trained model: a file or a name of the zoo")
    parser.add_argument(
        "--images", type=positive, default=200, help="measure AP on the first so many validation images"
    )
    parser.add_argument("--timed-images", type=positive, default=20, help="measure times on the first so many of them")
    parser.add_argument("--rounds", type=positive, default=rounds, help="timed runs of every candidate on an image")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="threads PyTorch may use")
    parser.add_argument(
        "--output", type=Path, default=Path("runs") / name, help=f"folder for {name}.json, {name}.png and training runs"
    )
    return parser


def add_training_options(
    parser: argparse.ArgumentParser, *, batch_size: int = 8, learning_rate: float = 0.01, seeds: Sequence[int] = (0,)
) -> None:
    """The options of ablations that train."""
    parser.add_argument("--batch-size", type=positive, default=batch_size, help="images per step")
    parser.add_argument("--learning-rate", type=float, default=learning_rate, help="at batch size 8")
    parser.add_argument("--workers", type=int, default=1, help="processes that load training images")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds), help="one training for each")


def _dataset(text: str) -> str:
    try:
        open_dataset(text)
    except DataError as error:
        make = "protomask data synth shapes --images 8000 --val-images 500 --seed 0"
        raise argparse.ArgumentTypeError(f"{error}; synthetic scenes: {make}") from error
    return text


def prepare(options: argparse.Namespace) -> Path:
    """Make the output folder and in it a data set with the first validation images alone; returns its YAML file."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    paths = open_dataset(options.data)
    content = json.loads(paths.splits["val"].annotations.read_text(encoding="utf-8"))
    content["images"] = content["images"][: options.images]
    chosen = {image["id"] for image in content["images"]}
    content["annotations"] = [item for item in content["annotations"] if item["image_id"] in chosen]
    annotations = folder / "val.json"
    annotations.write_text(json.dumps(content), encoding="utf-8")
    described = {"exif_orientation": paths.orientation}
    for split in ("train", "val"):
        parts = paths.splits[split] if split == "train" else paths.splits[split]._replace(annotations=annotations)
        described |= {f"{split}_{kind}": str(part.resolve()) for kind, part in parts._asdict().items()}
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump(described), encoding="utf-8")
    return file


# Average precision


def load(weights: str | Path) -> Network:
    """A trained network on the CPU, laid out as `protomask.load` does."""
    return load_network(weights).to(memory_format=torch.channels_last)


def load_yolact(weights: str | Path) -> Yolact:
    """The same for ablations of what only YOLACT has."""
    network = load(weights)
    if not isinstance(network, Yolact):
        raise SystemExit(f"--weights: expected a YOLACT, got {network.config.name}")
    return network


def validation_images(data: Path, network: Network) -> CocoDataset:
    """The validation images, their classes in the order of the network's."""
    paths = open_dataset(data)
    return CocoDataset.of_split(paths, "val", class_names=network.class_names)


def measure(network: Network, data: Path, *, quality: QualityMeter | None = None) -> CocoMetrics:
    """AP of a network as `protomask eval` measures it."""
    dataset = validation_images(data, network)
    return evaluate(TorchPredictor(network), dataset, options=PredictOptions(batch_size=8), quality=quality)


def measure_found(found: Iterable[tuple[int, Instances]], dataset: CocoDataset) -> CocoMetrics:
    """AP of (image id, instances) of every image of the data set."""
    evaluator = CocoEvaluator(dataset.annotation_file, category_ids=dataset.category_ids)
    for image_id, instances in found:
        evaluator.update(image_id, instances)
    return evaluator.evaluate()


def ap_columns(metrics: CocoMetrics) -> dict[str, float | None]:
    """What every table says of an evaluation."""
    mask, box = metrics.tables["mask"], metrics.tables["box"]
    return {"mask AP": mask.AP, "mask AP50": mask.AP50, "mask AP75": mask.AP75, "box AP": box.AP}


# Network outputs that are kept


class Kept(NamedTuple):
    """What the network predicts for one image.

    Attributes:
        image_id: in the data set.
        size: (H, W) of the image.
        output: batch of one, without the anchors that the postprocess would never look at.

    """

    image_id: int
    size: tuple[int, int]
    output: YolactOutput


def network_outputs(network: Yolact, dataset: CocoDataset) -> list[Kept]:
    """Run the network once on every image."""
    return [
        Kept(image_id, size, _candidates_only(network(images), network.config.candidate_threshold))
        for images, (size,), (image_id,) in _batches_of_one(network, dataset)
    ]


def _batches_of_one(network: Network, dataset: CocoDataset) -> Iterator[ValidationBatch]:
    for images, sizes, image_ids in validation_batches(dataset, network.geometry, batch_size=1, num_workers=0):
        yield images.contiguous(memory_format=torch.channels_last), sizes, image_ids


def _candidates_only(output: YolactOutput, threshold: float) -> YolactOutput:
    class_scores = output.class_logits[0].softmax(dim=-1)[:, 1:]
    chosen = (class_scores.amax(dim=1) > threshold).nonzero()[:, 0]
    return output._replace(
        box_deltas=output.box_deltas[:, chosen],
        class_logits=output.class_logits[:, chosen],
        mask_coefficients=output.mask_coefficients[:, chosen],
        anchors=output.anchors[chosen],
    )


def logits_and_boxes(output: YolactOutput) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What `protomask.detection.prototypes.detect` chooses from: class logits and relative boxes of a kept output."""
    return output.class_logits[0].numpy(), decode_boxes(output.box_deltas[0], output.anchors).numpy()


# Times


def interleaved(
    candidates: Mapping[Any, Callable[[Any], Any]], items: Iterable[Any], *, rounds: int
) -> dict[Any, list[float]]:
    """Milliseconds of every candidate on every item (medians of the rounds); all take turns on each item."""
    times = [
        milliseconds({name: partial(run, item) for name, run in candidates.items()}, rounds=rounds) for item in items
    ]
    return {name: [row[name] for row in times] for name in candidates}


def time_networks(
    networks: Mapping[Any, Network], data: Path, *, images: int, rounds: int
) -> dict[str, dict[Any, list[float]]]:
    """Milliseconds of ``network`` and ``postprocess`` (until masks on their grids) for single images."""
    inputs: dict[Any, list[Any]] = {}
    sizes: list[tuple[int, int]] = []
    for name, network in networks.items():
        dataset = validation_images(data, network)
        dataset.keep_first(images)
        batches = list(_batches_of_one(network.eval(), dataset))
        inputs[name] = [batch for batch, _, _ in batches]
        sizes = [size for _, (size,), _ in batches]
    with torch.inference_mode():
        outputs = {name: [network(image) for image in inputs[name]] for name, network in networks.items()}

        def forward(index: int, name: Any) -> None:
            networks[name](inputs[name][index])

        def read(index: int, name: Any) -> None:
            read_output(networks[name], outputs[name][index], [sizes[index]], EVERYTHING)

        return {
            part: interleaved({name: partial(run, name=name) for name in networks}, range(len(sizes)), rounds=rounds)
            for part, run in (("network", forward), ("postprocess", read))
        }


def compared_rows(
    column: str,
    measured: Mapping[Any, Sequence[Mapping[str, float | None]]],
    times: Mapping[str, Mapping[Any, Sequence[float]]],
) -> list[dict[str, Any]]:
    """A line for each candidate: its name under ``column``, means over seeds, and the medians of `time_networks`."""
    spent = {part: medians(values) for part, values in times.items()}
    return [
        {
            column: name,
            **{key: mean(one[key] for one in values) for key in values[0]},
            **{f"{part} ms": spent[part][name] for part in spent},
        }
        for name, values in measured.items()
    ]


# Short trainings


def fine_tune(
    options: argparse.Namespace, data: Path, *, run: str, iterations: int, seed: int, **settings: Any
) -> tuple[Network, CocoMetrics]:
    """Train from weights (or, with ``weights=None``, from nothing) for a while and measure.

    A run from the same weights in the output folder is continued.

    Batch norm keeps its statistics, for a short training would only disturb them; and shapes have all sizes already, so
    images are flipped and turned, but neither zoomed nor cropped.

    Args:
        options: of `add_training_options`.
        data: data set.
        run: what its folder is called, before the fingerprint of the weights.
        iterations: steps.
        seed: of everything random.
        settings: further fields of `TrainConfig`.

    """
    weights = settings.get("weights", options.weights)
    config = TrainConfig(
        **{
            "data": str(data),
            "weights": weights,
            "output": str(options.output / (f"{run}_{_fingerprint(weights)}" if weights else run)),
            "iterations": iterations,
            "batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
            "schedule": "cosine",
            "freeze_bn": True,
            "augmentation": AugmentationConfig(zoom_out=0, crop=0, vertical_flip=0.5, rotate90=0.5),
            "validate_every": 1_000_000,  # only at the end
            "seed": seed,
            "num_workers": options.workers,
            "device": "cpu",
            "resume": True,
            **settings,
        }
    )
    result = train(config, reporter=Lines(run))
    if result.interrupted:
        raise SystemExit("stopped; the same command continues")
    network = load(result.last_weights)
    return network, result.metrics or measure(network, data)


def _fingerprint(weights: str) -> str:
    """Tells weights of one name apart: a run must not be taken for that of others."""
    digest = hashlib.sha256()
    for name, tensor in load_network(weights).state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:8]


# Results


def cell(column: str, value: Any) -> str:
    """A value as tables show it: milliseconds with two digits, all other fractions with four."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if column.endswith("ms") else f"{value:.4f}"
    return str(value)


def markdown(rows: Rows) -> str:
    """A table with the columns of the first row."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([cell(name, row[name]) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is there."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def medians(times: Mapping[Any, Sequence[float]]) -> dict[Any, float]:
    """Median over the items of `interleaved`."""
    return {name: median(values) for name, values in times.items()}


def publish(options: argparse.Namespace, *, title: str, rows: Rows, figure: Figure, **raw: Any) -> None:
    """Print the table; write NAME.json with all numbers and NAME.png into the output folder."""
    where = describe_machine()
    print(f"{title}\n\n{markdown(rows)}\n\n{', '.join(f'{name} {value}' for name, value in where.items())}")
    settings = {
        **{name: value for name, value in vars(options).items() if name not in ("name", "output")},
        # Which model and data, not where on whose machine.
        "data": Path(options.data).name,
        "weights": Path(options.weights).name,
    }
    content = {"title": title, "environment": where, "settings": settings, "rows": list(rows), **raw}
    file = options.output / f"{options.name}.json"
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    picture = options.output / f"{options.name}.png"
    figure.savefig(picture)
    plt.close(figure)
    note(f"{file}\n{picture}")


# Plots


def new_figure(title: str, panels: int = 2) -> tuple[Figure, Sequence[Axes]]:
    """Panels side by side."""
    figure, axes = plt.subplots(1, panels, figsize=(5 * panels, 3.6), dpi=110, constrained_layout=True, squeeze=False)
    figure.suptitle(title)
    for axis in axes[0]:
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
    return figure, axes[0]


def draw_lines(axes: Axes, x: Sequence[float], series: Mapping[str, Sequence[Sequence[float | None]]]) -> None:
    """One line for each name through the means of the values at each x, with bars from the least to the largest."""
    for name, points in series.items():
        there = [(place, [v for v in values if v is not None]) for place, values in zip(x, points, strict=True)]
        there = [(place, values) for place, values in there if values]
        middle = [sum(values) / len(values) for _, values in there]
        below = [m - min(values) for m, (_, values) in zip(middle, there, strict=True)]
        above = [max(values) - m for m, (_, values) in zip(middle, there, strict=True)]
        places = [place for place, _ in there]
        bars = [below, above] if any(below + above) else None
        style = "--" if "box" in name else "-"
        axes.errorbar(places, middle, yerr=bars, linestyle=style, marker="o", markersize=4, capsize=3, label=name)
    axes.set_ylim(0, None)
    axes.legend(frameon=False, fontsize="small")


def draw_bars(
    axes: Axes, groups: Sequence[str], series: Mapping[str, Sequence[float | None]], *, digits: int = 3
) -> None:
    """Groups of bars, one bar of each group for each name, with their values above."""
    width = 0.8 / len(series)
    for position, (name, values) in enumerate(series.items()):
        places = [group + (position - (len(series) - 1) / 2) * width for group in range(len(groups))]
        bars = axes.bar(places, [value or 0.0 for value in values], width, label=name)
        labels = ["-" if value is None else f"{value:.{digits}f}" for value in values]
        axes.bar_label(bars, labels, fontsize="x-small", padding=1)
    axes.set_xticks(range(len(groups)), groups)
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.28 if len(series) > 1 else 0.12)  # room for the legend
    if len(series) > 1:
        axes.legend(frameon=False, fontsize="small")
