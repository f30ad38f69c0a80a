from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("av")

from PIL import Image

from blob_predictor import SIZE, BlobPredictor, two_blobs, write_blobs
from local_stream import LocalStream, wait_until
from protomask.inference.sinks.reading import read_lines
from video_files import RATE, read_back, write_sound

if TYPE_CHECKING:
    from cli.conftest import Run


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> BlobPredictor:
    predictor = BlobPredictor()
    monkeypatch.setattr("protomask.api.load", lambda *more, **settings: predictor)
    return predictor


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = threading.active_count()
    yield
    wait_until(lambda: threading.active_count() <= before)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [line.row for line in read_lines(folder / "predictions.jsonl")]


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_video_is_tracked_and_written(run: Run, tmp_path: Path) -> None:
    video = write_blobs(tmp_path / "a.mp4", 20)
    out = tmp_path / "out"
    outcome = run("track", video, "--save-dir", out, "--save-youtube-vis", "--save-table", "csv", "--model", "fake")
    assert outcome.code == 0, outcome.err
    assert "20 frames of 96x48 up to 0.76 s, 40 instances, 2 tracks" in outcome.out
    assert f"20 frames of 1 video tracked; results in {out}" in outcome.out
    assert names(out) == ["a.mp4", "predictions.csv", "predictions.jsonl", "videos.json", "youtube_vis.json"]

    lines = rows(out)
    assert [line["frame"] for line in lines] == list(range(20))
    assert [line["time"] for line in lines] == pytest.approx([number / RATE for number in range(20)])
    assert {tuple(one["track_id"] for one in line["instances"]) for line in lines} == {(1, 2)}
    tracks = json.loads((out / "youtube_vis.json").read_text())
    assert [track["track_id"] for track in tracks] == [1, 2]
    assert [len(track["segmentations"]) for track in tracks] == [20, 20]
    assert tracks[0]["segmentations"][7] == lines[7]["instances"][0]["segmentation"]
    described = json.loads((out / "videos.json").read_text())
    assert described["videos"][0]["length"] == 20
    assert [category["name"] for category in described["categories"]] == ["nut", "bolt"]
    _, times, size = read_back(out / "a.mp4")
    assert (len(times), size) == (20, SIZE)


def test_predict_takes_videos_beside_images(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_blobs(folder / "a.mp4", 6)
    Image.fromarray(two_blobs(3, SIZE)).save(folder / "b.png")
    write_blobs(folder / "c.mkv", 5)
    out = tmp_path / "out"
    outcome = run("predict", folder, "--save-dir", out, "--save-jsonl", "--save-polygons", "--model", "x", "--json")
    assert outcome.code == 0, outcome.err
    told = outcome.json
    assert [(Path(row["file"]).name, row["frames"]) for row in told["videos"]] == [("a.mp4", 6), ("c.mkv", 5)]
    assert told["videos"][0]["written"][0] == str(out / "polygons" / "a_000000.geojson")
    assert [Path(row["file"]).name for row in told["images"]] == ["b.png"]
    assert [name for name in names(out) if "/" not in name] == ["a.mp4", "b.png", "c.mp4", "predictions.jsonl"]
    assert names(out / "polygons")[:2] == ["a_000000.geojson", "a_000001.geojson"]
    assert [Path(row["file"]).name for row in rows(out)] == ["a.mp4"] * 6 + ["b.png"] + ["c.mkv"] * 5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--every", "5"], [0, 0.2, 0.4, 0.6]),
        (["--fps", "5", "--start", "0:00.2"], [0.2, 0.4, 0.6]),
        (["--start", "0.5", "--end", "0.6"], [0.52, 0.56]),
    ],
)
def test_what_of_a_video_is_read(options: list[str], expected: list[float], run: Run, tmp_path: Path) -> None:
    video = write_blobs(tmp_path / "a.mp4", 20)
    assert run("predict", video, "--save-dir", tmp_path / "out", "--save-jsonl", *options).code == 0
    assert [row["time"] for row in rows(tmp_path / "out")] == pytest.approx(expected)
    assert read_back(tmp_path / "out" / "a.mp4")[1] == pytest.approx([time - expected[0] for time in expected])


def test_a_folder_of_images_is_a_video_to_track(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(12):
        Image.fromarray(two_blobs(number, SIZE)).save(folder / f"{number}.png")
    out = tmp_path / "out"
    assert run("track", folder, "--save-dir", out, "--fps", "10").code == 0
    assert [row["time"] for row in rows(out)] == pytest.approx([number / 10 for number in range(12)])
    assert {len(row["instances"]) for row in rows(out)} == {2}
    assert len(read_back(out / "frames.mp4")[1]) == 12
    assert run("predict", folder, "--save-dir", tmp_path / "stills", "--save-jsonl").code == 0
    assert len(names(tmp_path / "stills")) == 13


@pytest.mark.parametrize("raw", [False, True])
def test_a_video_from_standard_input(raw: bool, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if raw:
        content = b"".join(two_blobs(number, SIZE).tobytes() for number in range(7))
        options = ["--raw-size", "96x48", "--fps", "10"]
    else:
        content, options = write_blobs(tmp_path / "a.mkv", 7).read_bytes(), []
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert run("predict", "-", "--save-dir", tmp_path / "out", "--save-jsonl", *options).code == 0
    assert [row["file"] for row in rows(tmp_path / "out")] == ["stdin"] * 7
    assert rows(tmp_path / "out")[5]["time"] == pytest.approx(0.5 if raw else 0.2)
    assert len(read_back(tmp_path / "out" / "stdin.mp4")[1]) == 7


def test_bad_inputs_are_named_and_the_others_go_on(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    write_sound(tmp_path / "sound.mp4")
    good = write_blobs(tmp_path / "good.mp4", 3)
    outcome = run("track", tmp_path / "empty.mp4", tmp_path / "sound.mp4", good, "--save-dir", tmp_path / "out")
    assert outcome.code == 1
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert "empty.mp4: the file is empty" in errors[0]
    assert "sound.mp4: expected a video, got only sound" in errors[1]
    assert "2 of 3 inputs failed" in outcome.err
    assert "3 frames of 1 video tracked" in outcome.out
    assert "Traceback" not in outcome.err


def test_a_video_that_is_cut_off_is_warned_of(run: Run, tmp_path: Path) -> None:
    video = write_blobs(tmp_path / "a.mkv", 30)
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    outcome = run("predict", video, "--save-dir", tmp_path / "out")
    assert outcome.code == 0
    assert f"warning: {video}: cut off" in outcome.err
    assert "frames of 1 video predicted" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--every", "0"], "every: expected"),
        (["--start", "5", "--end", "3"], "end: expected a time after start"),
        (["--resume"], "resume: expected the predictions.jsonl of an interrupted run"),
        (["--resume", "--no-save-jsonl"], "save_jsonl: expected True, for it is what resume goes by"),
        (["--video-codec", "mpeg2"], "--video-codec: expected {h264,hevc,vp9,av1}"),
    ],
)
def test_bad_usage(arguments: list[str], message: str, run: Run, tmp_path: Path) -> None:
    outcome = run("track", write_blobs(tmp_path / "a.mp4", 2), "--save-dir", tmp_path / "out", *arguments)
    assert outcome.code == 2
    assert message in outcome.err


def test_zones_are_watched(run: Run, tmp_path: Path) -> None:
    ring = [[48, 0], [96, 0], [96, 24], [48, 24], [48, 0]]
    feature = {
        "type": "Feature",
        "properties": {"name": "right"},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    (tmp_path / "zones.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    video, out = write_blobs(tmp_path / "a.mp4", 35), tmp_path / "out"
    assert run("track", video, "--save-dir", out, "--zones", tmp_path / "zones.geojson").code == 0
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert [(event["event"], event["track_id"]) for event in events] == [("enter", 1), ("leave", 1)]


def test_a_stream_is_stopped_when_it_ends_and_its_delay_is_told(run: Run, tmp_path: Path) -> None:
    content = write_blobs(tmp_path / "a.ts", 20).read_bytes()
    with LocalStream([content]) as server:
        outcome = run("track", server.url, "--save-dir", tmp_path / "out", "--give-up", "0", "--json")
    assert outcome.code == 1  # it was lost
    assert "lost after 20 frames, and not back within 0 s" in outcome.err
    [row] = outcome.json["videos"]
    assert row["frames"] + row["dropped"] == 20
    assert 0 < row["delay_p50"] <= row["delay_p95"] < 5
    video = tmp_path / "out" / f"{server.url.removeprefix('tcp://').replace(':', '_')}.mp4"
    assert len(read_back(video)[1]) == row["frames"]


def command(*arguments: str | Path, seconds: float = 0.02) -> list[str]:
    script = Path(__file__).parents[1] / "blob_predictor.py"
    return [sys.executable, str(script), str(seconds), *map(str, arguments)]


def lines_in(folder: Path) -> int:
    path = folder / "predictions.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def interrupt(arguments: list[str], folder: Path, number: int, after: int) -> tuple[int, str]:
    """Send a signal to a command when so many lines are written; its exit code and errors."""
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: lines_in(folder) >= after or process.poll() is not None, 60)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blobs(tmp_path_factory.mktemp("video") / "a.mp4", 150, gop=25)


EXTRAS = ("--save-youtube-vis", "--save-table", "csv")
RESULTS = ("predictions.jsonl", "youtube_vis.json", "videos.json", "predictions.csv")


@pytest.fixture(scope="module")
def whole(long_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run that is not interrupted writes."""
    out = tmp_path_factory.mktemp("whole")
    subprocess.run(command("track", long_video, "--save-dir", out, *EXTRAS, seconds=0), check=True, capture_output=True)
    return out


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_a_signal_ends_with_whole_files_and_resume_goes_on(
    name: str, long_video: Path, whole: Path, tmp_path: Path
) -> None:
    arguments = command("track", long_video, "--save-dir", tmp_path, *EXTRAS)
    code, errors = interrupt(arguments, tmp_path, getattr(signal, name), 30)
    assert code == 1, errors
    assert "stopped before the end; all files are complete up to the last frame: --resume goes on" in errors
    count = lines_in(tmp_path)
    assert 30 <= count < 150
    assert len(read_back(tmp_path / "a.mp4")[1]) == count
    assert all(
        len(track["segmentations"]) == count for track in json.loads((tmp_path / "youtube_vis.json").read_text())
    )
    assert names(tmp_path) == ["a.mp4", *sorted(RESULTS)]
    _resume_and_compare(arguments, whole, tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_run_leaves_a_video_that_plays_and_resume_goes_on(
    long_video: Path, whole: Path, tmp_path: Path
) -> None:
    arguments = command("track", long_video, "--save-dir", tmp_path, *EXTRAS)
    code, _ = interrupt(arguments, tmp_path, signal.SIGKILL, 110)
    assert code == -signal.SIGKILL
    count = lines_in(tmp_path)
    assert 110 <= count < 150
    played = len(read_back(tmp_path / "a.part.mp4")[1])
    assert count - 3 * RATE < played <= count + 3
    _resume_and_compare(arguments, whole, tmp_path)


def _resume_and_compare(arguments: list[str], whole: Path, folder: Path) -> None:
    done = subprocess.run([*arguments, "--resume"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert names(folder) == names(whole)
    for name in RESULTS:
        assert (folder / name).read_text() == (whole / name).read_text(), name
    assert read_back(folder / "a.mp4")[1] == read_back(whole / "a.mp4")[1]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_signal_ends_a_stream_in_good_order(tmp_path: Path) -> None:
    content = write_blobs(tmp_path / "a.ts", 40).read_bytes()
    out = tmp_path / "out"
    with LocalStream([content], pause=60) as server:
        arguments = command("predict", server.url, "--save-dir", out, "--save-jsonl")
        code, errors = interrupt(arguments, out, signal.SIGINT, 1)
    assert code == 0, errors
    [video] = out.glob("*.mp4")
    assert len(read_back(video)[1]) == lines_in(out)


def test_a_finished_run_has_nothing_to_resume(run: Run, tmp_path: Path) -> None:
    videos = [write_blobs(tmp_path / "a.mp4", 5), write_blobs(tmp_path / "b.mp4", 5)]
    out = tmp_path / "out"
    assert run("track", *videos, "--save-dir", out).code == 0
    before = {name: (out / name).read_bytes() for name in names(out)}
    assert run("track", *videos, "--save-dir", out, "--resume").code == 0
    assert {name: (out / name).read_bytes() for name in names(out)} == before


def test_resume_goes_on_among_images(run: Run, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(two_blobs(number, SIZE)).save(folder / f"{number}.png")
    arguments = ("predict", folder, "--save-dir", out, "--save-jsonl", "--save-json")
    assert run(*arguments).code == 0
    whole = (out / "predictions.json").read_text()
    lines = (out / "predictions.jsonl").read_bytes().splitlines(keepends=True)
    (out / "predictions.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:40])
    outcome = run(*arguments, "--resume", "--json")
    assert [Path(row["file"]).name for row in outcome.json["images"]] == ["2.png", "3.png"]
    assert (out / "predictions.json").read_text() == whole
    assert (out / "predictions.jsonl").read_bytes() == b"".join(lines)


def test_resume_refuses_results_of_another_model(run: Run, tmp_path: Path) -> None:
    video, out = write_blobs(tmp_path / "a.mp4", 5), tmp_path / "out"
    assert run("track", video, "--save-dir", out).code == 0
    text = (out / "predictions.jsonl").read_text()
    (out / "predictions.jsonl").write_text(text.replace('"nut"', '"wheel"'))
    outcome = run("track", video, "--save-dir", out, "--resume")
    assert outcome.code == 1
    assert "expected results of the same model, got the class 'wheel'" in outcome.err


def test_the_newest_frame_is_shown_on_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    seen: list[bytes] = []

    def look(url: str) -> None:
        with urllib.request.urlopen(url) as page:
            seen.append(page.read())

    monkeypatch.setattr("protomask.cli.moving._open_browser", look)
    outcome = run("predict", write_blobs(tmp_path / "a.mp4", 3), "--save-dir", tmp_path / "out", "--show")
    assert outcome.code == 0
    assert "preview at http://127.0.0.1:" in outcome.err
    assert b"stream.mjpg" in seen[0]


def test_numbers_are_those_of_the_images(run: Run, tmp_path: Path) -> None:
    """What is found in a frame is where the frame shows it."""
    video = write_blobs(tmp_path / "a.mp4", 10)
    assert run("track", video, "--save-dir", tmp_path / "out").code == 0
    for row in rows(tmp_path / "out"):
        left = 2 * row["frame"]
        np.testing.assert_allclose(row["instances"][0]["box"], [left, 4, left + 12, 16], atol=1.1)
