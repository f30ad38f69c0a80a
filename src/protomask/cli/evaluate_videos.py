"""`protomask eval` on annotated videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from protomask.detection.options import PredictOptions
    from protomask.evaluation.tracking.metrics import TrackMetrics
    from protomask.inference.predictor import Predictor


def run_videos(
    annotations: Path,
    *,
    results: str | None,
    predictor: Callable[[], Predictor],
    options: PredictOptions,
    tracker: str,
    save_results: str | None,
    json: bool,
) -> int:
    """Measure how well objects keep their identity.

    Args:
        annotations: YouTube-VIS JSON.
        results: tracks to be measured instead of a model.
        predictor: makes the model when it is needed.
        options: options of the prediction.
        tracker: name of what follows the instances.
        save_results: YouTube-VIS results JSON to be written.
        json: print one JSON document instead of tables.

    """
    from protomask.cli.output import dump_json, progress
    from protomask.data.video import open_videos
    from protomask.evaluation.tracking.evaluate import evaluate_tracks, read_tracks, track_videos
    from protomask.inference.tracking.build import build_tracker
    from protomask.structures.youtube_vis import write_youtube_vis_results

    data = open_videos(annotations, needs_frames=results is None)
    if results is not None:
        found = read_tracks(results, data.truth)
    else:
        follower = build_tracker(tracker)
        options = options.replace(score_threshold=follower.options.low_score)
        total = sum(video.num_frames for video in data.truth.videos.values())
        with progress("track", total, quiet=json, lines=True) as bar:
            found = track_videos(predictor(), follower, data, options=options, on_progress=bar.update)
        if save_results is not None:
            write_youtube_vis_results(save_results, found, list(data.truth.categories))
            if not json:
                print(f"results: {save_results}")
    metrics = evaluate_tracks(data.truth, found)
    if json:
        dump_json(metrics.to_dict())
    else:
        _print(metrics)
    return 0


def _print(metrics: TrackMetrics) -> None:
    from protomask.cli.output import print_table
    from protomask.evaluation.tracking.metrics import METRICS

    title = f"{len(metrics.videos)} videos, {metrics.num_objects} objects, {metrics.num_tracks} tracks"
    print_table(
        ["metric", "all classes"], [[name, _cell(name, metrics.overall[name])] for name in METRICS], title=title
    )
    shown = ("HOTA", "DetA", "AssA", "IDF1", "sMOTSA", "IDSW")
    for kind, parts in (("class", metrics.classes), ("video", metrics.videos)):
        cells = [[name, *(_cell(metric, values[metric]) for metric in shown)] for name, values in parts.items()]
        print_table([kind, *shown], cells, title=f"per {kind}")


def _cell(name: str, value: float) -> float | int:
    return int(value) if name == "IDSW" else value
