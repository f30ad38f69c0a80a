"""Trackers on the same detections of synthetic videos: HOTA, IDF1 and identity switches, and milliseconds of
processor time per frame, which do not depend on what else the machine does.

The settings of the box trackers are the best of eight each (high_score 0.3 to 0.6, confirm_frames 2 or 3) on videos of
seed 100, on which the mask tracker was developed too.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np

from measuring import argument_parser, positive, report
from protomask import Instances, Predictor, load
from protomask.data.synthetic.options import Overlap, SyntheticVideoOptions
from protomask.data.synthetic.shapes import CLASS_NAMES
from protomask.data.synthetic.video import SyntheticVideo
from protomask.evaluation.tracking.metrics import Counted
from protomask.evaluation.tracking.tracks import sequence_of
from protomask.images.decode import Pixels
from protomask.inference.tracking.association import first_of_each
from protomask.inference.tracking.build import build_tracker
from protomask.inference.tracking.similarity import overlaps
from protomask.inference.tracking.tracker import Tracker
from protomask.masks.coarse import coarse_masks
from protomask.masks.runs import boxes_of_masks
from protomask.structures.tracks import TrackCollector, VideoTracks


def boxed(name: str, fps: float, high_score: float) -> Tracker:
    return build_tracker(name, high_score=high_score, new_score=high_score + 0.1, frame_rate=fps)


TRACKERS: dict[str, Callable[[float], Tracker]] = {
    "mask": lambda fps: build_tracker("mask", frame_rate=fps),
    "ByteTrack": lambda fps: boxed("bytetrack", fps, 0.5),
    "OC-SORT": lambda fps: boxed("ocsort", fps, 0.3),
    "BoT-SORT": lambda fps: boxed("botsort", fps, 0.4),
}
FPS = 30


class Clip(NamedTuple):
    """One video: its frames, what is there, and what a model found."""

    images: list[Pixels]
    true: list[Instances]
    found: list[Instances]


def true_instances(masks: np.ndarray[Any, Any], labels: Sequence[int]) -> Instances:
    """The objects that are seen in a frame, with their identities."""
    seen = np.flatnonzero(masks.any(axis=(1, 2)))
    return Instances(
        boxes=boxes_of_masks(masks[seen]),
        labels=np.array(labels, dtype=np.int64)[seen],
        class_scores=np.ones(len(seen), dtype=np.float32),
        masks=masks[seen],
        image_size=masks.shape[1:],
        class_names=CLASS_NAMES,
        columns={"track_ids": seen.astype(np.int64)},
    )


def render(predictor: Predictor, seed: int, index: int, frames: int, overlap: Overlap, cache: Path | None) -> Clip:
    """A video with its detections, from the cache where it is there; the camera shakes in every second one."""
    file = None if cache is None else cache / f"{overlap}-{seed}-{index}-{frames}.pickle"
    if file is not None and file.exists():
        clip: Clip = pickle.loads(file.read_bytes())
        return clip
    motion = SyntheticVideoOptions(frames=frames, overlap=overlap, shake=5.0 * (index % 2))
    video = SyntheticVideo(seed, index, options=motion)
    clip = Clip([], [], [])
    for frame in video:
        clip.images.append(frame.image)
        clip.true.append(true_instances(frame.masks, video.labels))
        clip.found.append(predictor.predict(frame.image, score_threshold=0.05, max_detections=50))
        clip.true[-1].runs()
        clip.found[-1].runs()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pickle.dumps(clip))
    return clip


def once_each(found: Instances) -> Instances:
    """Without detections that share more than half of their pixels with a better one, as the mask tracker does it."""
    found = found.best_first()
    size = (found.image_size[0] // 2, found.image_size[1] // 2)
    masks = coarse_masks(found.runs(), found.image_size, size)
    boxes = found.boxes.astype(np.float64)
    return found[first_of_each(overlaps(masks, boxes, masks, boxes).plain, 0.5)]


def truth_of(clip: Clip) -> VideoTracks:
    collector = TrackCollector("clip")
    for true in clip.true:
        collector.add(true)
    return collector.collect()


def every(clip: Clip, step: int) -> Clip:
    """The same with only every so many frames."""
    return Clip(images=clip.images[::step], true=clip.true[::step], found=clip.found[::step])


def followed(clip: Clip, detections: Sequence[Instances], tracker: Tracker, fps: float) -> tuple[VideoTracks, float]:
    """The tracks, and seconds that the tracker took."""
    collector, seconds = TrackCollector("clip"), 0.0
    for index, (image, found) in enumerate(zip(clip.images, detections, strict=True)):
        started = process_time()
        tracked = tracker.update(found, index / fps, image=image)
        seconds += process_time() - started
        collector.add(tracked)
    return collector.collect(), seconds


def measured(name: str, clips: Sequence[Clip], choose: Callable[[Clip], list[Instances]], fps: float) -> dict[str, Any]:
    """One row of the table."""
    total: Counted | None = None
    seconds, frames = 0.0, 0
    for clip in clips:
        tracks, own = followed(clip, choose(clip), TRACKERS[name](fps), fps)
        counted = Counted.of(sequence_of(truth_of(clip), tracks))
        total = counted if total is None else total + counted
        seconds, frames = seconds + own, frames + len(clip.images)
    assert total is not None
    values = total.values()
    shares = {key: 100 * values[key] for key in ("HOTA", "DetA", "AssA", "IDF1", "MOTSA", "sMOTSA")}
    return {"tracker": name, **shares, "switches": int(values["IDSW"]), "ms": 1000 * seconds / frames}


def crowd(count: int, frames: int) -> list[Instances]:
    """Frames of 1280x720 with as many objects as asked for, which overlap."""
    rng = np.random.default_rng(0)
    places, speeds = rng.uniform(0, 1, (count, 2)) * (1080, 520), rng.uniform(-4, 4, (count, 2))
    shown = []
    for index in range(frames):
        masks = np.zeros((count, 720, 1280), dtype=np.bool_)
        taken = np.zeros((720, 1280), dtype=np.bool_)
        for mask, (x, y) in zip(masks, (places + index * speeds).astype(int).tolist(), strict=True):
            mask[max(y, 0) : y + 150, max(x, 0) : x + 150] = True
            mask &= ~taken
            taken |= mask
        shown.append(true_instances(masks, [0] * count).replace(columns={}))
        shown[-1].runs()
    return shown


def main() -> None:
    parser = argument_parser(__doc__ or "", rounds=1)
    parser.add_argument("--heavy", type=positive, default=20, help="videos with heavy overlap")
    parser.add_argument("--little", type=positive, default=10, help="videos with little overlap")
    parser.add_argument("--frames", type=positive, default=90, help="of each video")
    parser.add_argument("--seed", type=int, default=0, help="of the videos")
    parser.add_argument("--steps", type=positive, nargs="+", default=[1, 3], help="measure every so many frames")
    parser.add_argument("--cache", type=Path, help="folder that keeps videos and detections for the next run")
    options = parser.parse_args()
    predictor = load("yolact_nano", threads=options.threads)
    rows: list[dict[str, Any]] = []
    sets: tuple[tuple[Overlap, int], ...] = (("heavy", options.heavy), ("little", options.little))
    for overlap, count in sets:
        clips = [
            render(predictor, options.seed, index, options.frames, overlap, options.cache) for index in range(count)
        ]
        ways: dict[str, Callable[[Clip], list[Instances]]] = {
            "yolact_nano": lambda clip: clip.found,
            "each object once": lambda clip: [once_each(found) for found in clip.found],
            "true masks": lambda clip: [true.replace(columns={}) for true in clip.true],
        }
        for step, (detections, choose), name in product(options.steps, ways.items(), TRACKERS):
            fps = FPS / step
            row = measured(name, [every(clip, step) for clip in clips], choose, fps)
            rows.append({"overlap": overlap, "fps": f"{fps:g}", "detections": detections, **row})
    report(f"{options.heavy} + {options.little} videos of {options.frames} frames", rows, json_file=options.json)
    shown = crowd(20, 60)
    for name, make in TRACKERS.items():
        tracker, times = make(FPS), []
        for index, found in enumerate(shown):
            started = process_time()
            tracker.update(found, index / FPS)
            times.append(1000 * (process_time() - started))
        print(f"{name}: 20 objects at 1280x720 take {np.median(times):.2f} ms per frame")


if __name__ == "__main__":
    main()
