"""Look at the built wheel and sdist: what is in them, how large they are, what their metadata says.

python .ci/check_package.py dist --tag v0.2.0
"""

from __future__ import annotations

import argparse
import re
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 100_000_000
"""Bytes of a file that a package index takes."""
NEEDED = (
    "protomask/__init__.py", "protomask/py.typed", "protomask/weights/everyday.onnx",
    "protomask/weights/everyday.safetensors", "protomask/weights/yolact_nano.onnx",
    "protomask/weights/yolact_nano.safetensors", "protomask/weights/nuclei.onnx",
    "protomask/weights/nuclei.safetensors", "protomask/weights/shapes.onnx", "protomask/weights/shapes.safetensors",
    "protomask/weights/NOTICE", "protomask/weights/LICENSE-APACHE-2.0", "protomask/samples/photo_1.jpg",
    "protomask/samples/scene_1.jpg", "protomask/samples/CREDITS.md",
    "protomask/serve/page/index.html", "protomask/recipes/modern.yaml",
)  # fmt: skip


def faults_of_wheel(path: Path, version: str) -> list[str]:
    """What is wrong with the wheel."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        info = f"protomask-{version}.dist-info"
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
    faults = [f"{name} is missing" for name in (*NEEDED, f"{info}/licenses/LICENSE") if name not in names]
    faults += [f"{name} does not belong here" for name in names if not name.startswith(("protomask/", f"{info}/"))]
    faults += [f"{name} does not belong here" for name in names if "__pycache__" in name]
    expected = {"Name": "protomask", "Version": version, "License-Expression": "MIT", "Requires-Python": ">=3.11"}
    for link in re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", str(metadata.get_payload())):
        faults.append(f"README: an index cannot follow the link {link}")
    faults += [
        f"{key}: expected {value}, got {metadata[key]}" for key, value in expected.items() if metadata[key] != value
    ]
    unbound = [
        one for one in metadata.get_all("Requires-Dist", []) if ">=" not in one and not one.startswith("protomask")
    ]
    faults += [f"{one}: has no lower bound" for one in unbound if not one.startswith(("matplotlib",))]
    return faults


def faults_of_sdist(path: Path, version: str) -> list[str]:
    """What is wrong with the source archive."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = ("PKG-INFO", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "src/protomask/__init__.py")
    faults = [f"{name} is missing" for name in (*needed, "tests/conftest.py", "docs/index.md") if name not in names]
    return faults + [
        f"{name} does not belong here" for name in names if re.search(r"(^|/)(__pycache__|\.venv|build|runs)/", name)
    ]


def main() -> int:
    """Check both files; 1 if something is wrong."""
    parser = argparse.ArgumentParser(description="Check the built wheel and sdist.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tag", help="the tag of the release, which must be the version")
    options = parser.parse_args()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    wheel = options.folder / f"protomask-{version}-py3-none-any.whl"
    sdist = options.folder / f"protomask-{version}.tar.gz"
    faults = [f"tag: expected v{version}, got {options.tag}"] if options.tag not in (None, f"v{version}") else []
    for path, look in ((wheel, faults_of_wheel), (sdist, faults_of_sdist)):
        if not path.is_file():
            faults.append(f"{path} is missing")
            continue
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
        faults += [f"{path.name}: {fault}" for fault in look(path, version)]
        if path.stat().st_size > LARGEST:
            faults.append(f"{path.name}: larger than {LARGEST / 1e6:.0f} MB")
    if f"## [{version}] - 20" not in (ROOT / "CHANGELOG.md").read_text():
        faults.append(f"CHANGELOG.md: expected a dated section of {version}")
    if f"version: {version}\n" not in (ROOT / "CITATION.cff").read_text():
        faults.append(f"CITATION.cff: expected version {version}")
    print("\n".join(faults) or "nothing is wrong")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
