from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import protomask
from protomask.cli.main import VERBS

if TYPE_CHECKING:
    from cli.conftest import Run


def test_no_verb_shows_the_verbs(run: Run) -> None:
    outcome = run()
    assert outcome.code == 2
    assert all(verb in outcome.out for verb in VERBS)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(run: Run, flag: str) -> None:
    outcome = run(flag)
    assert outcome.code == 0
    assert all(summary in outcome.out for _, summary in VERBS.values())


def test_version(run: Run) -> None:
    outcome = run("--version")
    assert (outcome.code, outcome.out) == (0, f"protomask {protomask.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predct"], "no verb 'predct', did you mean 'predict'?"),
        (["nothing-like-it"], "there are: predict, track, bulk, serve, train, "),
        (["data", "sinth"], "no verb 'data sinth', did you mean 'data synth'?"),
        (["--wrong"], "unrecognized arguments: --wrong"),
        (["predict"], "missing: inputs"),
        (["predict", "a.jpg", "--save-dirr", "b"], "no option --save-dirr, did you mean --save-dir?"),
        (["predict", "a.jpg", "--zzz"], "no option --zzz"),
        (["serve", "--model", "nuclei"], "no option --model, did you mean protomask serve MODELS?"),
        (["predict", "a.jpg", "--nms", "slow"], "--nms: expected {fast,cross_class_fast,batched,soft_linear,soft_gau"),
        (["predict", "a.jpg", "--batch-size", "many"], "--batch-size: expected INT, got 'many'"),
        (["predict", "a.jpg", "--batch-size", "0"], "batch_size: expected a whole number of at least 1, got 0"),
        (["train"], "missing: --data"),
        (["train", "--data", "x", "--epoch", "3"], "no option --epoch, did you mean --epochs?"),
        (["train", "--data", "x", "--epochs", "0"], "epochs: expected a whole number of at least 1 or +N for N more"),
        (["train", "--data", "x", "--augmentation.crop", "2"], "crop: expected a number from 0 to 1, got 2"),
        (["convert", "a.pth"], "missing: destination"),
        (["convert", "a.pth", "b.safetensors", "c"], "unexpected c"),
        (["convert", "a.pth", "b.onnx"], "destination: expected a .safetensors file"),
        (["demo", "--images", "-1"], "images: expected at least 0, got -1"),
    ],
    ids=" ".join,
)
def test_bad_usage(run: Run, arguments: list[str], message: str) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert len(outcome.err.splitlines()) <= 3
    assert outcome.out == ""


def test_data_alone_tells_its_verbs(run: Run) -> None:
    assert run("data").code == 2
    outcome = run("data", "--help")
    assert outcome.code == 0
    assert "protomask data synth: render" in outcome.out


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(run: Run, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcome = run(*verb.split(), "--help")
    assert outcome.code == 0
    assert f"usage: protomask {verb}" in outcome.out
    assert f"example:\n  protomask {verb}" in outcome.out
    assert "--debug" in outcome.out
    for unwanted in ("NoneType", "Optional[", "Literal[", "Union[", "null", "default: None"):
        assert unwanted not in outcome.out
    # Nothing but the example and a long list of choices may be wider than the terminal.
    wide = [line for line in outcome.out.splitlines() if len(line) > 80]
    assert all(line.startswith("  protomask") or "{" in line for line in wide)


@pytest.mark.parametrize("verb", VERBS)
def test_no_help_capitalises_a_value(run: Run, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    entries = re.findall(r"^  (--.+?)(?:\n  +|  +)(\w+)(.*)$", run(*verb.split(), "--help").out, re.MULTILINE)
    assert entries
    for option, first, rest in entries:
        choices = re.findall(r"[\w.]+", " ".join(re.findall(r"{(.+?)}", option)))
        default = re.findall(r"\(default: (.+)\)$", rest)
        assert first.lower() not in [*choices, *default], f"{option}: {first}{rest}"


def test_help_shows_type_and_default_once(run: Run) -> None:
    text = " ".join(run("predict", "--help").out.split())
    assert "--score-threshold FLOAT Return only instances whose final score" in text
    assert "--no-save-overlay Write each image, and each video, with masks, boxes, classes and scores drawn" in text
    assert "scores drawn on it. (default: y" in text
    assert "--nms {fast,cross_class_fast,batched,soft_linear,soft_gaussian}" in text


def test_failed_work_tells_the_cause_without_a_traceback(run: Run, tmp_path: Path) -> None:
    outcome = run("predict", tmp_path / "missing.jpg")
    assert outcome.code == 1
    assert outcome.err == f"protomask predict: {tmp_path / 'missing.jpg'}: no such file or folder\n"


def test_debug_shows_the_traceback(run: Run, tmp_path: Path) -> None:
    outcome = run("predict", tmp_path / "missing.jpg", "--debug")
    assert outcome.code == 1
    assert outcome.err.startswith("Traceback")
    assert "DataError" in outcome.err


def test_unforeseen_errors_are_told_as_well(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr("protomask.cli.output.dump_json", broken)
    outcome = run("models", "--json")
    assert outcome.code == 1
    assert outcome.err == "protomask models: RuntimeError: the disk is on fire (--debug shows where)\n"


def test_ctrl_c(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("protomask.cli.output.dump_json", interrupted)
    outcome = run("models", "--json")
    assert (outcome.code, outcome.err) == (1, "protomask models: stopped\n")


def test_underscores_are_as_good_as_hyphens(run: Run, tmp_path: Path) -> None:
    arguments = ["--save_dir", "x", "--no_save_overlay", "--score_threshold=0.5", "--nms", "soft_linear"]
    outcome = run("predict", tmp_path / "missing_file.jpg", *arguments)
    assert outcome.code == 1
    assert "missing_file.jpg: no such file" in outcome.err


@pytest.mark.slow
def test_installed_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "protomask.cli.main"]
    done = subprocess.run([*command, "models"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "yolact_resnet50" in done.stdout
    failed = subprocess.run([*command, "predict", tmp_path], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "folder without images" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no such pipes")
def test_a_reader_that_goes_away_causes_no_noise() -> None:
    script = f"{sys.executable} -m protomask.cli.main models --json | head -n 1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[\n", "")
