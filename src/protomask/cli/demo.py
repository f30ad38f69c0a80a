"""`protomask demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from protomask.detection.options import PredictOptions
    from protomask.inference.predictor import Predictor
    from protomask.inference.sinks.sink import Sink

EXAMPLE = "protomask demo --save-dir protomask-demo"


def run(
    *,
    save_dir: str = "protomask-demo",
    images: int = 0,
    seed: int = 20260,
    score_threshold: float = 0.3,
    json: bool = False,
) -> int:
    """Try two shipped models: images of what they find in photographs and in synthetic scenes, and their speed.

    Args:
        save_dir: folder to write to.
        images: also render this many fresh scenes and measure the AP of shapes, which needs the extra torch.
        seed: seed of the fresh scenes; shapes was trained on seed 0.
        score_threshold: show only instances that score above this.
        json: print one JSON document instead of tables.
    """
    from pathlib import Path

    from protomask.api import load
    from protomask.cli.output import dump_json, print_table
    from protomask.detection.options import PredictOptions
    from protomask.errors import ConfigError
    from protomask.files import locked_folder
    from protomask.inference.sinks.lists import JsonLinesSink
    from protomask.inference.sinks.pictures import OverlaySink
    from protomask.inference.sinks.sink import Sinks, make_folder

    if images < 0:
        raise ConfigError(f"images: expected at least 0, got {images}")
    photographs, scenes = load(), load("shapes")
    folder = Path(save_dir)
    options = PredictOptions(score_threshold=score_threshold)
    found, stages = [], {}
    make_folder(folder)
    with locked_folder(folder, "save_dir"), Sinks([OverlaySink(folder), JsonLinesSink(folder)]) as sink:
        for predictor in (photographs, scenes):
            rows, stages[predictor.model_name] = _predict_samples(predictor, options, sink)
            found += rows
    metrics = _measure(scenes, folder / "fresh-scenes", images, seed) if images else None
    if json:
        fresh = None if metrics is None else metrics.to_dict()
        dump_json({"found": found, "fresh": fresh, "milliseconds": stages, "save_dir": str(folder)})
        return 0
    print_table(
        ["model", "image", "instances", "found", "best score"],
        [list(row.values()) for row in found],
        title="sample images",
    )
    if metrics is not None:
        print_table(
            ["metric", *metrics.tables],
            [[name, *values] for name, values in metrics.rows()[:6]],
            title=f"{scenes.model_name} on {images} freshly rendered scenes (seed {seed})",
        )
    totals = {model: sum(times.values()) for model, times in stages.items()}
    table = [[stage, *(times[stage] for times in stages.values())] for stage in stages[photographs.model_name]]
    table += [["total", *totals.values()], ["images/s", *(1000 / total for total in totals.values())]]
    print_table(["ms per image", *stages], table, title=f"time per image on {photographs.device} (median)")
    print(f"overlays and predictions.jsonl are in {folder.resolve()}")
    return 0


def _predict_samples(
    predictor: Predictor, options: PredictOptions, sink: Sink
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Write what is in the sample images; what was found in each, and median milliseconds by stage."""
    from statistics import median
    from time import perf_counter

    from protomask.cli.output import counts_by_class
    from protomask.inference.sources import open_source
    from protomask.runtimes.shipped import sample_images

    rows, timings = [], []
    images = sample_images(predictor.class_names)
    predictor.predict(images[0], options)  # the first prediction takes longer
    for frame in open_source(images):
        times: dict[str, float] = {}
        started = perf_counter()
        image = frame.image
        times["decode"] = perf_counter() - started
        [instances] = predictor.predict_images([image], options, timings=times)
        started = perf_counter()
        instances.rle()
        times["masks to RLE"] = perf_counter() - started
        timings.append(times)
        sink.write(frame.replace(found=instances))
        rows.append(
            {
                "model": predictor.model_name,
                "file": frame.source.rpartition("/")[2],
                "instances": len(instances),
                "found": counts_by_class(instances),
                "best": float(instances.scores[0]) if len(instances) else None,
            }
        )
    return rows, {stage: 1000 * median(times[stage] for times in timings) for stage in timings[0]}


def _measure(predictor: Predictor, folder: Path, images: int, seed: int) -> Any:
    """AP on freshly rendered scenes."""
    from protomask.api import evaluate
    from protomask.extras import needing_torch

    with needing_torch("measuring AP"):
        from protomask.data.synthetic.write import write_dataset

    write_dataset(folder, images=1, val_images=images, seed=seed, overwrite=True)
    return evaluate(predictor, data=folder)
