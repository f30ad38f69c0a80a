"""The folder of a page that runs in the browser."""

from __future__ import annotations

import io
import json
import re
import tarfile
from importlib.resources import files
from pathlib import Path

import pytest

from protomask.errors import CheckpointError, ConfigError
from protomask.runtimes.shipped import SAMPLES
from protomask.serve.site import RUNTIME_FILES, RUNTIME_PACKAGE, WEBGPU_FILES, write_site

NANO = Path(str(files("protomask"))) / "weights" / "yolact_nano.onnx"
NUCLEI = NANO.with_name("nuclei.onnx")


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """Stands for the unpacked npm package."""
    folder = tmp_path / "package" / "dist"
    folder.mkdir(parents=True)
    for name in (*RUNTIME_FILES, *WEBGPU_FILES, "unused.map"):
        (folder / name).write_text(name)
    return folder.parent


def test_a_site_has_all_that_it_names(runtime: Path, tmp_path: Path) -> None:
    folder = write_site(tmp_path / "out" / "site", {"yolact_nano": NANO, "nuclei": NUCLEI}, runtime=runtime)
    linked = re.findall(r'(?:href|src)="([^"]+)"', (folder / "index.html").read_text())
    content = json.loads((folder / "page" / "site.json").read_text())
    assert content["backend"] == "local"
    assert content["webgpu"] is True
    named = [*linked, *content["samples"], *(model["file"] for model in content["models"])]
    assert all((folder / name).is_file() for name in named)
    assert {path.name for path in (folder / "samples").iterdir()} == {path.name for path in SAMPLES.glob("scene_*.jpg")}
    assert (folder / "models" / "nuclei.onnx").read_bytes() == NUCLEI.read_bytes()
    assert sorted(path.name for path in (folder / "runtime").iterdir()) == sorted((*RUNTIME_FILES, *WEBGPU_FILES))
    assert [path.name for path in folder.parent.iterdir()] == ["site"]


def test_the_page_knows_the_rule_of_a_model(runtime: Path, tmp_path: Path) -> None:
    folder = write_site(tmp_path / "site", {"nuclei": NUCLEI}, runtime=runtime)
    content = json.loads((folder / "page" / "site.json").read_text())
    info = content["models"][0]["info"]
    assert (info["form"], info["class_names"], info["rule"]["max_detections"]) == ("candidates", ["nucleus"], 400)
    assert info["input"] == {"kind": "fixed", "size": [960, 960], "method": "pillow", "any_size": False}
    assert info["rule"]["edges"] == "pixels"
    assert content["samples"] == []  # it knows nothing in them


def test_samples_of_ones_own_and_an_older_site(runtime: Path, tmp_path: Path) -> None:
    samples = [tmp_path / name for name in ("a.jpg", "b.tif", "other/a.jpg")]
    samples[2].parent.mkdir()
    for path in samples:
        path.write_bytes(b"image")
    write_site(tmp_path / "site", {"yolact_nano": NANO}, runtime=runtime)
    write_site(tmp_path / "site", {"nuclei": NUCLEI}, runtime=runtime, samples=samples)
    content = json.loads((tmp_path / "site" / "page" / "site.json").read_text())
    assert content["samples"] == ["samples/a.jpg", "samples/1_a.jpg"]
    assert [path.name for path in (tmp_path / "site" / "models").iterdir()] == ["nuclei.onnx"]


def test_a_packed_runtime_without_webgpu(runtime: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "runtime.tgz", "w:gz") as archive:
        for name in RUNTIME_FILES:
            member = tarfile.TarInfo(f"package/dist/{name}")
            archive.addfile(member, io.BytesIO(b""))
    folder = write_site(tmp_path / "site", {"yolact_nano": NANO}, runtime=tmp_path / "runtime.tgz")
    assert json.loads((folder / "page" / "site.json").read_text())["webgpu"] is False
    assert sorted(path.name for path in (folder / "runtime").iterdir()) == sorted(RUNTIME_FILES)


def test_npm_brings_the_runtime_once(runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "ready.tgz", "w:gz") as archive:
        archive.add(runtime, "package")
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f'#!/bin/sh\n[ "$1 $2" = "pack {RUNTIME_PACKAGE}" ] && cp {tmp_path}/ready.tgz got.tgz\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_site(tmp_path / "site", {"yolact_nano": NANO})
    npm.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    write_site(tmp_path / "again", {"yolact_nano": NANO})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    with pytest.raises(ConfigError, match=rf"runtime_files: npm could not fetch {RUNTIME_PACKAGE} \(no network\)"):
        write_site(tmp_path / "third", {"yolact_nano": NANO})
    assert not (tmp_path / "third").exists()


def test_without_npm_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match=rf"runtime_files: .*npm pack {RUNTIME_PACKAGE}.* as runtime_files"):
        write_site(tmp_path / "site", {"yolact_nano": NANO})


def test_what_cannot_be_used_is_refused(runtime: Path, tmp_path: Path) -> None:
    models = {"yolact_nano": NANO}
    with pytest.raises(ConfigError, match="output: expected a new or empty folder"):
        write_site(runtime, models, runtime=runtime)
    with pytest.raises(ConfigError, match=r"runtime_files: expected the npm package"):
        write_site(tmp_path / "site", models, runtime=tmp_path / "bin")
    (tmp_path / "damaged.tgz").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"runtime_files: .*damaged\.tgz cannot be unpacked"):
        write_site(tmp_path / "site", models, runtime=tmp_path / "damaged.tgz")
    with pytest.raises(CheckpointError, match=r"damaged\.tgz"):
        write_site(tmp_path / "site", {"damaged": tmp_path / "damaged.tgz"}, runtime=runtime)
    assert not (tmp_path / "site").exists()
