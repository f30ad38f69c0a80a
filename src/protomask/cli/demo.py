"""`protomask demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from protomask.inference.predictor import Predictor

EXAMPLE = "protomask demo --save-dir protomask-demo"


def run(
    *,
    save_dir: str = "protomask-demo",
    images: int = 0,
    seed: int = 20260,
    score_threshold: float = 0.3,
    json: bool = False,
) -> int:
    """Try the shipped model: images of what it finds in shipped scenes, and its speed.

    Args:
        save_dir: folder to write to.
        images: also render this many fresh scenes and measure AP on them, which needs the extra torch.
        seed: seed of the fresh scenes; the model was trained on seed 0.
        score_threshold: show only instances that score above this.
        json: print one JSON document instead of tables.
    """
    from pathlib import Path

    from protomask.api import load
    from protomask.cli.output import dump_json, print_table
    from protomask.errors import ConfigError

    if images < 0:
        raise ConfigError(f"images: expected at least 0, got {images}")
    predictor = load()
    folder = Path(save_dir)
    found, stages = _predict_samples(predictor, folder, score_threshold)
    metrics = _measure(predictor, folder / "fresh-scenes", images, seed) if images else None
    if json:
        fresh = None if metrics is None else metrics.to_dict()
        dump_json({"found": found, "fresh": fresh, "milliseconds": stages, "save_dir": str(folder)})
        return 0
    rows = [[row["file"], row["instances"], row["found"], row["best"]] for row in found]
    print_table(["scene", "instances", "found", "best score"], rows, title=f"{predictor.source} on shipped scenes")
    if metrics is not None:
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
    print(f"overlays, predictions.json and predictions.jsonl are in {folder.resolve()}")
    return 0


def _predict_samples(
    predictor: Predictor, folder: Path, score_threshold: float
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Write overlays and JSON of the shipped scenes; what was found in each, and median milliseconds by stage."""
    from importlib.resources import as_file, files
    from statistics import median
    from time import perf_counter

    from protomask.cli.output import counts_by_class
    from protomask.detection.options import PredictOptions
    from protomask.files import locked_folder
    from protomask.inference.sinks.lists import CocoSink, JsonLinesSink
    from protomask.inference.sinks.pictures import OverlaySink
    from protomask.inference.sinks.sink import Sinks, make_folder
    from protomask.inference.sources import open_source

    rows, timings = [], []
    make_folder(folder)
    with (
        locked_folder(folder, "save_dir"),
        as_file(files("protomask") / "samples") as samples,
        Sinks([OverlaySink(folder), CocoSink(folder), JsonLinesSink(folder)]) as sink,
    ):
        for frame in open_source(samples):
            times: dict[str, float] = {}
            started = perf_counter()
            image = frame.image
            times["decode"] = perf_counter() - started
            options = PredictOptions(score_threshold=score_threshold)
            [instances] = predictor.predict_images([image], options, timings=times)
            started = perf_counter()
            instances.rle()
            times["masks to RLE"] = perf_counter() - started
            timings.append(times)
            sink.write(frame.replace(found=instances))
            rows.append(
                {
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
