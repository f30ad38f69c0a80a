"""`protomask demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from protomask.evaluation.tables import CocoMetrics
    from protomask.inference.base import ImagePredictor

EXAMPLE = "protomask demo --save-dir protomask-demo"


def run(
    *,
    save_dir: str = "protomask-demo",
    images: int = 60,
    seed: int = 20260,
    score_threshold: float = 0.3,
    device: str = "auto",
    json: bool = False,
) -> int:
    """Try the shipped model: pictures of what it finds in shipped scenes, its AP on fresh ones, its speed.

    Args:
        save_dir: folder to write to.
        images: fresh scenes to render and measure on.
        seed: seed of the fresh scenes; the model was trained on seed 0.
        score_threshold: show only what scores above this.
        device: auto, cpu, cuda, cuda:N or mps.
        json: print one JSON document instead of tables.
    """
    from pathlib import Path

    from protomask.cli.output import dump_json, print_table
    from protomask.errors import ConfigError
    from protomask.inference.predictor import load

    if images < 1:
        raise ConfigError(f"images: expected at least 1, got {images}")
    predictor = load(device=device)
    pictures = Path(save_dir)
    found = _predict_samples(predictor, pictures, score_threshold)
    metrics, stages = _measure(predictor, pictures / "fresh-scenes", images, seed)
    if json:
        dump_json({"found": found, "fresh": metrics.to_dict(), "milliseconds": stages, "save_dir": str(pictures)})
        return 0
    rows = [[row["file"], row["instances"], row["found"], row["best"]] for row in found]
    print_table(["scene", "instances", "found", "best score"], rows, title=f"{predictor.source} on shipped scenes")
    print_table(
        ["metric", *metrics.tables],
        [[name, *values] for name, values in metrics.rows()[:6]],
        title=f"{images} freshly rendered scenes (seed {seed})",
    )
    total = sum(stages.values())
    rows = [[name, milliseconds, f"{milliseconds / total:.0%}"] for name, milliseconds in stages.items()]
    print_table(
        ["stage", "ms per image", "share"],
        [*rows, ["total", total, f"{1000 / total:.0f} images/s"]],
        title=f"time per image on {predictor.device} (median)",
    )
    print(f"pictures, predictions.json and predictions.jsonl are in {pictures.resolve()}")
    return 0


def _predict_samples(predictor: ImagePredictor, save_dir: Path, score_threshold: float) -> list[dict[str, Any]]:
    """Overlays and JSON of the scenes that ship with the package; what was found in each."""
    from importlib.resources import as_file, files

    from protomask.cli.output import counts_by_class
    from protomask.inference.output import PredictionWriter
    from protomask.inference.sources import iter_image_paths, read_image

    rows = []
    with (
        as_file(files("protomask") / "samples") as folder,
        PredictionWriter(save_dir, coco_json=True, jsonl=True) as writer,
    ):
        for path in iter_image_paths([folder]):
            image = read_image(path)
            instances = predictor.predict_images([image], score_threshold=score_threshold)[0]
            writer.write(path, image, instances)
            rows.append(
                {
                    "file": path.name,
                    "instances": len(instances),
                    "found": counts_by_class(instances),
                    "best": float(instances.scores[0]) if len(instances) else None,
                }
            )
    return rows


def _measure(
    predictor: ImagePredictor, directory: Path, images: int, seed: int
) -> tuple[CocoMetrics, dict[str, float]]:
    """AP on freshly rendered scenes, and the median milliseconds of every stage from file to masks."""
    from statistics import median
    from time import perf_counter

    from protomask.data.coco import CocoDataset
    from protomask.data.synthetic import write_dataset
    from protomask.evaluation.evaluator import CocoEvaluator
    from protomask.inference.sources import read_image

    write_dataset(directory, images=images, seed=seed, overwrite=True)
    annotations = directory / "annotations" / "train.json"
    dataset = CocoDataset(annotations, directory / "images" / "train", class_names=predictor.class_names)
    evaluator = CocoEvaluator(annotations, category_ids=dataset.category_ids)
    timings: list[dict[str, float]] = []
    for index, image_id in enumerate(dataset.image_ids):
        times: dict[str, float] = {}
        started = perf_counter()
        image = read_image(dataset.image_path(index))
        times["decode"] = perf_counter() - started
        instances = predictor.predict_images([image], timings=times, score_threshold=0.0)[0]
        started = perf_counter()
        evaluator.update(image_id, instances)
        times["masks to RLE"] = perf_counter() - started
        timings.append(times)
    stages = {stage: 1000 * median(times[stage] for times in timings) for stage in timings[0]}
    return evaluator.evaluate(), stages
