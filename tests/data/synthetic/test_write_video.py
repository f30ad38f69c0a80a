from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protomask.data.synthetic.options import SyntheticVideoOptions
from protomask.data.synthetic.shapes import CLASS_NAMES
from protomask.data.synthetic.video import SyntheticVideo
from protomask.data.synthetic.write_video import write_videos
from protomask.errors import ConfigError, DataError
from protomask.images.decode import read_image
from protomask.masks.rle import decode_rle
from protomask.structures.youtube_vis import read_youtube_vis

SIZE = (48, 64)
OPTIONS = SyntheticVideoOptions(frames=6, fps=6)


def test_videos_are_written_with_their_truth(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    summary = write_videos(
        tmp_path, videos=2, seed=3, image_size=SIZE, options=OPTIONS, progress=lambda *done: calls.append(done)
    )
    assert (summary.videos, summary.frames) == (2, 12)
    assert calls == [(done, 12) for done in range(1, 13)]
    truth = read_youtube_vis(tmp_path / "annotations" / "val.json")
    assert truth.class_names == CLASS_NAMES
    assert summary.objects == sum(len(video.tracks) for video in truth.videos.values())
    video = truth.videos[2]
    rendered = SyntheticVideo(3, 1, image_size=SIZE, options=OPTIONS)
    assert (video.name, video.fps, video.image_size, video.num_frames) == ("000002", 6, SIZE, 6)
    for index, frame in enumerate(rendered):
        image = read_image(tmp_path / "images" / "val" / video.file_names[index])
        assert np.abs(image.astype(int) - frame.image).mean() < 8
        for track in video.tracks:
            mask = frame.masks[track.track_id - 1]
            if index in track.masks:
                np.testing.assert_array_equal(decode_rle(track.masks[index]), mask)
            else:
                assert not mask.any()
    assert [track.label for track in video.tracks] == [rendered.labels[track.track_id - 1] for track in video.tracks]


def test_an_h264_file_lies_beside_them(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    summary = write_videos(tmp_path, seed=3, image_size=SIZE, options=OPTIONS)
    [file] = summary.files
    with av.open(file) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.codec_context.name) == (64, 48, "h264")
        assert stream.average_rate == 6
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == 6
    wanted = SyntheticVideo(3, 0, image_size=SIZE, options=OPTIONS).frame(3).image
    assert np.abs(frames[3].astype(int) - wanted).mean() < 12
    odd = write_videos(tmp_path / "odd", seed=3, image_size=(49, 64), options=OPTIONS)
    assert odd.files == ()


def test_what_is_there_is_not_overwritten_unasked(tmp_path: Path) -> None:
    write_videos(tmp_path, seed=0, image_size=SIZE, options=OPTIONS)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="expected an empty folder"):
        write_videos(tmp_path, seed=0, image_size=SIZE, options=OPTIONS)
    write_videos(tmp_path, seed=1, image_size=SIZE, options=OPTIONS.replace(frames=2), overwrite=True)
    assert len(list(tmp_path.rglob("*.jpg"))) == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="expected an empty folder"):
        write_videos(tmp_path / "other", seed=1, image_size=SIZE, options=OPTIONS, overwrite=True)
    with pytest.raises(DataError, match="got a file"):
        write_videos(tmp_path / "notes.txt", options=OPTIONS)
    with pytest.raises(ConfigError, match="videos: expected 1 or more, got 0"):
        write_videos(tmp_path / "none", videos=0, options=OPTIONS)
