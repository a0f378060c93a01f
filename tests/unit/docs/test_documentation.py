"""The documentation builds, its links lead somewhere, it loads nothing from elsewhere, and its reference is current."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support.basics import ROOT


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = load("build")


def test_the_documentation_builds() -> None:
    """No broken link, no unlisted page, nothing loaded from another site."""
    built = subprocess.run([sys.executable, "docs/build.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr


def test_the_reference_is_current() -> None:
    """Settings, commands, policy and ledger are documented as the code defines them."""
    checked = subprocess.run(
        [sys.executable, "docs/reference.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ('<a href="gone.html">x</a>', "gone.html, which does not exist"),
        ('<a href="other.html#gone">x</a>', "no such section"),
        ('<script src="https://cdn.example/x.js"></script>', "from another site"),
        ('<link rel="stylesheet" href="https://fonts.example/x.css">', "from another site"),
        ('<img src="https://images.example/x.png">', "from another site"),
        ('<a href="https://example.com">x</a><a href="other.html#here">y</a>', ""),
    ],
)
def test_a_fault_of_a_page_is_found(tmp_path: Path, page: str, fault: str) -> None:
    """Each kind of fault is reported, and a page without any is not."""
    (tmp_path / "index.html").write_text(page)
    (tmp_path / "other.html").write_text('<h2 id="here">Here</h2>')
    faults = list(BUILD.site_faults(tmp_path))
    assert len(faults) == bool(fault)
    assert all(fault in message for message in faults)


def test_a_page_outside_the_navigation_is_found(tmp_path: Path) -> None:
    """A page that nobody can reach is an error, and so is an entry without a page."""
    (tmp_path / "index.md").write_text("# Index")
    (tmp_path / "lost.md").write_text("# Lost")
    (tmp_path / "orphan.html").write_text("<p>Lost</p>")
    nav = [{"Index": "index.md"}, {"More": [{"Gone": "gone.md"}]}]
    assert [fault.split()[0] for fault in BUILD.unlisted_pages(tmp_path, nav)] == ["lost.md", "orphan.html", "gone.md"]


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("gone.md", "which does not exist"),
        ("other.md#gone", "which has no such section"),
        ("#gone", "which has no such section"),
        ("other.md#a-real-section", ""),
        ("#here", ""),
        ("https://example.com/gone", ""),
    ],
)
def test_a_broken_link_beside_the_site_is_found(tmp_path: Path, link: str, fault: str) -> None:
    """README and CONTRIBUTING are no pages of the site, and their links are checked too."""
    (tmp_path / "README.md").write_text(f"# Here\n\n[x]({link})\n")
    (tmp_path / "other.md").write_text("## A *real* section\n")
    faults = list(BUILD.markdown_faults(tmp_path / "README.md"))
    assert len(faults) == bool(fault)
    assert all(fault in message for message in faults)


@pytest.mark.parametrize("name", BUILD.BESIDE)
def test_the_pages_beside_the_site_have_no_broken_link(name: str) -> None:
    """Neither to a file nor to a section."""
    assert list(BUILD.markdown_faults(ROOT / name)) == []


def test_the_readme_is_short_and_its_links_work() -> None:
    """At most 130 lines, two commands, one screenshot, and every relative link leads to a file."""
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 130
    assert "make run" in text
    assert "make test" in text
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_a_column_of_the_ledger_without_a_meaning_stops_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash in the table helps nobody."""
    for name in ("TERMINAL_WIDTH", "CHURN_BUCKET_SALT"):  # the script sets both, and they are restored after the test
        monkeypatch.setenv(name, "100")
    reference = load("reference")
    monkeypatch.setattr(reference.metadata.tables["batches"].c.state, "doc", None)
    with pytest.raises(ValueError, match=r"batches\.state has no meaning"):
        reference.ledger_page()
