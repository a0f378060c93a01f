"""Take the pictures of the review that the README shows: a copy of the project goes through the tour, and a real browser looks at it.

Some four minutes. Two nights of the sample that promote, a third that is held, a file that is rejected, and a rollback.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from rich.console import Console

from browsers import NARROW, Visit, logged_in
from checkouts import Checkout, make_checkout
from support import ROOT

FOLDER = ROOT / "docs" / "images"
COLOURS = 64
WINDOW = (1180, 800)


def main() -> int:
    """Run the tour, take the pictures, end the services."""
    console = Console()
    with tempfile.TemporaryDirectory(prefix="churn-tour-") as folder:
        checkout = make_checkout(Path(folder))
        try:
            said = _tour(checkout, console)
            user, password = re.findall(r"user (\S+), password (\S+)", said)[0]
            with logged_in(checkout.airflow, user, password) as visit:
                _look(visit, checkout)
        finally:
            checkout.churn("embedded", "stop")
    for file in sorted(FOLDER.glob("review*.png")):
        console.print(f"{file.relative_to(ROOT)} ({file.stat().st_size / 1000:.0f} kB)")
    return 0


def _tour(checkout: Checkout, console: Console) -> str:
    """The five scenes of the README; what the first command said."""
    bad = checkout.folder / "mixed-up.csv"
    bad.write_text((checkout.folder / "data/sample/night-3.csv").read_text().replace("France", "Atlantis"))
    said = ""
    for words, arguments in (
        ("two nights that promote", ["embedded", "run"]),
        ("a night that is held", ["embedded", "run"]),
        ("a bad file", ["embedded", "run", "--data", str(bad), "--nights", "1"]),
        ("a rollback", ["rollback", "--reason", "Complaints from branches in Spain are looked into."]),
    ):
        console.print(f"The tour: {words}.")
        done = checkout.churn(*arguments)
        said = said or done.stdout
        if done.returncode and words != "a bad file":
            raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return said


def _look(visit: Visit, checkout: Checkout) -> None:
    listed = checkout.churn("batches", "--json").stdout
    (bad,) = [one["batch"] for one in json.loads(listed) if one["state"] == "rejected"]
    nights = [
        one["night"]
        for one in visit.page.request.get(f"{checkout.airflow}/churn-review/nights?format=json").json()["lines"]
    ]
    held, promoted = (f"night?name={quote(name, safe='')}" for name in nights[:2])
    for name, page in (
        ("review", ""),
        ("review-held", held),
        ("review-promoted", promoted),
        ("review-data", "data"),
        ("review-rejected", f"batch?hash={bad}"),
    ):
        visit.choose("light", WINDOW)
        visit.open_review(page)
        _save(visit, name)
    visit.choose("dark", NARROW)
    visit.open_alone(promoted)
    _save(visit, "review-phone")


def _save(visit: Visit, name: str) -> None:
    """The window as a PNG of few colours."""
    visit.page.wait_for_load_state("networkidle")
    file = FOLDER / f"{name}.png"
    visit.page.screenshot(path=file, animations="disabled")
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
