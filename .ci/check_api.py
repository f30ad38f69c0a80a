"""Compare the documented Python API with that of the last release, by griffe: what would break callers?

    python .ci/check_api.py
    python .ci/check_api.py --against v0.2.0

Before 1.0 a new minor version may break; then the changes are printed, for the changelog. A patch version may not.
Without a tag there is nothing to compare with.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[1]


def documented() -> set[str]:
    """Dotted names that the reference documents."""
    pages = (ROOT / "docs" / "reference").glob("*.md")
    return {name for page in pages for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), flags=re.MULTILINE)}


def last_tag() -> str | None:
    """The newest release that this commit builds on."""
    command = ["git", "-c", f"safe.directory={ROOT}", "describe", "--tags", "--match", "v*", "--abbrev=0", "HEAD"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def breakages(reference: str, names: set[str]) -> list[str]:
    """A line for each change that breaks callers of what was documented."""
    old = griffe.load_git("protomask", ref=reference, repo=ROOT, search_paths=["src"], resolve_aliases=False)
    new = griffe.load("protomask", search_paths=[str(ROOT / "src")], resolve_aliases=False)
    found = []
    for change in griffe.find_breaking_changes(old, new):
        path = change.obj.path
        if any(path == name or path.startswith(f"{name}.") or name.startswith(f"{path}.") for name in names):
            found.append(change.explain(griffe.ExplanationStyle.ONE_LINE))
    return found


def main() -> int:
    """Print what breaks; 1 if it may not."""
    parser = argparse.ArgumentParser(description="Compare the documented API with that of the last release.")
    parser.add_argument("--against", help="tag or commit; the last tag by default")
    reference = parser.parse_args().against or last_tag()
    if reference is None:
        print("no release yet: nothing to compare with")
        return 0
    found = breakages(reference, documented())
    print("\n".join(found) or f"nothing that is documented breaks against {reference}")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    is_patch = reference.removeprefix("v").split(".")[:2] == version.split(".")[:2]
    return 1 if found and is_patch else 0


if __name__ == "__main__":
    sys.exit(main())
