"""Take the pictures that README and documentation show, but that of the stack: a copy of the project goes through the tour, and a real browser looks at it.

Some four minutes. Two nights of the sample that promote, a third that is held, a file that is rejected, and a rollback.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image
from rich.console import Console

from churn.decision.report import CARD
from support.basics import ROOT
from support.browsers import Visit, logged_in
from support.checkouts import make_checkout

FOLDER = ROOT / "docs" / "pages" / "images"
COLOURS = 64
WINDOW, TALL = (1180, 800), (1180, 1080)


def main() -> int:
    """Run the tour, take the pictures, end the services."""
    console = Console()
    with tempfile.TemporaryDirectory(prefix="churn-tour-") as folder:
        checkout = make_checkout(Path(folder))
        sample = (checkout.folder / "data/sample/night-3.csv").read_text()
        (checkout.folder / "bad.csv").write_text(sample.replace("France", "Atlantis"))
        user = password = ""
        try:
            for words, arguments, look in SCENES:
                console.print(f"The tour: {words}.")
                done = checkout.churn(*arguments)
                if done.returncode and words != "a bad file":
                    raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
                login = re.search(r"user (\S+), password (\S+)", done.stdout)
                user, password = login.groups() if login else (user, password)
                with logged_in(checkout.airflow, user, password) as visit:
                    look(visit)
        finally:
            checkout.churn("local", "stop")
    for file in sorted(FOLDER.glob("*.png")):
        console.print(f"{file.relative_to(ROOT)} ({file.stat().st_size / 1000:.0f} kB)")
    return 0


def _look_at_promotion(visit: Visit) -> None:
    _take(visit, "review-promoted", _night(visit, 0))
    newest = _newest(visit, "data")["batch"]
    visit.open_alone(f"docs/{newest}/index.html")
    _save(visit, "batch")
    visit.page.goto(
        f"{visit.airflow}/dags/churn_retraining/runs/{quote(_newest(visit, 'nights')['night'], safe=':+@~')}"
    )
    visit.page.get_by_text("Task Instances", exact=False).first.wait_for()
    _save(visit, "airflow", polls=True)
    _look_at_comparison(visit)


def _look_at_comparison(visit: Visit) -> None:
    """The run in MLflow, and the card among its artifacts."""
    night = visit.page.request.get(f"{visit.airflow}/churn-review/{_night(visit, 0)}&format=json").text()
    address = re.search(r'(http://[^"]+)/#/(?:experiments/[0-9]+/)?runs/([0-9a-f]{32})', night)
    if address is None:
        raise SystemExit("The page of the run has no link to MLflow.")
    visit.choose("light", (1500, 1000))
    visit.page.goto(f"{address[0]}?workflowType=machine_learning")
    assistant = visit.page.get_by_text("MLflow Assistant")
    visit.page.get_by_text("Description").first.wait_for()
    if assistant.count():  # the panel of a first visit
        assistant.locator("xpath=ancestor::*[.//button][1]//button").last.click()
    visit.page.get_by_text("Description").first.scroll_into_view_if_needed()
    _save(visit, "mlflow", polls=True)
    card = visit.page.request.get(f"{address[1]}/get-artifact", params={"path": CARD, "run_uuid": address[2]})
    visit.page.set_viewport_size({"width": 1100, "height": 1230})
    visit.page.set_content(card.text())
    _save(visit, "card")


def _look_at_hold(visit: Visit) -> None:
    _take(visit, "review", "", TALL)
    _take(visit, "review-held", _night(visit, 0))
    _take(visit, "review-scores", "scores", TALL)
    _take(visit, "review-outcomes", "outcomes", TALL)


def _look_at_data(visit: Visit) -> None:
    _take(visit, "review-data", "data", TALL)


def _look_at_rollback(visit: Visit) -> None:
    _take(visit, "review-rollback", "")


def _night(visit: Visit, back: int) -> str:
    """The page of the newest run, or of the n-th before it."""
    return f"night?name={quote(_newest(visit, 'nights', back)['night'], safe='')}"


def _newest(visit: Visit, page: str, back: int = 0) -> dict[str, Any]:
    """The newest line of a list of the review, or the n-th before it."""
    lines = visit.page.request.get(f"{visit.airflow}/churn-review/{page}?format=json").json()["lines"]
    return dict(lines[back])


def _take(visit: Visit, name: str, page: str, size: tuple[int, int] = WINDOW) -> None:
    visit.choose("light", size)
    visit.open_review(page)
    _save(visit, name)


def _save(visit: Visit, name: str, polls: bool = False) -> None:
    """The window as a PNG of few colours. A page that polls its server is never idle, so it gets some seconds instead."""
    if polls:
        visit.page.wait_for_timeout(4_000)
    else:
        visit.page.wait_for_load_state("networkidle")
    file = FOLDER / f"{name}.png"
    visit.page.screenshot(path=file, animations="disabled")
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


SCENES = (
    ("two nights that promote", ["local", "run"], _look_at_promotion),
    ("a night that is held", ["local", "run"], _look_at_hold),
    ("a bad file", ["local", "run", "--data", "bad.csv", "--nights", "1"], _look_at_data),
    ("a rollback", ["rollback", "--reason", "Complaints from branches in Spain are looked into."], _look_at_rollback),
)
"""The scenes of the README: words, the command that makes one, and what is looked at after it."""

if __name__ == "__main__":
    sys.exit(main())
