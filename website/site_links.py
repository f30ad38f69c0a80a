"""Follow every internal link of the built site: to a page, a picture, a script, or an anchor on a page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """Links of a page, and the anchors that others can link to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value or "")


def broken_links(site: Path) -> list[str]:
    """A line for each internal link that leads nowhere: page, and link."""
    pages: dict[Path, _Page] = {}
    for file in sorted(site.rglob("*.html")):
        pages[file] = _Page()
        pages[file].feed(file.read_text(encoding="utf-8"))
    broken = []
    for file, page in pages.items():
        if file.name == "404.html":  # its links start at the address of the site
            continue
        for link in dict.fromkeys(page.links):
            address = urlsplit(link)
            if address.scheme or address.netloc or link == ".":
                continue
            path = unquote(address.path)
            target = (site / path.lstrip("/") if path.startswith("/") else file.parent / path) if path else file
            target = (target / "index.html" if target.is_dir() else target).resolve()
            anchor = unquote(address.fragment)
            is_missing = not target.is_file()
            if is_missing or (anchor and target in pages and anchor not in pages[target].anchors | {"__tabbed_1_1"}):
                broken.append(f"{file.relative_to(site)}: {link}")
    return broken
