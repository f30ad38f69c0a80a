from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from protomask.data.synthetic.options import SyntheticVideoOptions
from protomask.data.synthetic.write_video import write_videos
from protomask.structures.mots import write_mots_text
from protomask.structures.youtube_vis import read_youtube_vis, write_youtube_vis_results

if TYPE_CHECKING:
    from cli.conftest import Run


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    options = SyntheticVideoOptions(frames=8, overlap="little")
    write_videos(folder, videos=2, seed=1, image_size=(192, 256), options=options)
    return folder


def test_a_model_with_a_tracker(run: Run, clips: Path, tmp_path: Path) -> None:
    outcome = run("eval", "--data", clips, "--model", "yolact_nano", "--save-results", tmp_path / "found.json")
    assert outcome.code == 0
    for name in ("HOTA", "IDF1", "sMOTSA", "IDSW", "per class", "per video", "000002"):
        assert name in outcome.out
    told = run(
        "eval", "--data", clips / "annotations" / "val.json", "--results", tmp_path / "found.json", "--json"
    ).json
    assert told["videos"] == 2
    assert told["overall"]["HOTA"] > 0.6  # the shapes are what the model knows
    assert told["overall"]["IDF1"] > 0.6
    assert f"HOTA          {told['overall']['HOTA']:.3f}" in outcome.out


def test_the_truth_is_perfect_in_both_formats(run: Run, clips: Path, tmp_path: Path) -> None:
    truth = read_youtube_vis(clips / "annotations" / "val.json")
    write_youtube_vis_results(tmp_path / "results.json", truth.videos, list(truth.categories))
    for video in truth.videos.values():
        write_mots_text(tmp_path / "mots" / f"{video.name}.txt", video)
    for results in ("results.json", "mots"):
        told = run("eval", "--data", clips, "--results", tmp_path / results, "--json").json
        for name in ("HOTA", "IDF1", "MOTSA", "sMOTSA"):
            assert told["overall"][name] == pytest.approx(1), (results, name)
        assert all(values["HOTA"] == pytest.approx(1) for values in told["per_class"].values())
        assert told["overall"]["IDSW"] == 0


def test_what_cannot_be_measured(run: Run, clips: Path, tmp_path: Path) -> None:
    assert run("eval", "--data", clips, "--quality").code == 2
    assert run("eval", "--data", clips, "--errors").code == 2
    outcome = run("eval", "--data", clips, "--results", tmp_path)
    assert outcome.code == 1
    assert "expected MOTS text for some of the videos, such as 000001.txt" in outcome.err
    content = json.loads((clips / "annotations" / "val.json").read_text())
    content["categories"][0]["name"] = "zebra"
    (clips / "annotations" / "zoo.json").write_text(json.dumps(content))
    outcome = run("eval", "--data", clips / "annotations" / "zoo.json", "--results", tmp_path / "none.json")
    assert outcome.code == 1
    assert "none.json" in outcome.err
    (clips / "images" / "zoo").symlink_to(clips / "images" / "val")
    outcome = run("eval", "--data", clips, "--split", "zoo")
    assert outcome.code == 1
    assert "unknown to the model: zebra" in outcome.err
