"""Build the documentation site into build/site: write what is generated, let Zensical build it, follow all links.

    python website/build_site.py
    python website/build_site.py --version 0.2 --versions build/versions

Warnings are errors. `python -m http.server --directory build/site` then serves it. The second command also puts the
site into a folder of all versions, which is what gets published.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

import site_cli
import site_notebooks
import site_versions
from site_links import broken_links

REPOSITORY = Path(__file__).resolve().parents[1]
BUILD = REPOSITORY / "build"
SITE = BUILD / "site"
FROM_THE_ROOT = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Pages that stand beside the README, where people look for them."""


def stage() -> Path:
    """Put together the pages as written and those that are generated; returns their folder."""
    docs = BUILD / "docs"
    shutil.rmtree(docs, ignore_errors=True)
    shutil.copytree(REPOSITORY / "docs", docs)
    for name, staged in FROM_THE_ROOT.items():
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        (docs / staged).write_text(text.replace("](docs/", "]("), encoding="utf-8")
    for page in docs.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(_within_the_site(text), encoding="utf-8")
    return docs


def _within_the_site(text: str) -> str:
    """Links to pages of the root lead to their copies; files of the repository are named only."""
    for name, staged in FROM_THE_ROOT.items():
        text = text.replace(f"](../{name}", f"]({staged}")
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)+(?:docker|src|tests|benchmarks|LICENSE)[^)]*\)", r"\1", text)


def configure(pages: list[str], *, is_versioned: bool) -> Path:
    """The configuration with the generated pages in its navigation; the menu of versions only where there are any."""
    text = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    found = re.search(r"^( *)- Command line: GENERATED\n", text, flags=re.MULTILINE)
    assert found is not None
    lines = [f"{found[1]}- Command line:\n", *(f"{found[1]}    - {page}\n" for page in pages)]
    text = text.replace(found[0], "".join(lines)).replace("[src]", "[../src]").replace(": build/", ": ")
    if not is_versioned:
        text = text.replace("  version: {provider: mike}\n", "")
    configured = BUILD / "mkdocs.yml"
    configured.write_text(text, encoding="utf-8")
    return configured


def build(*, is_versioned: bool = False) -> list[str]:
    """Build the site; returns its broken links.

    Raises:
        subprocess.CalledProcessError: Zensical warned of something, and has said of what.

    """
    docs = stage()
    site_notebooks.write_pages(docs)
    configuration = configure(site_cli.write_pages(docs), is_versioned=is_versioned)
    shutil.rmtree(SITE, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "--config-file", str(configuration)]
    subprocess.run(command, cwd=BUILD, check=True)
    return broken_links(SITE)


def main() -> int:
    """Build and check; returns the exit code."""
    parser = argparse.ArgumentParser(description="Build and check the documentation site.")
    parser.add_argument("--version", help="version that the menu of versions shows, such as 0.2")
    parser.add_argument("--versions", type=Path, help="folder of all versions, where this one is put")
    options = parser.parse_args()
    if (options.version is None) != (options.versions is None):
        parser.error("--version and --versions go together")
    try:
        broken = build(is_versioned=options.version is not None)
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    print("\n".join([*broken, f"{len(list(SITE.rglob('*.html')))} pages, {len(broken)} broken links"]))
    if not broken and options.version is not None:
        site_versions.add_version(SITE, options.versions, options.version)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
