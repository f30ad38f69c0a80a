"""Damaged files, odd names and streams, and ends at any moment: each has one right outcome."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import protomask
from protomask.errors import CheckpointError, ConfigError

HERE = Path(__file__).parent / "reliability"
PACKAGE = Path(protomask.__file__).parent
SHIPPED = PACKAGE / "weights" / "yolact_nano.safetensors"
Header = dict[str, Any]


def sample() -> Path:
    return PACKAGE / "samples" / "photo_1.jpg"


def with_header(target: Path, change: Callable[[Header], Any]) -> Path:
    """The shipped weights with another header."""
    raw = SHIPPED.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    outer = json.loads(raw[8 : 8 + size])
    inner = json.loads(outer["__metadata__"]["protomask"])
    changed = change(inner)
    outer["__metadata__"]["protomask"] = changed if isinstance(changed, str) else json.dumps(inner)
    head = json.dumps(outer).encode()
    target.write_bytes(struct.pack("<Q", len(head)) + head + raw[8 + size :])
    return target


def with_tensors(target: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Path:
    """The shipped weights with other tensors."""
    with safe_open(SHIPPED, "pt") as file:
        metadata = file.metadata()
    changed = {key: change(key, value).contiguous() for key, value in load_file(SHIPPED).items()}
    save_file(changed, target, metadata=metadata)
    return target


def config(**values: Any) -> Callable[[Header], None]:
    return lambda header: header["config"].update(values)


ODD_HEADERS: dict[str, Callable[[Header], Any]] = {
    "family is a list": lambda header: header.update(family=[]),
    "family is an object": lambda header: header.update(family={}),
    "family is unknown": lambda header: header.update(family="rcnn"),
    "version is a list": lambda header: header.update(format_version=[]),
    "class names are numbers": lambda header: header.update(class_names=list(range(10))),
    "class names are a text": lambda header: header.update(class_names="abcdefghij"),
    "class names are empty": lambda header: header.update(class_names=[""] * 10),
    "class names are none": lambda header: header.update(class_names=None),
    "class names repeat": lambda header: header.update(class_names=["a"] * 10),
    "too few class names": lambda header: header["class_names"].pop(),
    "no class names": lambda header: header.pop("class_names"),
    "no config": lambda header: header.pop("config"),
    "config is a list": lambda header: header.update(config=[]),
    "config is a text": lambda header: header.update(config="yolact"),
    "backbone is a number": config(backbone=3),
    "backbone is a list": config(backbone=[]),
    "backbone is unknown": config(backbone="vgg"),
    "backbone levels are numbers": config(backbone_levels=[3, 4]),
    "vast protonet": config(protonet_channels=4000),
    "vaster protonet": config(protonet_channels=10**9),
    "endless protonet": config(protonet_upsamplings=10**9),
    "vast pyramid": config(fpn_channels=4000),
    "vast image": config(image_size=10**7),
    "vast number": config(num_prototypes=int("9" * 400)),
    "many anchors": config(anchor_scales=[[1.0] * 2000] * 5),
    "wrong type": config(anchor_scales=[1, 2]),
    "not a number": config(iou_threshold=float("nan")),
    "a number of 5000 digits": lambda header: '{"format_version": ' + "9" * 5000 + "}",
    "deep": lambda header: "[" * 100_000,
    "vast": lambda header: " " * (5 << 20) + "{}",
    "a list": lambda header: "[]",
    "a number": lambda header: "3",
    "empty": lambda header: "",
}  # fmt: skip


@pytest.mark.parametrize("change", ODD_HEADERS.values(), ids=ODD_HEADERS)
def test_odd_headers_of_weights_are_refused_by_name(tmp_path: Path, change: Callable[[Header], Any]) -> None:
    path = with_header(tmp_path / "w.safetensors", change)
    with pytest.raises(CheckpointError, match=r"w\.safetensors"):
        protomask.load(path, device="cpu")


ODD_TENSORS: dict[str, tuple[Callable[[str, torch.Tensor], torch.Tensor], str]] = {
    "whole numbers": (lambda key, value: value.to(torch.int8), "expected real numbers, got int8"),
    "truth values": (lambda key, value: value != 0, "got bool"),
    "zeros": (lambda key, value: torch.zeros_like(value), "expected weights, got zeros"),
    "one layer of zeros": (
        lambda key, value: torch.zeros_like(value) if key == "protonet.prototypes.weight" else value,
        "tensor protonet.prototypes.weight: expected weights, got zeros",
    ),
    "not numbers": (
        lambda key, value: torch.full_like(value, float("nan")) if value.is_floating_point() else value,
        "expected finite numbers",
    ),
    "one that is not a number": (
        lambda key, value: value.index_fill(0, torch.tensor([0]), float("inf")) if key == "semantic.bias" else value,
        "tensor semantic.bias: expected finite numbers",
    ),
    "negative variances": (
        lambda key, value: -value.abs() - 1 if key.endswith("running_var") else value,
        "expected variances",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), ODD_TENSORS.values(), ids=ODD_TENSORS)
def test_tensors_that_cannot_be_weights_are_named(
    tmp_path: Path, change: Callable[[str, torch.Tensor], torch.Tensor], message: str
) -> None:
    path = with_tensors(tmp_path / "w.safetensors", change)
    with pytest.raises(CheckpointError, match=rf"w\.safetensors: tensor \S+: .*{message.rpartition(': ')[2]}") as told:
        protomask.load(path, device="cpu")
    assert message in str(told.value)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precision_are_read(tmp_path: Path, kind: torch.dtype) -> None:
    path = with_tensors(
        tmp_path / "w.safetensors", lambda key, value: value.to(kind) if value.is_floating_point() else value
    )
    assert len(protomask.load(path, device="cpu").predict(sample())) > 0


def limited(code: str, *arguments: str, mib: int = 512) -> subprocess.CompletedProcess[str]:
    """Run Python code that may take so much more memory than PyTorch itself."""
    bounded = (
        "import resource, sys\nimport torch, protomask.checkpoints.sources\nimport protomask\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (used + ({mib} << 20),) * 2)\n{code}"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", bounded, *arguments], capture_output=True, text=True, timeout=120, env=environment
    )


LOAD = """
from protomask.errors import CheckpointError
for path in sys.argv[1:]:
    try:
        protomask.load(path, device="cpu", model="yolact_resnet50")
        print("loaded")
    except CheckpointError as error:
        print("refused" if path in str(error) else error)
"""


@pytest.fixture
def pickles(tmp_path: Path) -> list[str]:
    """Pickles that ask for more than they are."""
    paths = [str(HERE / "nine_bytes.pkl")]
    bombs = {
        "text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"a.",
        "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"a.",
        "array": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"a.",
        "put": b"(lp1000000000\n.",
        "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + b"N.",
        "nothing": b"",
    }
    for name, content in bombs.items():
        (tmp_path / f"{name}.pkl").write_bytes(content)
        paths.append(str(tmp_path / f"{name}.pkl"))
    # One text of 100,000 characters, encoded 100,000 times.
    head = b"\x80\x02c_codecs\nencode\nq\x00X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x01]"
    (tmp_path / "again.pkl").write_bytes(head + b"(" + b"h\x00h\x01\x85R" * 100_000 + b"e.")
    # Dictionaries that hold the one before twice.
    (tmp_path / "doubled.pkl").write_bytes(
        b"\x80\x02}q\x00" + b"".join(b"}(K\x00h%cK\x01h%cuq%c" % (n, n, n + 1) for n in range(60)) + b"."
    )
    paths += [str(tmp_path / "again.pkl"), str(tmp_path / "doubled.pkl")]
    return paths


@pytest.fixture
def archives(tmp_path: Path) -> list[str]:
    """Archives that claim more than they are."""
    import io
    import zipfile

    content = io.BytesIO()
    torch.save({"a": torch.zeros(1000)}, content)
    plain = zipfile.ZipFile(content)
    with zipfile.ZipFile(tmp_path / "compressed.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in plain.infolist():
            archive.writestr(entry.filename, plain.read(entry) if "data/0" not in entry.filename else bytes(50 << 20))
    (tmp_path / "cut.pth").write_bytes(content.getvalue()[:-200])
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, tmp_path / "expanded.pth")
    with zipfile.ZipFile(tmp_path / "claims.pth", "w") as archive:
        for entry in plain.infolist():
            # The number of values in the pickle: 1000 becomes 2,000,000,000.
            raw = plain.read(entry)
            wide = b"J" + struct.pack("<i", 2_000_000_000)
            archive.writestr(entry.filename, raw.replace(b"M" + struct.pack("<H", 1000), wide))
    return [str(tmp_path / f"{name}.pth") for name in ("compressed", "cut", "expanded", "claims")]


def test_foreign_files_that_ask_for_more_than_they_are(pickles: list[str], archives: list[str]) -> None:
    paths = [*pickles, *archives]
    done = limited(LOAD, *paths, mib=256)
    assert done.stdout.split() == ["refused"] * len(paths), done.stdout + done.stderr


OPTIONS: list[dict[str, Any]] = [
    {"score_threshold": None}, {"score_threshold": "x"}, {"score_threshold": 10**400}, {"score_threshold": True},
    {"tile": "x"}, {"tile": float("nan")}, {"tile": [64]}, {"max_detections": 2.5}, {"max_detections": 10**400},
    {"nms": []}, {"nms": 3}, {"batch_size": "2"}, {"iou_threshold": 2j}, {"tile_overlap": object()},
    {"max_detections": 10**5000},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: f"{next(iter(options))}")
def test_wrong_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        protomask.load().predict(sample(), **options)


@pytest.mark.parametrize(
    "call",
    [
        lambda: protomask.load(device=None),  # type: ignore[call-overload]
        lambda: protomask.load(runtime="torch", device=[]),  # type: ignore[call-overload]
        lambda: protomask.load(runtime="torch", precision=[]),  # type: ignore[call-overload]
        lambda: protomask.load(runtime=[]),  # type: ignore[call-overload]
        lambda: protomask.load("yolact_nano", class_names=[1, 2]),  # type: ignore[list-item]
        lambda: protomask.load("yolact_nano", model=3),  # type: ignore[call-overload]
        lambda: protomask.build(3),  # type: ignore[arg-type]
        lambda: protomask.build(num_classes="3"),  # type: ignore[arg-type]
        lambda: protomask.build(class_names=[1]),  # type: ignore[list-item]
        lambda: protomask.check(3),  # type: ignore[arg-type]
        lambda: protomask.export("yolact_nano", 3),  # type: ignore[arg-type]
    ],
)
def test_wrong_arguments_are_named(call: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError, match=r"^\w+: expected"):
        call()


def test_numbers_of_any_kind_are_taken() -> None:
    model, image = protomask.load(), np.zeros((60, 80, 3), dtype=np.uint8)
    image[20:40, 20:60] = 200
    kinds: list[dict[str, Any]] = [
        {"score_threshold": np.float32(0), "max_detections": np.uint8(3)},
        {"score_threshold": np.array(0.0), "max_detections": torch.tensor(3)},
        {"score_threshold": torch.tensor(0.0), "max_detections": np.int64(3), "nms": np.str_("fast")},
    ]
    expected = model.predict(image, score_threshold=0.0, max_detections=3)
    for options in kinds:
        assert model.predict(image, **options).rle() == expected.rle()
    for number in (np.int64(7), np.uint8(7), np.float64(7), torch.tensor(7), np.array(7), 7.0):
        assert json.loads(json.dumps(expected.to_coco(number)))[0]["image_id"] == 7  # type: ignore[arg-type]
    assert expected.to_coco("007")[0]["image_id"] == "007"  # type: ignore[arg-type]
    for ids in (np.arange(10), torch.arange(10), [np.int64(number) for number in range(10)], range(10)):
        assert json.loads(json.dumps(expected.to_coco(1, ids))) == expected.to_coco(1, list(range(10)))  # type: ignore[arg-type]
    built = protomask.build(num_classes=np.int64(2), image_size=np.int32(64), device="cpu")  # type: ignore[arg-type]
    assert built.class_names == ("class_0", "class_1")


def test_images_of_any_memory_layout_are_taken() -> None:
    image = np.ascontiguousarray(protomask.Frame(np.asarray(Image.open(sample())), source="a").image)
    for model in (protomask.load(), protomask.load(runtime="torch", device="cpu")):
        turned = model.predict(np.ascontiguousarray(image[::-1, ::-1])).rle()
        assert model.predict(image[::-1, ::-1]).rle() == turned
        assert model.predict_images([image[::-1, ::-1]])[0].rle() == turned
        gray = np.ascontiguousarray(image[:, :, 0])
        one = model.predict(np.repeat(gray[:, :, None], 3, axis=2)).rle()
        assert model.predict(gray).rle() == model.predict(gray[:, :, None]).rle() == one
        assert model.predict_images([gray])[0].rle() == model.predict_images([gray[:, :, None]])[0].rle() == one


def test_another_default_precision_changes_nothing() -> None:
    expected = protomask.load(runtime="torch", device="cpu").predict(sample())
    former = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        found = protomask.load(runtime="torch", device="cpu").predict(sample())
        assert torch.get_default_dtype() == torch.float64
        tiny = protomask.build("yolact_nano", num_classes=2, image_size=64, device="cpu")
        assert tiny.predict(np.zeros((64, 64, 3), np.uint8)).scores.dtype == np.float32
    finally:
        torch.set_default_dtype(former)
    assert found.rle() == expected.rle()
    assert found.scores.tolist() == expected.scores.tolist()


# ---- the command line ------------------------------------------------------------------------------------------------
def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "protomask", *arguments], capture_output=True, text=True, timeout=120,
        errors="surrogateescape", env=environment, **options,
    )  # fmt: skip


def images(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        shutil.copy(sample(), folder / f"{number}{sample().suffix}")
    return folder


def test_a_postscript_file_among_images(tmp_path: Path) -> None:
    folder = images(tmp_path / "in", 2)
    shutil.copy(HERE / "postscript.jpg", folder / "1m.jpg")
    done = command("predict", str(folder), "--save-dir", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "1m.jpg: not an image, or in a format that is not read" in done.stderr
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.png")) == ["0", "1"]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-8"])
def test_names_that_the_stream_cannot_show(tmp_path: Path, encoding: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("[red]→é", "[bold]"):
        shutil.copyfile(sample(), folder / f"{name}{sample().suffix}")
    shutil.copyfile(sample(), os.fsencode(folder) + b"/\xff\xe9" + sample().suffix.encode())
    done = command(
        "predict", str(folder), "--save-dir", str(tmp_path / "out"), "--save-json", "--save-jsonl", "--save-polygons",
        "--save-label-map", "--save-table", "csv", env={"PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "3 of 3 images predicted" in done.stdout
    assert "[red]" in done.stdout
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    names = {os.fsencode(Path(json.loads(line)["file"]).stem) for line in lines}
    assert names == {"[red]→é".encode(), b"[bold]", b"\xff\xe9"}
    assert len(json.loads((tmp_path / "out" / "images.json").read_text())["images"]) == 3


def test_markup_in_a_table_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    from protomask.cli.output import print_table

    print_table(["[b]", "n"], [["[/red]", 1], ["[red]x", 2], [":smile:", 3]], title="[/]")
    shown = capsys.readouterr().out
    for text in ("[b]", "[/red]", "[red]x", ":smile:", "[/]"):
        assert text in shown


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("closing", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closing: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    script = f"'{sys.executable}' -m protomask predict '{sample()}' --save-dir '{target}' --save-json {closing}"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr
    assert json.loads((target / "predictions.json").read_text())


def begun(tmp_path: Path, *more: str) -> subprocess.Popen[str]:
    """A prediction of many images that has begun to write."""
    out = tmp_path / "out"
    argv = [sys.executable, "-m", "protomask", "predict", str(tmp_path / "in"), "--save-dir", str(out), "--save-json"]
    process = subprocess.Popen([*argv, *more], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    stop = time.monotonic() + 60
    while time.monotonic() < stop and not list(out.glob("*.png")):
        time.sleep(0.005)
    return process


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_prediction_that_is_ended_cleans_up_and_says_so(tmp_path: Path, number: signal.Signals) -> None:
    images(tmp_path / "in", 200)
    process = begun(tmp_path, "--save-table", "csv")
    process.send_signal(number)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "protomask predict: stopped" in said
    assert not list((tmp_path / "out").glob(".*"))
    assert not (tmp_path / "out" / "predictions.json").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_killed_prediction_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    images(tmp_path / "in", 60)
    process = begun(tmp_path)
    second = command("predict", str(sample()), "--save-dir", str(tmp_path / "out"))
    assert second.returncode == 2
    assert "save_dir: expected a folder that nothing else is writing" in second.stderr
    process.kill()
    process.communicate()
    assert list((tmp_path / "out").glob(".*"))
    again = command("predict", str(tmp_path / "in"), "--save-dir", str(tmp_path / "out"), "--save-json")
    assert again.returncode == 0, again.stderr
    assert not list((tmp_path / "out").glob(".*"))
    assert len(json.loads((tmp_path / "out" / "images.json").read_text())["images"]) == 60


def test_two_writers_of_json_lines(tmp_path: Path) -> None:
    from protomask.inference.sinks.lists import JsonLinesSink

    code = (
        "import sys\nfrom pathlib import Path\nfrom protomask.inference.sinks.lists import JsonLinesSink\n"
        "from protomask.errors import ProtomaskError\n"
        "try:\n    JsonLinesSink(sys.argv[1]).close(complete=True)\nexcept ProtomaskError as error:\n    print(error)\n"
    )
    first = JsonLinesSink(tmp_path)
    first._file.extend(b"{}\n")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert "predictions.jsonl: expected a file that nothing else is writing" in done.stdout
    first.close(complete=True)
    assert (tmp_path / "predictions.jsonl").read_text() == "{}\n"
