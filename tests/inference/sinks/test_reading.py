from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protomask.errors import DataError
from protomask.inference.sinks.lists import JsonLinesSink
from protomask.inference.sinks.reading import frame_of, read_lines
from protomask.structures.frame import Frame
from sample_frames import NAMES, found, frame


def written(folder: Path, *frames: Frame) -> Path:
    with JsonLinesSink(folder) as sink:
        for one in frames:
            sink.write(one)
    return sink.path


@pytest.mark.parametrize("mask_scores", [None, [0.5, 0.25, 1.0]])
@pytest.mark.parametrize("tracks", [None, [4, 2, 9]])
def test_lines_come_back_as_frames(mask_scores: list[float] | None, tracks: list[int] | None, tmp_path: Path) -> None:
    instances = found(mask_scores)
    if tracks is not None:
        instances = instances.replace(track_ids=np.array(tracks))
    [line] = read_lines(written(tmp_path, frame("a.mp4", instances, index=3, time=0.5)))
    back = frame_of(line.row, NAMES)
    assert (back.source, back.index, back.time) == (line.file, 3, line.time) == ("a.mp4", 3, 0.5)
    assert back.found is not None
    assert back.found.to_dict() == instances.to_dict()
    np.testing.assert_array_equal(back.found.masks, instances.masks)
    with pytest.raises(DataError, match="only the results are known"):
        _ = back.image


def test_frames_in_which_nothing_was_found(tmp_path: Path) -> None:
    [line] = read_lines(written(tmp_path, frame(instances=found()[[]])))
    back = frame_of(line.row, NAMES).found
    assert back is not None
    assert len(back) == 0


def test_what_a_killed_process_left_of_a_line_is_no_line(tmp_path: Path) -> None:
    path = written(tmp_path, frame("a"), frame("b"))
    whole = path.read_bytes()
    ends = [line.end for line in read_lines(path)]
    assert ends == [whole.index(b"\n") + 1, len(whole)]
    for cut in (1, 50):
        path.write_bytes(whole[:-cut])
        assert [line.file for line in read_lines(path)] == ["a"]
    path.write_bytes(whole)
    assert [line.file for line in read_lines(path, ends[0])] == ["a"]


def test_a_line_that_is_none_of_ours_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, frame("a"))
    with path.open("ab") as file:
        file.write(b'{"some": "other"}\n')
    with pytest.raises(DataError, match=r"predictions.jsonl, line 2: expected the results of one frame, got \{"):
        list(read_lines(path))


def test_new_lines_follow_those_that_are_kept(tmp_path: Path) -> None:
    path = written(tmp_path, frame("a"), frame("b"))
    keep = next(read_lines(path)).end
    with JsonLinesSink(tmp_path, keep=keep) as sink:
        sink.write(frame("c"))
    assert [line.file for line in read_lines(path)] == ["a", "c"]
