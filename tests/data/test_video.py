from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protomask.data.video import find_video_annotations, open_videos
from protomask.errors import DataError
from protomask.structures.tracks import VideoTracks
from protomask.structures.youtube_vis import write_youtube_vis

VIDEO = VideoTracks(name="a", image_size=(4, 6), num_frames=1, tracks=(), file_names=("a/0.png",))


def image(path: Path, size: tuple[int, int] = (4, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, dtype=np.uint8)).save(path)


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/val.json", "images/val"),
        ("val/instances.json", "val/JPEGImages"),
        ("val.json", "val/JPEGImages"),
        ("val.json", "."),
    ],
)
def test_videos_are_found_in_the_usual_places(tmp_path: Path, annotations: str, images: str) -> None:
    write_youtube_vis(tmp_path / annotations, [VIDEO], ["cat"])
    image(tmp_path / images / "a" / "0.png")
    for source in (tmp_path, tmp_path / annotations):
        found = find_video_annotations(source)
        assert found == tmp_path / annotations
        data = open_videos(found)
        assert data.read_frame(data.truth.videos[1], 0).shape == (4, 6, 3)
    assert find_video_annotations(tmp_path, "train") is None


def test_images_are_no_videos(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    for content in ('{"images": []}', ""):
        (tmp_path / "annotations" / "val.json").write_text(content)
        assert find_video_annotations(tmp_path) is None
    assert find_video_annotations(tmp_path / "nothing.json") is None
    assert find_video_annotations(tmp_path / "data.yaml") is None


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "val.json"
    write_youtube_vis(file, [VIDEO], ["cat"])
    assert open_videos(file, needs_frames=False).truth.class_names == ("cat",)
    with pytest.raises(DataError, match=r"val\.json: expected the frame a/0\.png in one of the folders"):
        open_videos(file)
    image(tmp_path / "a" / "0.png", (5, 6))
    data = open_videos(file)
    with pytest.raises(DataError, match=r"0.png: expected \(H, W\) = \(4, 6\) as val.json says, got \(5, 6\)"):
        data.read_frame(data.truth.videos[1], 0)
    content = json.loads(file.read_text())
    content["videos"][0].update(file_names=[], length=3)
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="expected file_names in every video"):
        open_videos(file)
    write_youtube_vis(file, [], ["cat"])
    with pytest.raises(DataError, match="at least one video, got none"):
        open_videos(file)
