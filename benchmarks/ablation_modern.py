"""The parts of the modern model, added one by one to `yolact_nano`, each trained for as many minutes.

The rows are data: a YAML list of a name and settings of `protomask train`, by default ablation_modern.yaml beside this
script. Each row has the settings of the row before and its own on top (``model_options`` and ``augmentation`` are added
to; a row that names a ``model`` begins without the options of the one before). What stands ``apart`` is not handed on.
A data set may bring settings, too, as JSON behind its path; they come last. Every row is trained on every data set with
every seed; the table has means over the seeds, and times of the first. Finished trainings are kept in the output
folder, so the same command continues.

Where other work comes and goes, the same minutes are not the same for all. With ``--paced`` the steps of all rows are
timed in turns before, and each row trains for as many as fit into its minutes, however long they then take.

example:
  python benchmarks/ablation_modern.py --minutes 20 --seeds 0 1 2 --start imagenet \\
    --data shapes 'nuclei={"max_detections": 400, "model_options": {"max_detections": 400}}' \\
    'everyday={"classes": ["person", "car"], "mask_weights": {"pseudo": 0.5}}'
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import torch
import yaml

import budget
from budget import Judge, averaged, markdown, prepared_data, read_facts, time_ours, train_ours, write_facts
from measuring import argument_parser, note
from protomask.bench.machine import describe_machine
from protomask.data.coco.layout import open_dataset
from protomask.data.shards.opening import dataset_of_split
from protomask.data.training.augmentation import AugmentationConfig
from protomask.data.training.loader import collate
from protomask.data.training.transforms import TrainTransform
from protomask.engine.optim import freeze_stages
from protomask.models.build import build_network
from protomask.models.zoo import zoo_entry
from training_step import Candidate, take_turns

NESTED = ("model_options", "augmentation")
PLOTTED = ("mask AP", "AP75", "boundary AP", "Spearman")


def cumulative(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Settings of each row by its name, with those of the rows before."""
    found: dict[str, dict[str, Any]] = {}
    before: dict[str, Any] = {}
    for row in rows:
        own = {name: value for name, value in row.items() if name not in ("name", "apart")}
        if own.get("model", before.get("model")) != before.get("model"):
            before = {name: value for name, value in before.items() if name != "model_options"}
        found[str(row["name"])] = added(before, own)
        if not row.get("apart"):
            before = found[str(row["name"])]
    return found


def added(settings: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others on top, those within a setting one by one."""
    nested = {name: {**settings.get(name, {}), **more[name]} for name in NESTED if name in more}
    return {**settings, **more, **nested}


def file_name(text: str) -> str:
    return re.sub(r"\W+", "-", text).strip("-").lower()


def steps_of(rows: Mapping[str, Mapping[str, Any]], data: Path, folder: Path, options: Any) -> dict[str, int]:
    """How many steps of each row fit into the minutes: loading of a batch and median of steps timed in turns."""
    file = folder / "steps.json"
    if file.is_file():
        known: dict[str, int] = json.loads(file.read_text(encoding="utf-8"))
        return known
    dataset = dataset_of_split(open_dataset(str(data)), "train")
    candidates, loading = {}, []
    for name, settings in rows.items():
        own = {"image_size": options.image_size, **settings.get("model_options", {})}
        network = build_network(zoo_entry(settings["model"]).preset(), class_names=dataset.class_names, **own)
        freeze_stages(network.backbone, {**options.settings, **settings}.get("frozen_stages", 0))
        transform = TrainTransform(AugmentationConfig(), network.geometry)
        torch.manual_seed(0)  # the same crops for every row
        started = perf_counter()
        samples = [transform(*dataset[index]) for index in range(options.batch_size)]
        loading.append(perf_counter() - started)
        candidates[name] = Candidate("float32", network, *collate(samples), freeze_bn=False)
    take_turns(candidates.values(), options.rounds)
    seconds = {
        name: median(loading) + sum(map(median, candidate.times.values())) / 1000
        for name, candidate in candidates.items()
    }
    found = {name: round(60 * options.minutes / spent) for name, spent in seconds.items()}
    note(f"{data}: seconds of a step, with loading: {json.dumps(seconds)}")
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def measure(name: str, settings: Mapping[str, Any], data: Path, folder: Path, options: Any) -> list[dict[str, Any]]:
    """One row of numbers for each seed on one data set."""
    judge, rows = Judge(data, settings.get("max_detections", options.max_detections)), []
    for seed in options.seeds:
        run = folder / f"{file_name(name)}_{seed}"
        results = train_ours(data, run, options, seed=seed, **settings)
        if seed == options.seeds[0] and options.timed_images and "ms" not in read_facts(run):
            images = judge.images(options.timed_images)
            write_facts(run, ms=time_ours(run / "last.safetensors", run, images, options))
        facts = read_facts(run)
        rows.append({**judge.judged(results), "steps": facts["steps"], **facts.get("ms", {})})
        note(f"{run}: {json.dumps(rows[-1])}")
    return rows


def draw(tables: Mapping[str, Sequence[Mapping[str, Any]]], by_seed: Mapping[str, Any], file: Path) -> None:
    """A panel for each data set: what is measured, row by row, with the spread of the seeds."""
    figure, panels = plt.subplots(
        1, len(tables), figsize=(5.5 * len(tables), 4.5), dpi=110, constrained_layout=True, squeeze=False
    )
    for axes, (data, rows) in zip(panels[0], tables.items(), strict=True):
        places = range(len(rows))
        for column in PLOTTED:
            values = [row[column] if row[column] is not None else float("nan") for row in rows]
            [line] = axes.plot(places, values, marker="o", markersize=4, label=column)
            for place, row in zip(places, rows, strict=True):
                seeds = [one[column] for one in by_seed[data][row["row"]] if one[column] is not None]
                if len(seeds) > 1:
                    axes.vlines(place, min(seeds), max(seeds), color=line.get_color(), linewidth=1)
        axes.set_xticks(list(places), [row["row"] for row in rows], rotation=35, ha="right", fontsize="small")
        axes.set(title=data, ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")
    figure.savefig(file)
    plt.close(figure)


def main() -> None:
    parser = argument_parser(__doc__, rounds=3)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", nargs="+", required=True, metavar="PATH[=JSON]", help="data sets, as for train")
    parser.add_argument("--rows", type=Path, default=Path(__file__).with_suffix(".yaml"), help="YAML of the rows")
    parser.add_argument("--only", nargs="+", help="names of the only rows to train")
    parser.add_argument("--paced", action="store_true", help="steps that fit into the minutes, timed in turns before")
    parser.add_argument("--output", type=Path, default=Path("runs/ablation_modern"), help="folder of everything")
    budget.add_budget_options(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = cumulative(yaml.safe_load(options.rows.read_text(encoding="utf-8")))
    chosen = {name: settings for name, settings in rows.items() if not options.only or name in options.only}
    if not chosen:
        raise SystemExit(f"--only: expected names of rows of {options.rows}")
    tables: dict[str, list[dict[str, Any]]] = {}
    by_seed: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for source in options.data:
        place, _, more = source.partition("=")
        own = json.loads(more or "{}")
        classes = ",".join(own.pop("classes")) if "classes" in own else options.classes
        name = Path(place).stem
        folder = options.output / name
        data = prepared_data(place, classes, folder)
        every = {row: added(settings, own) for row, settings in rows.items()}
        steps = steps_of(every, data, folder, options) if options.paced else {}
        for row in chosen:
            # As they were timed, in float32.
            pace = {"minutes": None, "iterations": steps[row], "mixed_precision": "no"} if options.paced else {}
            by_seed.setdefault(name, {})[row] = measure(row, {**every[row], **pace}, data, folder, options)
            tables.setdefault(name, []).append({"row": row, **averaged(by_seed[name][row])})
            write(options, chosen, tables, by_seed)  # what there is so far
    print((options.output / "ablation_modern.md").read_text(encoding="utf-8"))


def write(options: argparse.Namespace, chosen: Any, tables: Any, by_seed: Any) -> None:
    """The JSON of all numbers, the tables and the plot."""
    where = describe_machine()
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    content = {"environment": where, "options": asked, "rows": chosen, "tables": tables, "by_seed": by_seed}
    stem = options.output / "ablation_modern"
    stem.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    text = [f"{options.minutes:g} minutes at {options.image_size} px, start {options.start}, seeds {options.seeds}; "]
    text[0] += ", ".join(f"{name} {value}" for name, value in where.items())
    text += [f"## {data}\n\n{markdown(rows)}" for data, rows in tables.items()]
    stem.with_suffix(".md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    draw(tables, by_seed, stem.with_suffix(".png"))


if __name__ == "__main__":
    torch.set_num_interop_threads(1)
    main()
