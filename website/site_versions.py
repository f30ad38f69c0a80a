"""Put a built site beside its earlier versions, in the layout whose menu of versions the theme shows.

The folder holds one folder for each version, ``versions.json``, which the menu reads, and ``index.html``, which leads
to the latest one.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

LATEST = "latest"


def add_version(site: Path, versions: Path, version: str) -> list[dict[str, Any]]:
    """Copy a site into the folder of versions, in the place of an earlier build of the same one.

    Returns:
        what ``versions.json`` says: a version, its title and aliases in each entry, the latest first.

    Raises:
        ValueError: the version is not one like 0.2 or 0.2.1.

    """
    if not re.fullmatch(r"\d+(\.\d+)+", version):
        raise ValueError(f"version: expected numbers such as 0.2, got {version!r}")
    versions.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(versions / version, ignore_errors=True)
    shutil.copytree(site, versions / version)
    listing = versions / "versions.json"
    known = {entry["version"] for entry in json.loads(listing.read_text())} if listing.is_file() else set()
    ordered = sorted(known | {version}, key=_numbers, reverse=True)
    entries = [{"version": one, "title": one, "aliases": [LATEST] if one == ordered[0] else []} for one in ordered]
    listing.write_text(json.dumps(entries, indent=2) + "\n")
    target = f"{ordered[0]}/"
    (versions / "index.html").write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>protomask</title>'
        f'<meta http-equiv="refresh" content="0; url={target}"><a href="{target}">protomask {ordered[0]}</a></html>\n'
    )
    return entries


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
