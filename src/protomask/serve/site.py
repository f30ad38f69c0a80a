"""The page as a static site that runs exported models in the browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError, DataError
from protomask.runtimes.info import ExportInfo
from protomask.runtimes.onnx import read_info
from protomask.runtimes.shipped import sample_images

PAGE = Path(str(files("protomask.serve"))) / "page"
"""Folder of the page: plain HTML, CSS and JavaScript."""
RUNTIME_PACKAGE = "onnxruntime-web@1.30.0"
"""What runs ONNX files in browsers: an npm package under the MIT licence."""
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
WEBGPU_FILES = ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
_SITE = "page/site.json"
_SHOWN = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")
_MOST_SAMPLES = 12


def write_site(
    folder: str | Path, models: Mapping[str, Path], *, runtime: str | Path | None = None, samples: Sequence[Path] = ()
) -> Path:
    """Write a folder that any static host can serve: the page, models and what runs them in the browser.

    Args:
        folder: to write; an older site in it is replaced.
        models: exported .onnx files by name; the first is the default.
        runtime: folder or .tgz of the npm package `RUNTIME_PACKAGE`; by default npm brings it, once.
        samples: images that the page offers; only what browsers can show, up to twelve. Where none are given, the
            sample images of the package in which the first model knows something.

    Returns:
        The folder.

    Raises:
        ConfigError: the folder has something else in it, the runtime is missing, or a file cannot run in the page.
        CheckpointError: a model is not a file of `protomask export`.
        DataError: the folder cannot be written.

    """
    folder = Path(folder)
    check_folder(folder)
    known = {name: _metadata(path) for name, path in models.items()}
    shown = [path for path in samples if path.suffix.lower() in _SHOWN][:_MOST_SAMPLES]
    if not samples:
        shown = sample_images(next(iter(known.values()))["class_names"])
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            site = Path(temporary) / "site"
            shutil.copytree(PAGE, site / "page")
            (site / "page" / "index.html").rename(site / "index.html")
            has_webgpu = _copy_runtime(runtime, Path(temporary), site / "runtime")
            content = {
                "backend": "local",
                "webgpu": has_webgpu,
                "models": [{"name": name, "file": f"models/{name}.onnx", "info": info} for name, info in known.items()],
                "samples": _copy_samples(shown, site / "samples"),
            }
            (site / "models").mkdir()
            for name, path in models.items():
                shutil.copyfile(path, site / "models" / f"{name}.onnx")
            (site / _SITE).write_text(json.dumps(content, indent=1), encoding="utf-8")
            if folder.exists():
                shutil.rmtree(folder)
            site.rename(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error}") from error
    return folder


def check_folder(folder: Path) -> None:
    """Check that a site may be written.

    Raises:
        ConfigError: there is something else.

    """
    if folder.exists() and not (folder / _SITE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"output: expected a new or empty folder, or an older site, got {folder}")


def _metadata(path: Path) -> dict[str, Any]:
    """What the page must know of a file, with every default settled."""
    info = read_info(path)
    rule = None if info.rule is None else info.rule.settle(PredictOptions())
    plain = {"overlap": "box_iou", "crop": "box", "crop_margin": 0.0}
    for name, value in plain.items() if rule is not None else ():
        if getattr(rule, name) != value:
            raise ConfigError(f"{name}: expected {value} for a page, {path} has {getattr(rule, name)}")
    values: dict[str, Any] = json.loads(ExportInfo.to_json(info.replace(rule=rule)))
    wanted = (
        "form", "class_names", "input", "mask_frame", "mask_paste", "rule", "calibration", "model", "licence",
    )  # fmt: skip
    return {name: values[name] for name in wanted}


def _copy_samples(samples: Sequence[Path], folder: Path) -> list[str]:
    folder.mkdir()
    names = []
    for index, path in enumerate(samples):
        name = path.name if path.name not in names else f"{index}_{path.name}"
        shutil.copyfile(path, folder / name)
        names.append(name)
    return [f"samples/{name}" for name in names]


def _copy_runtime(given: str | Path | None, temporary: Path, folder: Path) -> bool:
    """Copy what runs the models; whether it can use WebGPU."""
    source = Path(given) if given is not None else _fetch_runtime()
    if source.is_file():
        source = _unpacked(source, temporary / "unpacked")
    places = [source, source / "dist", source / "package" / "dist", source / "onnxruntime-web" / "dist"]
    place = next((place for place in places if all((place / name).is_file() for name in RUNTIME_FILES)), None)
    if place is None:
        raise ConfigError(
            f"runtime_files: expected the npm package {RUNTIME_PACKAGE}, as a folder or .tgz, with "
            f"{', '.join(RUNTIME_FILES)}; got {source if given is None else given}"
        )
    folder.mkdir()
    has_webgpu = all((place / name).is_file() for name in WEBGPU_FILES)
    for name in (*RUNTIME_FILES, *(WEBGPU_FILES if has_webgpu else ())):
        shutil.copyfile(place / name, folder / name)
    return has_webgpu


def _unpacked(archive: Path, folder: Path) -> Path:
    folder.mkdir()
    try:
        with tarfile.open(archive) as opened:
            wanted = {*RUNTIME_FILES, *WEBGPU_FILES}
            for member in opened:
                content = opened.extractfile(member) if Path(member.name).name in wanted else None
                if content is not None:
                    (folder / Path(member.name).name).write_bytes(content.read())
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ConfigError(f"runtime_files: {archive} cannot be unpacked: {error}") from error
    return folder


def _fetch_runtime() -> Path:
    """The package, as npm brings it; kept for the next time."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "protomask"
    archive = home / f"{RUNTIME_PACKAGE.replace('@', '-')}.tgz"
    if archive.is_file():
        return archive
    npm = shutil.which("npm")
    todo = f"fetch it where npm is (npm pack {RUNTIME_PACKAGE}) and give the .tgz as runtime_files"
    if npm is None:
        raise ConfigError(f"runtime_files: a page needs {RUNTIME_PACKAGE}, and there is no npm here; {todo}")
    home.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=home) as folder:
        done = subprocess.run(
            [npm, "pack", RUNTIME_PACKAGE, "-s"], cwd=folder, capture_output=True, text=True, check=False
        )
        fetched = next(Path(folder).glob("*.tgz"), None)
        if done.returncode or fetched is None:
            said = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ConfigError(f"runtime_files: npm could not fetch {RUNTIME_PACKAGE} ({said}); {todo}")
        fetched.replace(archive)
    return archive
