from __future__ import annotations

import itertools
import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from protomask.checkpoints.io import read_header
from protomask.cli.train import GROUPS
from protomask.data.synthetic.shapes import CLASS_NAMES
from protomask.engine.config import TrainConfig
from protomask.engine.recipes import RECIPES

if TYPE_CHECKING:
    from cli.conftest import Run


@pytest.fixture
def settings(scenes: Path, tiny_options: str, tmp_path: Path) -> list[str | Path]:
    return [
        "--data", scenes, "--output", tmp_path / "run", "--model", "yolact_nano", "--image-size", "64",
        "--model-options", tiny_options, "--no-pretrained-backbone", "--batch-size", "2", "--freeze-bn", "false",
        "--num-workers", "0", "--device", "cpu", "--log-every", "2", "--no-report",
    ]  # fmt: skip


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_train_then_eval_then_predict(run: Run, settings: list[str | Path], scenes: Path, tmp_path: Path) -> None:
    outcome = run("train", *settings, "--epochs", 1)
    assert outcome.code == 0
    assert re.search(r"iteration 2/3  epoch 0\.67 .* images/s .*0:\d\d elapsed, 0:\d\d left\n", outcome.out)
    assert re.search(r"validation at epoch 1: box AP .* s\)  0:\d\d elapsed, 0:00 left\n", outcome.out)
    assert str(tmp_path / "run") in outcome.out
    last = tmp_path / "run" / "last.safetensors"
    assert tuple(read_header(last)["class_names"]) == CLASS_NAMES
    best = tmp_path / "run" / "best.safetensors"
    assert best.is_file()

    evaluation = run("eval", "--data", scenes, "--weights", best, "--num-workers", 0, "--device", "cpu", "--json")
    assert evaluation.code == 0
    [validation] = [line for line in metrics(tmp_path / "run") if line["kind"] == "validation"]
    assert evaluation.json["mask"]["AP"] == pytest.approx(validation["mask_AP"], abs=1e-6)

    arguments = ["--weights", best, "--save-dir", tmp_path / "found", "--score-threshold", 0, "--device", "cpu"]
    prediction = run("predict", scenes / "images" / "val", *arguments)
    assert prediction.code == 0
    assert len(list((tmp_path / "found").glob("*.png"))) == 3


def test_json(run: Run, settings: list[str | Path], tmp_path: Path) -> None:
    told = run("train", *settings, "--iterations", 1, "--json").json
    assert (told["iteration"], told["interrupted"], told["skipped_steps"]) == (1, False, 0)
    assert Path(told["last_weights"]).is_file()
    assert told["metrics"]["num_images"] == 3


def test_config_file_and_resume(run: Run, settings: list[str | Path], tmp_path: Path) -> None:
    printed = run("train", *settings, "--iterations", 2, "--print_config")
    assert printed.code == 0
    assert not (tmp_path / "run").exists()
    values = yaml.safe_load(printed.out)
    assert (values["batch_size"], values["iterations"]) == (2, 2)
    assert values["model_options"]["fpn_channels"] == 8
    file = tmp_path / "settings.yaml"
    file.write_text(printed.out)

    assert run("train", "--config", file).code == 0
    assert run("train", "--config", file, "--output", tmp_path / "other", "--iterations", 1).code == 0
    assert [metrics(tmp_path / name)[-1]["iteration"] for name in ("run", "other")] == [2, 1]

    again = run("train", "--config", file)
    assert again.code == 2
    assert "already holds a run" in again.err
    assert again.err.endswith(
        f"to continue it: protomask train --config {tmp_path}/run/config.yaml --resume --no-report\n"
    )
    resumed = run("train", "--config", tmp_path / "run" / "config.yaml", "--resume")
    assert resumed.code == 0
    assert "continuing" in resumed.out
    refused = run("train", "--config", tmp_path / "run" / "config.yaml", "--resume", "--batch-size", 3)
    assert refused.code == 2
    assert "batch_size was 2, got 3" in refused.err


def test_interrupted_run_tells_how_to_go_on(
    run: Run, settings: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        asked = itertools.count()
        patch.setattr("protomask.engine.stop.StopRequest.requested", lambda _: next(asked) > 0)
        stopped = run("train", *settings, "--iterations", 3)
    assert stopped.code == 1
    assert " of 3, saved; resume continues" in stopped.out
    early = run("train", *settings, "--resume", "--epochs", "+1", "--iterations", 3)
    assert early.code == 2
    assert "expected a run at its end to prolong by +1 epochs, got one at iteration" in early.err
    assert "\nto continue it: protomask train --config" in early.err
    assert run_hint(run, stopped.out, "to continue") == 0
    assert metrics(tmp_path / "run")[-1]["iteration"] == 3


def run_hint(run: Run, text: str, name: str) -> int:
    """Run the command that was shown; returns its exit code."""
    [command] = re.findall(rf"^{name}: (.*)$", text, flags=re.MULTILINE)
    program, *arguments = shlex.split(command)
    assert program == "protomask"
    return run(*arguments).code


@pytest.mark.parametrize(
    ("length", "hint", "iteration"),
    [(["--epochs", "1"], "--epochs +1", 6), (["--iterations", "10"], "--iterations +2", 12)],
    ids=["epochs", "iterations"],
)
def test_the_command_that_is_shown_prolongs_the_run(
    run: Run, settings: list[str | Path], tmp_path: Path, length: list[str], hint: str, iteration: int
) -> None:
    output = tmp_path / "a run's folder"
    done = run("train", *settings, *length, "--output", output, "--validate-every", 9)
    assert done.code == 0
    assert done.out.endswith(f"--resume --no-report {hint}\n")
    assert run_hint(run, done.out, "to train longer") == 0
    assert metrics(output)[-1]["iteration"] == iteration


def test_a_length_in_minutes(run: Run, settings: list[str | Path], tmp_path: Path) -> None:
    outcome = run("train", *settings, "--minutes", 0.04, "--log-every", 1)
    assert outcome.code == 0
    assert "iteration 1/?  epoch 0.33" in outcome.out
    assert "plan for 0.04 min: " in outcome.out
    assert "--resume --no-report --minutes +1\n" in outcome.out
    assert metrics(tmp_path / "run")[-1]["kind"] == "validation"


def test_dry_run(run: Run, settings: list[str | Path], tmp_path: Path) -> None:
    outcome = run("train", *settings, "--epochs", 10, "--dry-run")
    assert outcome.code == 0
    for line in (
        r"rate: [\d.]+ images/s, [\d.]+ s per step.*",
        r"memory: \d+ MiB in the training process",
        r"length: 30 steps, 10\.0 epochs",
        r"validations: 10 of about 0:\d\d",
        r"duration: about \d+:\d\d, by 10 steps",
    ):
        assert re.search(rf"^{line}$", outcome.out, flags=re.MULTILINE), line
    assert run("train", *settings, "--dry-run", "--json").json["iterations"] == 150
    assert list(tmp_path.iterdir()) == []


def test_help_begins_with_the_ten_options_that_matter(run: Run) -> None:
    text = run("train", "--help").out
    sections = dict(
        zip(
            re.findall(r"^(\S.*):$", text, re.MULTILINE),
            re.split(r"^\S.*:$", text, flags=re.MULTILINE)[1:],
            strict=True,
        )
    )
    flags = {title: re.findall(r"^  (--[\w.-]+)", section, re.MULTILINE) for title, section in sections.items()}
    assert list(flags) == [*GROUPS, "other", "example"]
    assert flags["what matters most"] == [
        "--data", "--model", "--weights", "--recipe", "--output", "--epochs", "--minutes", "--batch-size",
        "--image-size", "--resume",
    ]  # fmt: skip
    assert flags["other"] == ["--config", "--print_config", "--debug"]
    assert len(flags["augmentation"]) > 10
    shown = list(itertools.chain.from_iterable(flags.values()))
    assert len(shown) == len(set(shown))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("data: x\nnonsense: 3\n", "nonsense"),
        ("data: x\nepochs: many\n", "--epochs: expected INT|+N, got 'many'"),
        ("data: x\naugmentation:\n  crop: 3\n", "crop: expected a number from 0 to 1"),
        ("[1, 2]\n", ""),
        ("data: [", ""),
    ],
    ids=["unknown", "type", "range", "list", "not YAML"],
)
def test_wrong_config_files(run: Run, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "settings.yaml").write_text(content)
    outcome = run("train", "--config", tmp_path / "settings.yaml")
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "nosuch"], 1, "dataset nosuch"),
        (["--model", "yolact_giant"], 2, "yolact_giant"),
        (["--weights", "nosuch.pth"], 1, "nosuch.pth: no such"),
        (["--model-options", '{"nonsense": 1}'], 2, "nonsense"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_messages(
    run: Run, settings: list[str | Path], tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    outcome = run("train", *settings, *arguments)
    assert outcome.code == code
    assert message in outcome.err
    assert not (tmp_path / "run").exists()


def test_recipe_comes_before_all_other_options(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("weight_decay: 0.25\nepochs: 7\n")
    arguments = ["--data", "x", "--config", tmp_path / "mine.yaml", "--epochs", 3, "--print_config"]
    shown = yaml.safe_load(run("train", *arguments, "--recipe", "ms_rcnn_paper").out)
    assert (shown["image_size"], shown["model_options"]) == (600, {"max_image_size": 1000})
    assert (shown["weight_decay"], shown["epochs"]) == (0.25, 3)
    assert yaml.safe_load(run("train", "--recipe=ms_rcnn_1x", "--data", "x", "--print_config").out)["image_size"] == 800


def test_a_model_may_have_a_recipe_of_its_own(run: Run, tmp_path: Path) -> None:
    arguments = ["--data", "x", "--print_config", "--model"]
    assert yaml.safe_load(run("train", *arguments, "protomask_n").out)["optimizer"] == "adamw"
    assert yaml.safe_load(run("train", *arguments, "protomask_n", "--optimizer=sgd").out)["optimizer"] == "sgd"
    assert yaml.safe_load(run("train", *arguments, "protomask_n", "--recipe", "ms_rcnn_1x").out)["optimizer"] == "sgd"
    (tmp_path / "mine.yaml").write_text("epochs: 7\n")
    mine = run("train", "--config", tmp_path / "mine.yaml", *arguments, "protomask_n")
    assert yaml.safe_load(mine.out)["optimizer"] == "sgd"
    assert yaml.safe_load(run("train", *arguments, "yolact_nano").out)["optimizer"] == "sgd"


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_settings(run: Run, name: str) -> None:
    shown = yaml.safe_load(run("train", "--data", "x", "--recipe", name, "--print_config").out)
    chosen = yaml.safe_load(RECIPES[name].read_text(encoding="utf-8"))
    TrainConfig.from_dict({"data": "x", **chosen})
    assert all(shown[key] == value for key, value in chosen.items() if not isinstance(value, dict))
    assert all(shown["augmentation"][key] == value for key, value in chosen["augmentation"].items())


@pytest.mark.parametrize("name", ["unknown", ""])
def test_unknown_recipe(run: Run, name: str) -> None:
    outcome = run("train", "--data", "x", "--recipe", name)
    assert outcome.code == 2
    assert f"--recipe: expected one of {', '.join(RECIPES)}, got {name!r}" in outcome.err
