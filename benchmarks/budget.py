"""What comparisons on equal minutes share: the data, trainings of ours, one judge for everybody's results, times.

Every program is trained for as many minutes on the same images from the same kind of start, writes its detections on
the validation images as COCO results, and is judged by the evaluator of this package. Trainings whose results are there
are not repeated, so that a comparison of hours can be continued.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import yaml

import protomask
from measuring import Lines, note, positive, whole
from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.layout import DatasetPaths, open_dataset
from protomask.detection.options import PredictOptions
from protomask.errors import ExportError
from protomask.evaluation.coco import CocoEvaluator
from protomask.evaluation.evaluate import evaluate, evaluate_results, open_split
from protomask.evaluation.quality import QualityMeter
from protomask.evaluation.results import SavedResults
from protomask.evaluation.truth import GroundTruth
from protomask.images.decode import read_image
from protomask.inference.predictor import Predictor

RUNTIMES: dict[str, tuple[str, dict[str, Any]]] = {
    "ONNX Runtime": ("onnx", {}),
    "OpenVINO": ("xml", {"precision": "bf16"}),
    "OpenVINO float32": ("xml", {}),
}
"""Ending of the file that each runs, and how; bfloat16 is OpenVINO's own choice, so that of others, where the CPU has
it."""
VALIDATED = 4
"""Images in the validation at the end of each training; `Judge` looks at all."""
SCORED = PredictOptions(score_threshold=0.3)
"""What is found while times are measured."""


def add_budget_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--classes", help="only these classes, with commas between; all by default")
    parser.add_argument("--minutes", type=float, default=20, help="of each training, on the clock")
    parser.add_argument("--image-size", type=positive, default=320, help="side of the input")
    parser.add_argument("--batch-size", type=positive, default=8, help="images per step")
    parser.add_argument("--start", choices=("random", "imagenet"), default="random", help="of every backbone")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one training for each")
    parser.add_argument("--max-detections", type=positive, default=100, help="detections of an image that count")
    parser.add_argument("--timed-images", type=whole, default=20, help="measure times on the first so many; 0: none")
    parser.add_argument("--settings", type=json.loads, default={}, help="more settings of our trainings, as JSON")


def named(paths: DatasetPaths) -> dict[str, Any]:
    """What a YAML file says that names both splits of a data set."""
    content: dict[str, Any] = {"exif_orientation": paths.orientation}
    for split in ("train", "val"):
        content |= {f"{split}_{kind}": str(part.resolve()) for kind, part in paths.splits[split]._asdict().items()}
    if paths.classes is not None:
        content["classes"] = list(paths.classes)
    return content


def prepared_data(data: str, classes: str | None, folder: Path) -> Path:
    """A YAML that names the data set, and the only classes if any are chosen. Beside it a ``training.yaml`` whose
    validation is short: the minutes are for training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = open_dataset(data, classes=None if classes is None else classes.split(","))
    content = named(paths)
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    few = json.loads(Path(content["val_annotations"]).read_text(encoding="utf-8"))
    few["images"] = few["images"][:VALIDATED]
    kept = {image["id"] for image in few["images"]}
    few["annotations"] = [one for one in few["annotations"] if one["image_id"] in kept]
    short = folder / "few.json"
    short.write_text(json.dumps(few), encoding="utf-8")
    training = yaml.safe_dump({**content, "val_annotations": str(short.resolve())})
    (folder / "training.yaml").write_text(training, encoding="utf-8")
    return file


def train_ours(data: Path, folder: Path, options: argparse.Namespace, *, seed: int, **settings: Any) -> Path:
    """Train a model of ours, unless the folder has its results; returns the COCO results of the validation images."""
    results = folder / "results.json"
    if not (folder / "results_segm.json").is_file():
        is_random = options.start == "random"
        config: dict[str, Any] = {
            "minutes": options.minutes,
            "image_size": options.image_size,
            "batch_size": options.batch_size,
            "max_detections": options.max_detections,
            "pretrained_backbone": not is_random,
            "freeze_bn": False,
            "validate_every": 10**6,  # only at the end
            "num_workers": 1,
            "check_data": False,
            "resume": (folder / "checkpoints").is_dir(),
            "seed": seed,
            **options.settings,
            **settings,
        }
        started = perf_counter()
        result = protomask.train(
            str(data.with_name("training.yaml")), output=folder, reporter=Lines(folder.name), **config
        )
        if result.interrupted:
            raise SystemExit("stopped; the same command continues")
        save_results(result.last_weights, data, results, config["max_detections"])
        write_facts(folder, steps=result.iteration, minutes=(perf_counter() - started) / 60)
    return results


def save_results(weights: Path, data: Path, results: Path, max_detections: int) -> None:
    """Detections of a model of ours on the validation images."""
    predictor = protomask.load(weights, runtime="torch", device="cpu")
    dataset = open_split(str(data), "val")
    evaluator = CocoEvaluator(dataset, category_ids=dataset.category_ids, max_detections=max_detections)
    asked = PredictOptions(max_detections=max_detections, batch_size=8)
    evaluate(predictor, dataset, options=asked, evaluator=evaluator)
    evaluator.save_results(results)


class Judge:
    """Measures results on the validation images of a data set, whoever found them."""

    def __init__(self, data: Path, max_detections: int) -> None:
        self.dataset: CocoDataset = open_split(str(data), "val")
        self.truth = GroundTruth.load(self.dataset, masks=True)
        self.max_detections = max_detections

    def columns(self, results: Path) -> dict[str, float | None]:
        """AP of masks and boxes, by size and at boundaries, and how well scores know the IoU of all detections."""
        meter = QualityMeter(self.truth, max_detections=self.max_detections)
        metrics = evaluate_results(
            self.truth,
            SavedResults.read(results),
            max_detections=self.max_detections,
            quality=meter,
            errors_above=SCORED.score_threshold,
        )
        mask, box, errors = metrics.tables["mask"], metrics.tables["box"], metrics.errors
        judged = meter.compute().populations["all"]
        score = judged.product or judged.class_score
        return {
            "mask AP": mask.AP,
            "AP50": mask.AP50,
            "AP75": mask.AP75,
            "AP large": mask.AP_large,
            "boundary AP": None if errors is None or errors.boundary is None else errors.boundary.AP,
            "box AP": box.AP,
            "Spearman": score.spearman,
            "ECE": score.calibration_error,
        }

    def judged(self, results: Path) -> dict[str, float | None]:
        """`columns` of the results of a training, worked out once; they stay with the facts beside them."""
        known = read_facts(results.parent)
        if "judged" not in known:
            known = {"judged": self.columns(results)}
            write_facts(results.parent, **known)
        columns: dict[str, float | None] = known["judged"]
        return columns

    def found(self, results: Path) -> float:
        """Objects per image that score enough to be found while times are measured: masks of more take longer."""
        rows = SavedResults.read(results).scored_masks()
        return sum(row["score"] >= SCORED.score_threshold for row in rows) / len(self.dataset)

    def images(self, count: int) -> list[Path]:
        """The first validation images."""
        return [self.dataset.image_path(index) for index in range(min(count, len(self.dataset)))]


def export_ours(weights: Path, images: Sequence[Path], folder: Path) -> dict[str, Path]:
    """The exported files that runtimes run, by their ending; one that does not agree with the model is left out, and
    said.

    They have candidates, as the shipped files: NMS and masks are the reader's, who makes only masks that score enough.
    """
    files = {ending: folder / f"candidates.{ending}" for ending, _ in RUNTIMES.values()}
    for file in files.values():
        if not file.is_file():
            try:
                protomask.export(weights, file, form="candidates", images=images[:4])
            except ExportError as error:
                note(f"{file}: no times, {error}")
    return {ending: file for ending, file in files.items() if file.is_file()}


def time_predictor(predictor: Predictor, images: Sequence[Path], rounds: int) -> float:
    """Median milliseconds from the file of an image to the run-length codes of its masks."""

    def run(path: Path) -> None:
        predictor.predict_images([read_image(path)], SCORED)[0].rle()

    return time_files(run, images, rounds)


def time_files(run: Callable[[Path], None], images: Sequence[Path], rounds: int) -> float:
    """Median milliseconds of a call for each image, several times; the first is not counted."""
    run(images[0])
    spent = []
    for _ in range(rounds):
        for path in images:
            started = perf_counter()
            run(path)
            spent.append(1000 * (perf_counter() - started))
    return median(spent)


def time_ours(weights: Path, folder: Path, images: Sequence[Path], options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds per image in each runtime."""
    files = export_ours(weights, images, folder)
    return {
        f"{name} ms": time_predictor(
            protomask.load(files[ending], threads=options.threads, **how), images, options.rounds
        )
        for name, (ending, how) in RUNTIMES.items()
        if ending in files
    }


def write_facts(folder: Path, **facts: Any) -> None:
    """Add what a training took, or a time, to what is known of it."""
    known = {**read_facts(folder), **facts}
    (folder / "facts.json").write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


def read_facts(folder: Path) -> dict[str, Any]:
    file = folder / "facts.json"
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return content


def averaged(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Means of the numbers of several rows; what is None in all stays None."""
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {
        name: sum(there) / len(there) if (there := [value for value in values if value is not None]) else None
        for name, values in columns.items()
    }


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with the columns of all rows, in the order in which they come."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns), *([_cell(name, row.get(name)) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1f}" if column.endswith(("ms", "minutes", "steps")) else f"{value:.3f}"
    return str(value)
