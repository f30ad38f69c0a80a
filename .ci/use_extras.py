"""Use the installed package, and each extra that is named: run by try_install.py inside a fresh environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from importlib.resources import files
from pathlib import Path

import protomask

SCENE = str(files("protomask") / "samples" / "scene_1.jpg")
PHOTO = str(files("protomask") / "samples" / "photo_1.jpg")
COMMAND = str(Path(sys.executable).with_name("protomask"))
SHAPES = "shapes"  # what finds something in the scene
SHORT = ["--iterations", "2", "--image-size", "128", "--batch-size", "2", "--num-workers", "0"]


def run(*arguments: str) -> None:
    """A command of the package, which must succeed."""
    subprocess.run([COMMAND, *arguments], check=True, stdout=subprocess.DEVNULL)


def use_light() -> None:
    run("--version")
    run("demo", "--save-dir", "demo")
    run("predict", PHOTO, "--save-dir", "found", "--save-json", "--save-table", "csv")
    assert len(protomask.load(SHAPES).predict(SCENE)) > 2
    assert len(protomask.load().predict(PHOTO)) > 0
    try:
        protomask.load("yolact_resnet50")
    except protomask.ProtomaskError as error:  # no PyTorch, or no network
        print(f"  {type(error).__name__}: {str(error).splitlines()[0]}")


def use_serve() -> None:
    server = subprocess.Popen([COMMAND, "serve", SHAPES, "--port", "8931"], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            time.sleep(0.5)
            try:
                with urllib.request.urlopen("http://127.0.0.1:8931/", timeout=5) as answer:
                    assert answer.status == 200
                return
            except OSError:
                assert server.poll() is None
        raise AssertionError("the server never answered")
    finally:
        server.terminate()
        server.wait(120)


def use_supervision() -> None:
    found = protomask.load(SHAPES).predict(SCENE)
    assert len(found.to_supervision()) == len(found)


def use_tables() -> None:
    run("predict", PHOTO, "--save-dir", "table", "--save-table", "parquet")
    run("bulk", PHOTO, "--output", "bulk", "--workers", "1")


def use_pandas() -> None:
    found = protomask.load(SHAPES).predict(SCENE)
    assert len(found.to_pandas()) == len(found)


def use_video() -> None:
    import av

    with av.open("scene.mp4", "w") as output:
        stream = output.add_stream("libx264", rate=5)
        stream.width = stream.height = 384
        stream.pix_fmt = "yuv420p"
        from PIL import Image

        frame = av.VideoFrame.from_image(Image.open(SCENE))
        for number in range(3):
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    run("track", "scene.mp4", "--model", SHAPES, "--save-dir", "tracked")


def use_trackers() -> None:
    from protomask.inference.tracking.build import build_tracker

    found = protomask.load(SHAPES).predict(SCENE)
    for name in ("bytetrack", "ocsort", "botsort"):
        build_tracker(name).update(found, 0.0)


def use_openvino() -> None:
    found = protomask.load(SHAPES, runtime="openvino").predict(SCENE)
    assert len(found) == len(protomask.load(SHAPES).predict(SCENE))


def use_torch() -> None:
    run("data", "synth", "shapes", "--images", "4", "--val-images", "3", "--height", "128", "--width", "128")
    run("train", "--data", "shapes", "--weights", SHAPES, "--output", "runs/mine", *SHORT)
    run("eval", "--data", "shapes", "--model", "runs/mine", "--num-workers", "0")
    run("explain", SCENE, "--model", SHAPES, "--output", "why")


def use_onnx() -> None:
    use_torch()
    run("export", "runs/mine/best.safetensors", "--format", "onnx", "--output", "exported.onnx")
    run("predict", SCENE, "--model", "exported.onnx", "--save-dir", "exported")


def use_tutorial() -> None:
    Path("tutorial").mkdir()
    subprocess.run([sys.executable, str(Path(__file__).with_name("follow_tutorial.py"))], check=True, cwd="tutorial")


def use_int8() -> None:
    run("export", SHAPES, "--format", "openvino", "--int8", "--calibration", "shapes/images/train",
        "--images", "shapes/images/val", "--output", "int8.xml")  # fmt: skip


def use_timm() -> None:
    protomask.build(SHAPES, num_classes=2, backbone="timm:resnet18", pretrained_backbone=False)


def use_executorch() -> None:
    run("export", SHAPES, "--format", "executorch", "--output", "shapes.pte")
    run("predict", SCENE, "--model", "shapes.pte", "--save-dir", "on-executorch")


def use_ncnn() -> None:
    run("export", SHAPES, "--format", "ncnn", "--form", "candidates", "--output", "shapes.ncnn.param")
    run("predict", SCENE, "--model", "shapes.ncnn.param", "--save-dir", "on-ncnn")


def use_litert() -> None:
    from ai_edge_litert.interpreter import Interpreter

    assert Interpreter  # what writes its files, litert-torch, has an environment of its own


def use_sbd() -> None:
    import scipy.io

    assert scipy.io.loadmat


def use_tune() -> None:
    run("tune", "--data", "shapes", "--weights", SHAPES, "--trials", "1", "--output", "runs/tune", *SHORT)


def use_ray() -> None:
    run("bulk", PHOTO, "--output", "on-ray", "--engine", "ray", "--workers", "1")


def use_trackers_of_runs(name: str) -> None:
    os.environ.setdefault("WANDB_MODE", "offline")  # there is no account here
    if not Path("shapes").is_dir():
        use_torch()
    run("train", "--data", "shapes", "--weights", SHAPES, "--output", f"runs/{name}", "--trackers", f"[{name}]", *SHORT)


def main() -> int:
    shutil.rmtree("work", ignore_errors=True)
    use_light()
    for extra in sys.argv[1:]:
        if extra in ("wandb", "mlflow", "trackio"):
            use_trackers_of_runs(extra)
        else:
            globals()[f"use_{extra}"]()
        print(f"  {extra}: used", flush=True)
    if {"onnx", "openvino"} <= set(sys.argv[1:]):
        use_tutorial()
        print("  tutorial: followed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
