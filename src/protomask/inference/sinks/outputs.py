"""`Outputs`: everything a caller can choose about what is written, in one frozen object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from protomask.settings import NonNegative, Settings, Text

if TYPE_CHECKING:  # the command line shows its help without what writes files
    from protomask.inference.resume import EarlierRun
    from protomask.inference.sinks.drawing import FrameDrawing
    from protomask.inference.sinks.sink import Sink, Sinks
    from protomask.inference.video.encoding import VideoFileOptions
    from protomask.structures.coco_json import CocoIds


@dataclass(frozen=True, kw_only=True)
class Outputs(Settings):
    """What is written about frames, and where.

    Attributes:
        save_dir: folder to write to.
        save_overlay: write each image, and each video, with masks, boxes, classes and scores drawn on it.
        overlay_format: file type of the overlays; jpg is smaller.
        color_by: what a colour stands for; auto means class if the model knows more than one.
        save_json: write predictions.json (COCO results) and images.json.
        save_jsonl: write predictions.jsonl, one line per image as it finishes.
        save_polygons: write polygons/NAME.geojson, exact outlines with holes.
        save_label_map: write label_maps/NAME.png, 16 bit, pixel = number of the instance.
        save_crops: write crops/NAME_NUMBER_CLASS.png, each instance cut out on a transparent background.
        save_table: write predictions.csv or predictions.parquet, one row per instance with class, score, box, area and
            perimeter.
        save_coco_dataset: write coco/, a COCO data set of the images and what was found, to correct and train on.
        save_labelme: write labelme/, copies of the images with a LabelMe file beside each, likewise.
        save_yolo: write yolo/, a YOLO segmentation data set, likewise.
        outline_tolerance: pixels by which outlines in these data sets may be off, so that there are fewer vertices to
            move; 0 for exact masks.
        resume: continue an interrupted run over files after the last line of its predictions.jsonl.
        annotations: COCO annotation file whose image and category ids the COCO results use.

    Raises:
        ConfigError: a value is of another type; the message names it.

    """

    save_dir: Text = "predictions"
    save_overlay: bool = True
    overlay_format: Literal["png", "jpg"] = "png"
    color_by: Literal["auto", "class", "instance"] = "auto"
    save_json: bool = False
    save_jsonl: bool = False
    save_polygons: bool = False
    save_label_map: bool = False
    save_crops: bool = False
    save_table: Literal["csv", "parquet"] | None = None
    save_coco_dataset: bool = False
    save_labelme: bool = False
    save_yolo: bool = False
    outline_tolerance: NonNegative = 0.0
    resume: bool = False
    annotations: str | None = None

    def _check(self) -> None:
        if self.resume:
            self._expect("save_jsonl", self.save_jsonl, "True, for it is what resume goes by")
            datasets = self.save_coco_dataset or self.save_labelme or self.save_yolo
            self._expect("resume", not datasets, "False where a data set is written, which needs all images")

    def open(
        self,
        class_names: Sequence[str],
        chosen: Sequence[str] | None = None,
        *,
        videos: VideoFileOptions | None = None,
        draw: FrameDrawing | None = None,
        more: Sequence[Sink] = (),
        earlier: EarlierRun | None = None,
    ) -> Sinks:
        """The sinks for all that is to be written; their folder is made if needed.

        Args:
            class_names: name of each of the model's labels.
            chosen: those of them that are looked for, all by default; data sets have these classes.
            videos: how videos are written.
            draw: what is drawn on their frames; by default what is drawn on images.
            more: sinks that get every frame first.
            earlier: the interrupted run to continue. Lines of it that cannot be kept are removed.

        Raises:
            ConfigError: a folder that cannot be written to as chosen.
            DataError: the annotation file cannot be used.
            MissingExtraError: a package that writes a format is not installed.

        """
        from protomask.inference.sinks.drawing import drawing_of_found
        from protomask.inference.sinks.pictures import OverlaySink
        from protomask.inference.sinks.sink import Sinks, make_folder
        from protomask.inference.sinks.video import DrawnSink, VideoSink
        from protomask.structures.coco_json import read_coco_ids

        ids = None if self.annotations is None else read_coco_ids(self.annotations, class_names)
        folder = make_folder(Path(self.save_dir))
        files = [*more, *self._files(folder)]
        if self.save_overlay:
            stills = OverlaySink(folder, format=self.overlay_format, color_by=self.color_by)
            drawn = DrawnSink(stills, lambda: VideoSink(folder, videos, draw=draw or drawing_of_found(self.color_by)))
            files.append(drawn)
            if earlier is not None and earlier.video is not None:
                earlier.rewind(drawn.videos.resume(earlier.videos, earlier.frames, earlier.first_time))
        # Lists come last, so that the files that they name are there.
        files += self._datasets(folder, chosen or class_names)
        sinks = Sinks([*files, *self._lists(folder, ids, keep=0 if earlier is None else earlier.keep)])
        for frame in () if earlier is None else earlier.finished(class_names):
            sinks.replay(frame)
        return sinks

    def _files(self, folder: Path) -> Iterator[Sink]:
        """Sinks that write files for each frame."""
        from protomask.inference.sinks.pictures import CropSink, LabelMapSink, PolygonSink

        if self.save_polygons:
            yield PolygonSink(folder / "polygons")
        if self.save_label_map:
            yield LabelMapSink(folder / "label_maps")
        if self.save_crops:
            yield CropSink(folder / "crops")

    def _datasets(self, folder: Path, class_names: Sequence[str]) -> Iterator[Sink]:
        """Sinks that write a data set."""
        from protomask.inference.sinks.datasets import CocoDatasetSink, LabelMeSink, YoloSink

        tolerance = self.outline_tolerance
        if self.save_coco_dataset:
            yield CocoDatasetSink(folder / "coco", class_names, tolerance=tolerance)
        if self.save_labelme:
            yield LabelMeSink(folder / "labelme", class_names, tolerance=tolerance)
        if self.save_yolo:
            yield YoloSink(folder / "yolo", class_names, tolerance=tolerance)

    def _lists(self, folder: Path, ids: CocoIds | None, *, keep: int) -> Iterator[Sink]:
        """Sinks that write one file about all frames."""
        from protomask.inference.sinks.lists import CocoSink, JsonLinesSink, TableSink

        if self.save_json:
            yield CocoSink(folder, image_ids=ids and ids.images, category_ids=ids and ids.categories)
        if self.save_jsonl:
            yield JsonLinesSink(folder, keep=keep)
        if self.save_table is not None:
            yield TableSink(folder, self.save_table)


@dataclass(frozen=True, kw_only=True)
class TrackOutputs(Outputs):
    """What is written about tracked videos, and where.

    Attributes:
        save_overlay: write each video with its tracks drawn on it.
        save_jsonl: write predictions.jsonl, one line per frame as it finishes.
        save_youtube_vis: write youtube_vis.json (tracks with a mask for each frame) and videos.json.

    """

    save_dir: Text = "tracks"
    save_jsonl: bool = True
    save_youtube_vis: bool = False

    def _lists(self, folder: Path, ids: CocoIds | None, *, keep: int) -> Iterator[Sink]:
        yield from super()._lists(folder, ids, keep=keep)
        if self.save_youtube_vis:
            from protomask.inference.sinks.youtube_vis import YoutubeVisSink

            yield YoutubeVisSink(folder)
