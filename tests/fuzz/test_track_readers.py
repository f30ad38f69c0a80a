"""The readers of tracks, given files that were damaged at random: a result or a `DataError`, whatever they hold."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fuzz.test_data_readers import damaged, damaged_bytes, many, sane, write_json
from protomask.masks.rle import decode_rle, encode_rle
from protomask.structures.mots import read_mots_images, read_mots_text, write_mots_text
from protomask.structures.tracks import Tracklet, VideoTracks
from protomask.structures.youtube_vis import (
    read_youtube_vis,
    read_youtube_vis_results,
    write_youtube_vis,
    write_youtube_vis_results,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
NAMES = ("cat", "dog")
CODE = encode_rle(np.arange(12 * 16).reshape(1, 12, 16) % 5 < 2)[0]
VIDEO = VideoTracks(
    name="a",
    image_size=(12, 16),
    num_frames=2,
    tracks=(Tracklet(track_id=1001, label=0, masks={0: CODE, 1: CODE}), Tracklet(track_id=2000, label=1, masks={})),
    file_names=("a/0.png", "a/1.png"),
)


def use(video: VideoTracks) -> None:
    """What a reader gives can be used."""
    for tracks in video.frames():
        assert all(track.masks for track in tracks)
    for track in video.tracks:
        for code in track.masks.values():
            assert decode_rle(code).shape == video.image_size


def documents(folder: Path) -> tuple[Any, Any]:
    write_youtube_vis(folder / "truth.json", [VIDEO], NAMES)
    write_youtube_vis_results(folder / "results.json", {1: VIDEO})
    truth, results = (json.loads((folder / name).read_text()) for name in ("truth.json", "results.json"))
    return truth, results


@many
@given(data=st.data())
def test_youtube_vis(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    truth, results = documents(folder)
    sound = read_youtube_vis(folder / "truth.json")
    write_json(folder / "truth.json", data.draw(damaged(truth)))
    write_json(folder / "results.json", data.draw(damaged(results)))
    with sane():
        for video in read_youtube_vis(folder / "truth.json").videos.values():
            use(video)
    with sane():
        for video in read_youtube_vis_results(folder / "results.json", sound).values():
            use(video)


@many
@given(data=st.data())
def test_mots(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    write_mots_text(folder / "a.txt", VIDEO)
    (folder / "a.txt").write_bytes(data.draw(damaged_bytes((folder / "a.txt").read_bytes())))
    with sane():
        use(read_mots_text(folder / "a.txt", NAMES))
    (folder / "png").mkdir(exist_ok=True)
    stored = BytesIO()
    Image.fromarray((np.arange(12 * 16).reshape(12, 16) % 3 * 1000).astype(np.uint16)).save(stored, format="PNG")
    (folder / "png" / "000003.png").write_bytes(data.draw(damaged_bytes(stored.getvalue())))
    with sane():
        use(read_mots_images(folder / "png", NAMES))
