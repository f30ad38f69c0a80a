"""What `predict` and `track` share: frames through a predictor into sinks, with a report on them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sized
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protomask.cli.tally import Tally

if TYPE_CHECKING:
    from protomask.cli.default_model import DefaultModelNotes
    from protomask.detection.options import PredictOptions
    from protomask.inference.pipeline import FrameTracker
    from protomask.inference.predictor import Predictor
    from protomask.inference.sinks.drawing import FrameDrawing
    from protomask.inference.sinks.outputs import Outputs
    from protomask.inference.sinks.sink import Sink
    from protomask.inference.sources import Source
    from protomask.inference.video.encoding import VideoFileOptions
    from protomask.inference.zones.counter import ZoneCounter
    from protomask.structures.frame import Frame


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done with the frames of a source.

    Args:
        predictor: finds the instances.
        source: of the frames.
        options: what is found.
        outputs: what is written.
        videos: how videos are written.
        tracker: gives the instances their identities, if it is there.
        zones: watches zones, if it is there.
        draw: what is drawn on the frames of videos; by default what is drawn on images.
        preview_port: of a page that shows the newest frame; 0 for any free one, None for no page.
        notes: said of the default model.
        see: called with every frame that was predicted.
        quiet: print nothing but errors.

    """

    predictor: Predictor
    source: Source
    options: PredictOptions
    outputs: Outputs
    videos: VideoFileOptions
    tracker: FrameTracker | None = None
    zones: ZoneCounter | None = None
    draw: FrameDrawing | None = None
    preview_port: int | None = None
    notes: DefaultModelNotes | None = None
    see: Callable[[Frame], None] | None = None
    quiet: bool = False


def is_moving(source: Source) -> bool:
    """Whether a source has, or may have, videos or streams in it."""
    from protomask.inference.sources import ImageStream, StillImages

    return not isinstance(source, StillImages | ImageStream)


def run_job(job: Job) -> Tally:
    """Predict and write all frames; for videos and streams Ctrl-C ends in good order, with all files complete."""
    from protomask.cli.output import progress
    from protomask.engine.stop import StopRequest
    from protomask.files import locked_folder
    from protomask.inference.pipeline import map_ahead, predict_frames
    from protomask.inference.resume import EarlierRun
    from protomask.inference.sinks.sink import make_folder

    folder, outputs = Path(job.outputs.save_dir), job.outputs
    with ExitStack() as stack:
        stack.enter_context(locked_folder(make_folder(folder), "save_dir"))
        earlier = EarlierRun(folder) if outputs.resume else None
        draw, more = _shown(job, folder)
        sink: Sink = outputs.open(
            job.predictor.class_names, job.options.classes, videos=job.videos, draw=draw, more=more, earlier=earlier
        )  # fmt: skip
        stack.enter_context(sink)
        tracker, source = job.tracker, job.source
        if earlier is not None:
            tracker, source = _resumed(job, earlier)
        total = len(job.source) if isinstance(job.source, Sized) else None
        bar = stack.enter_context(progress("predict", total, quiet=job.quiet))
        tally = Tally(bar, job.source, is_tracked=tracker is not None)
        stop = StopRequest(then=getattr(job.source, "stop", None))
        if is_moving(job.source):
            stack.enter_context(stop)
        predicted = stack.enter_context(closing(predict_frames(job.predictor, source, job.options)))
        followed = _followed(predicted, tracker, job.zones)
        written = stack.enter_context(closing(map_ahead(lambda frame: _write(sink, frame, tally), followed)))
        for frame, files in written:
            tally.add(frame, files)
            _see(job, frame)
            if stop.requested():
                tally.interrupted = True
                break
        tally.end(stopped=stop.requested())
    return tally


def _shown(job: Job, folder: Path) -> tuple[FrameDrawing | None, list[Sink]]:
    """What is drawn, and the sinks that take every frame first."""
    from protomask.inference.sinks.drawing import DrawOnce, drawing_of_found
    from protomask.inference.sinks.events import ZoneSink
    from protomask.inference.sinks.preview import PreviewSink

    draw, more = job.draw, list[Any]()
    if job.preview_port is not None:
        draw = DrawOnce(draw or drawing_of_found(job.outputs.color_by))
        preview = PreviewSink(draw, port=job.preview_port)
        more.append(preview)
        print(f"preview at {preview.url}", file=sys.stderr, flush=True)
        _open_browser(preview.url)
    if job.zones is not None:
        more.append(ZoneSink(folder, job.zones))
    return draw, more


def _open_browser(url: str) -> None:
    """Show a page where there is a display to show it on."""
    import os
    import webbrowser

    if sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)


def _resumed(job: Job, earlier: Any) -> tuple[FrameTracker | None, Source]:
    from protomask.inference.resume import ResumedTracker

    tracker = job.tracker
    if tracker is not None and earlier.video is not None:
        tracker = ResumedTracker(tracker, earlier.finished(job.predictor.class_names))
    return tracker, earlier.rest_of(job.source)


def _followed(predicted: Iterable[Frame], tracker: FrameTracker | None, zones: ZoneCounter | None) -> Iterable[Frame]:
    from protomask.inference.pipeline import follow_frames
    from protomask.inference.zones.counter import count_zones

    frames = predicted if tracker is None else follow_frames(predicted, tracker)
    return frames if zones is None else count_zones(frames, zones)


def _see(job: Job, frame: Frame) -> None:
    if frame.error is None and frame.found is not None:
        if job.notes is not None:
            job.notes.see(frame)
        if job.see is not None:
            job.see(frame)


def _write(sink: Sink, frame: Frame, tally: Tally) -> tuple[Frame, list[Path]]:
    """Write one frame; one whose data do not allow it is given back with the error."""
    from protomask.errors import DataError

    if frame.error is not None:
        return frame, []
    try:
        files = sink.write(frame)
    except DataError as error:
        return frame.replace(error=error), []
    tally.finish(frame)
    return frame, files


def code_of(tally: Tally) -> int:
    """The exit code of a run."""
    from protomask.cli.codes import DONE, FAILED

    return FAILED if tally.failed or tally.interrupted else DONE


def summary_of(tally: Tally, save_dir: str) -> dict[str, Any]:
    """What ``json`` prints."""
    summary: dict[str, Any] = {"save_dir": save_dir, "images": tally.images, "failed": tally.failed}
    if tally.videos:
        summary |= {"videos": tally.videos, "interrupted": tally.interrupted}
    return summary


def print_end(tally: Tally, outputs: Outputs, done: str) -> None:
    """The last lines of a run."""
    stills = len(tally.images) - tally.failed
    if tally.videos:
        frames, count = sum(row["frames"] for row in tally.videos), len(tally.videos)
        images = f"{stills} image{'s' * (stills != 1)} and " if stills else ""
        print(f"{images}{frames} frames of {count} video{'s' * (count != 1)} {done}; results in {outputs.save_dir}")
    else:
        what = "inputs" if is_moving(tally.source) else "images"
        print(f"{stills} of {len(tally.images)} {what} {done}; results in {outputs.save_dir}")
    if tally.failed:
        what = "inputs" if is_moving(tally.source) else "images"
        print(f"{tally.failed} of {len(tally.images) + len(tally.videos)} {what} failed, see above", file=sys.stderr)
    if tally.interrupted:
        hint = ": --resume goes on from there" if outputs.save_jsonl else ""
        print(f"stopped before the end; all files are complete up to the last frame{hint}", file=sys.stderr)
