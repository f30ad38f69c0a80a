from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawn_tracks import NAMES, videos
from protomask.errors import DataError
from protomask.masks.rle import decode_rle, encode_rle
from protomask.structures.tracks import Tracklet, VideoTracks
from protomask.structures.youtube_vis import (
    read_youtube_vis,
    read_youtube_vis_results,
    write_youtube_vis,
    write_youtube_vis_results,
)


@given(st.lists(videos(), max_size=3))
def test_truth_comes_back_as_it_was(clips: list[VideoTracks]) -> None:
    clips = [
        VideoTracks(**{**vars(clip), "name": f"{number}", "fps": 25.0,
                       "file_names": tuple(f"{number}/{index}.jpg" for index in range(clip.num_frames))})
        for number, clip in enumerate(clips)
    ]  # fmt: skip
    with TemporaryDirectory() as folder:
        file = Path(folder) / "truth.json"
        write_youtube_vis(file, clips, NAMES, info={"year": 2026})
        truth = read_youtube_vis(file)
        assert json.loads(file.read_text())["info"] == {"year": 2026}
        assert truth.class_names == NAMES
        assert list(truth.videos.values()) == clips
        found = dict(enumerate(clips, start=1))
        write_youtube_vis_results(Path(folder) / "results.json", found)
        again = read_youtube_vis_results(Path(folder) / "results.json", truth)
    assert again == found


MASK = np.zeros((4, 6), dtype=np.bool_)
MASK[1:3, 2:5] = True
CODE = encode_rle(MASK[None])[0]


def content() -> dict[str, Any]:
    return {
        "videos": [{"id": 7, "width": 6, "height": 4, "length": 2, "file_names": ["a/0.jpg", "a/1.jpg"]}],
        "categories": [{"id": 3, "name": "owl"}, {"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 5, "video_id": 7, "category_id": 1, "iscrowd": 0, "segmentations": [dict(CODE), None]},
            {"id": 6, "video_id": 7, "category_id": 3, "iscrowd": 1,
             "segmentations": [None, {"size": [4, 6], "counts": [9, 2, 13]}]},
        ],
    }  # fmt: skip


def written(folder: Path, data: Any) -> Path:
    file = folder / "truth.json"
    file.write_text(json.dumps(data))
    return file


def test_what_others_write_is_read(tmp_path: Path) -> None:
    truth = read_youtube_vis(written(tmp_path, content()))
    assert truth.class_names == ("owl", "cat")
    video = truth.videos[7]
    assert (video.name, video.image_size, video.num_frames, video.fps) == ("a", (4, 6), 2, None)
    first, second = video.tracks
    assert (first.track_id, first.label, first.is_crowd, list(first.masks)) == (5, 1, False, [0])
    assert (second.track_id, second.label, second.is_crowd, list(second.masks)) == (6, 0, True, [1])
    np.testing.assert_array_equal(decode_rle(first.masks[0]), MASK)
    assert decode_rle(second.masks[1]).sum() == 2


def test_boxes_and_areas_are_written(tmp_path: Path) -> None:
    track = Tracklet(track_id=4, label=1, masks={1: CODE})
    video = VideoTracks(name="a", image_size=(4, 6), num_frames=2, tracks=(track,))
    write_youtube_vis(tmp_path / "a.json", [video], NAMES)
    [entry] = json.loads((tmp_path / "a.json").read_text())["annotations"]
    assert (entry["bboxes"], entry["areas"]) == ([None, [2, 1, 3, 2]], [None, 6])
    with pytest.raises(DataError, match="nothing: expected a video whose size is known"):
        write_youtube_vis(
            tmp_path / "b.json", [VideoTracks(name="nothing", image_size=None, num_frames=0, tracks=())], []
        )


def changed(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """Change the first entry of one of the lists: ``videos__width=0``."""

    def change(data: dict[str, Any]) -> None:
        for name, value in changes.items():
            key, _, field = name.partition("__")
            data[key][0][field] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("videos"), "key 'videos' is missing"),
        (changed(videos__id="x"), r"videos\[0\] \(video 'x'\): expected an integer id"),
        (changed(videos__width=0), "expected the width and height of a video, got 0 and 4"),
        (changed(videos__width=10**9), "expected the width and height of a video"),
        (changed(videos__length=10**9), "expected as many frames as the 2 file_names, got 1000000000"),
        (lambda data: data["videos"][0].update(file_names=[], length=10**9), "expected as many frames"),
        (changed(videos__file_names=["../a.jpg", "b.jpg"]), "expected paths of files in the folder of the images"),
        (changed(videos__file_names="a.jpg"), "expected a list of file names"),
        (lambda data: data["videos"].append(data["videos"][0]), "the video id occurs twice"),
        (changed(annotations__video_id=8), r"annotations\[0\] \(annotation 5\): expected the id of one of"),
        (changed(annotations__category_id=9), "expected the id of a category, got 9"),
        (changed(annotations__id=None), "expected an integer id, got None"),
        (changed(annotations__id=6), "track 6 occurs twice in video 7"),
        (changed(annotations__segmentations=[None]), "one for each of 2 frames, got a list of 1"),
        (changed(annotations__segmentations=None), "one for each of 2 frames, got None"),
        (changed(annotations__segmentations=[[[1, 2, 3, 4]], None]), "frame 0: expected a run-length code or null"),
        (changed(annotations__segmentations=[{"size": [4, 6], "counts": "~"}, None]), "frame 0: RLE counts"),
        (changed(annotations__segmentations=[{"size": [9, 9], "counts": [81]}, None]), r"expected a mask of \(4, 6\)"),
        (changed(annotations__segmentations=[{"size": [10**9, 1], "counts": [10**9]}, None]), "expected a mask of"),
    ],
)  # fmt: skip
def test_what_contradicts_the_format_is_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    data = content()
    change(data)
    with pytest.raises(DataError, match=f"truth.json: .*{message}"):
        read_youtube_vis(written(tmp_path, data))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "expected a list of tracks, got a dict"),
        ([3], "track 0: expected an object, got 3"),
        ([{"video_id": 7, "category_id": 1, "segmentations": [None, None]}], "track 0: expected a number as score"),
        ([{"video_id": 1, "category_id": 1, "score": 1, "segmentations": [None, None]}], "one of the 1 videos, got 1"),
        ([{"video_id": 7, "category_id": 1, "score": 1, "segmentations": []}], "one for each of 2 frames"),
        (
            2 * [{"video_id": 7, "track_id": 4, "category_id": 1, "score": 1, "segmentations": [None, None]}],
            "track 1: track 4 occurs twice in video 7",
        ),
    ],
)
def test_results_that_do_not_fit_are_named(tmp_path: Path, rows: Any, message: str) -> None:
    truth = read_youtube_vis(written(tmp_path, content()))
    (tmp_path / "results.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=f"results.json: .*{message}"):
        read_youtube_vis_results(tmp_path / "results.json", truth)
