"""Build the documentation into var/docs, and fail on a broken link, an unlisted page or anything loaded from elsewhere.

make docs
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "var/docs"
LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
"""Attributes whose address a browser loads by itself."""
BESIDE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "data/README.md")
"""Pages that GitHub shows, and the site does not."""
NOT_LOADED = {"canonical", "next", "prev", "alternate"}


def main() -> int:
    """Build and check; returns the exit status."""
    config = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    faults = list(unlisted_pages(ROOT / config["docs_dir"], config["nav"]))
    for name in BESIDE:
        faults += markdown_faults(ROOT / name)
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    built = subprocess.run(command, cwd=ROOT, check=False)
    if built.returncode:
        faults.append("zensical reports problems; see above")
    else:
        faults += site_faults(SITE)
    for fault in faults:
        print(fault, file=sys.stderr)  # noqa: T201
    if not faults:
        print(f"The documentation is in {SITE.relative_to(ROOT)}/index.html")  # noqa: T201
    return 1 if faults else 0


def unlisted_pages(folder: Path, nav: list[Any]) -> Iterator[str]:
    """Pages that the navigation does not list, and entries of the navigation without a page."""
    pages = {str(page.relative_to(folder)) for kind in ("*.md", "*.html") for page in folder.rglob(kind)}
    listed = set(listed_pages(nav))
    yield from (f"{page} is not in the navigation of zensical.toml" for page in sorted(pages - listed))
    yield from (f"{page} is in the navigation of zensical.toml and does not exist" for page in sorted(listed - pages))


def listed_pages(nav: list[Any]) -> Iterator[str]:
    """The pages of a navigation, at any depth."""
    for entry in nav:
        for target in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(target, list):
                yield from listed_pages(target)
            else:
                yield target


def markdown_faults(file: Path) -> Iterator[str]:
    """Relative links of a Markdown file that lead to no file, or to no section of a Markdown file."""
    for address in re.findall(r"\]\(([^)\s]+)\)", file.read_text()):
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = file.parent / unquote(parts.path) if parts.path else file
        if not target.exists():
            yield f"{file.name} links to {address}, which does not exist"
        elif parts.fragment and target.suffix == ".md" and parts.fragment not in sections(target):
            yield f"{file.name} links to {address}, which has no such section"


def sections(file: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a Markdown file."""
    headings = re.findall(r"^#+ +(.+?) *$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def site_faults(site: Path) -> Iterator[str]:
    """Links that lead nowhere, and addresses that a browser would load from another site."""
    pages = {page: _Page(page.read_text()) for page in site.rglob("*.html") if page.name != "404.html"}
    for page, content in pages.items():
        where = page.relative_to(site)
        for address in content.loaded:
            if urlsplit(address).netloc:
                yield f"{where} loads {address} from another site"
        for address in (*content.loaded, *content.links):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                yield f"{where} links to {address}, which does not exist"
            elif parts.fragment and target in pages and parts.fragment not in pages[target].anchors:
                yield f"{where} links to {address}, which has no such section"
    for style in site.rglob("*.css"):
        for address in re.findall(r"url\(\s*['\"]?(https?://[^)'\"]+)", style.read_text()):
            yield f"{style.relative_to(site)} loads {address} from another site"


class _Page(HTMLParser):
    """The addresses and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.anchors |= {attributes[name] for name in ("id", "name") if name in attributes}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        for name, value in attributes.items():
            if (tag, name) in LOADED and value and attributes.get("rel") not in NOT_LOADED:
                self.loaded.append(value)


if __name__ == "__main__":
    sys.exit(main())
