"""The review as a folder of files: the same pages and JSON, for people without access to Airflow."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from churn.foundation.ledger import Ledger
from churn.review import pages
from churn.review.data import load_batch, load_data
from churn.review.images import load_images
from churn.review.night_list import load_nights
from churn.review.nights import load_night
from churn.review.overview import load_overview
from churn.review.pages import FolderLinks, Site, batch_file, night_file
from churn.review.presentation import plain
from churn.settings import Settings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def write_report(folder: Path, ledger: Ledger, settings: Settings, now: datetime, most: int) -> list[Path]:
    """Write the pages; a file of an earlier report is written anew, and nothing else in the folder is touched.

    Args:
        folder: made if it is not there.
        ledger: what is shown.
        settings: which model, and where Airflow and MLflow are.
        now: the time of the report.
        most: so many of the newest nights and batches have pages of their own.

    Returns:
        The files, the first page first.
    """
    nights, data = load_nights(ledger, settings, limit=most), load_data(ledger, limit=most)
    links = FolderLinks(frozenset(one.night for one in nights.lines), frozenset(one.batch for one in data.lines))
    site = Site(links, now, "", airflow=settings.airflow_ui)
    overview = replace(load_overview(ledger, settings, now), actions=[])
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Path] = []

    def write(name: str, view: DataclassInstance, html: str) -> None:
        found.append(folder / f"{name}.html")
        found[-1].write_text(html, encoding="utf-8")
        (folder / f"{name}.json").write_text(json.dumps(asdict(view), default=plain, indent=1), encoding="utf-8")

    def here(name: str) -> Site:
        return replace(site, json=f"{name}.json")

    write("index", overview, pages.render_overview(overview, here("index")))
    write("nights", nights, pages.render_nights(nights, here("nights")))
    write("data", data, pages.render_data(data, here("data")))
    images = load_images(ledger, settings, limit=most)
    write("images", images, pages.render_images(images, here("images")))
    for line in nights.lines:
        if night := load_night(ledger, settings, line.night):
            name = night_file(night.night)
            write(name, night, pages.render_night(night, here(name)))
    for one in data.lines:
        if batch := load_batch(ledger, settings, one.batch):
            name = batch_file(one.batch)
            write(name, batch, pages.render_batch(batch, here(name)))
    (folder / "style.css").write_text(pages.STYLE.read_text())
    return found
