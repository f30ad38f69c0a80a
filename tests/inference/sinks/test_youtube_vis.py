from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protomask.errors import ConfigError
from protomask.inference.sinks.youtube_vis import YoutubeVisSink
from protomask.structures.frame import Frame
from protomask.structures.youtube_vis import read_youtube_vis, read_youtube_vis_results
from sample_frames import NAMES, SIZE, files_in, found, frame, read_json


def tracked(source: str, index: int, rows: list[int], tracks: list[int]) -> Frame:
    some = found()[np.array(rows, dtype=np.int64)].replace(track_ids=np.array(tracks, dtype=np.int64))
    return frame(source, some, index=index, time=index / 10)


def test_tracks_have_a_mask_for_each_frame(tmp_path: Path) -> None:
    with YoutubeVisSink(tmp_path) as sink:
        sink.write(tracked("a.mp4", 0, [0, 1], [7, 3]))
        sink.write(tracked("a.mp4", 1, [], []))
        sink.write(tracked("a.mp4", 2, [1], [7]))
        sink.write(tracked("sub/a.mp4", 0, [0], [7]))
        assert files_in(tmp_path) == []
    tracks, described = read_json(tmp_path / "youtube_vis.json"), read_json(tmp_path / "videos.json")
    assert [(track["video_id"], track["track_id"]) for track in tracks] == [(1, 3), (1, 7), (2, 7)]
    codes = found().rle()
    assert tracks[0]["segmentations"] == [dict(codes[1]), None, None]
    assert tracks[1]["segmentations"] == [dict(codes[0]), None, dict(codes[1])]
    assert [track["category_id"] for track in tracks] == [2, 1, 1]  # 7 was a disc of 0.75 and a ring of 0.5
    assert [track["score"] for track in tracks] == pytest.approx([0.5, 0.625, 0.75])
    assert described["categories"] == [{"id": 1, "name": NAMES[0]}, {"id": 2, "name": NAMES[1]}]
    first, second = described["videos"]
    assert (first["id"], first["length"], first["height"], first["width"]) == (1, 3, *SIZE)
    assert first["file_names"] == ["a/000000.jpg", "a/000001.jpg", "a/000002.jpg"]
    assert first["times"] == [0.0, 0.1, 0.2]
    assert (second["file_name"], second["file_names"]) == ("sub/a.mp4", ["a_2/000000.jpg"])


def test_the_package_reads_what_it_wrote(tmp_path: Path) -> None:
    with YoutubeVisSink(tmp_path) as sink:
        sink.write(tracked("a.mp4", 0, [0, 1], [7, 3]))
        sink.write(tracked("a.mp4", 1, [1], [3]))
    truth = read_youtube_vis(tmp_path / "videos.json")
    assert truth.class_names == NAMES
    [video] = read_youtube_vis_results(tmp_path / "youtube_vis.json", truth).values()
    codes = found().rle()
    assert {(track.label, tuple(sorted(track.masks))) for track in video.tracks} == {(0, (0,)), (1, (0, 1))}
    assert [track.masks[0] for track in video.tracks if track.label == 1] == [codes[1]]


def test_nothing_found_is_an_empty_list(tmp_path: Path) -> None:
    with YoutubeVisSink(tmp_path):
        pass
    assert read_json(tmp_path / "youtube_vis.json") == []


def test_instances_without_tracks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a.mp4: save_youtube_vis: expected instances with track ids"):
        YoutubeVisSink(tmp_path).check(frame("a.mp4"))


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    sink = YoutubeVisSink(tmp_path)
    sink.write(tracked("a.mp4", 0, [0], [1]))
    sink.close(complete=False)
    assert files_in(tmp_path) == []
