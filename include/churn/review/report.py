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
from churn.review.outcomes import load_outcomes
from churn.review.overview import load_overview
from churn.review.pages import FolderLinks, Site, batch_file, night_file
from churn.review.presentation import encode_for_json
from churn.review.scores import load_scores
from churn.settings import Settings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def write_report(folder: Path, ledger: Ledger, settings: Settings, now: datetime, limit: int) -> list[Path]:
    """Write the pages. Files of an earlier report are overwritten; other files in the folder are not touched.

    Args:
        folder: where the pages go; created if missing.
        ledger: the ledger to read.
        settings: which model, and where Airflow and MLflow are.
        now: the time of the report.
        limit: number of newest runs and batches that get a page of their own.

    Returns:
        The pages, the first page first.
    """
    nights, data = load_nights(ledger, settings, limit=limit), load_data(ledger, limit=limit)
    links = FolderLinks(frozenset(line.night for line in nights.lines), frozenset(line.batch for line in data.lines))
    site = Site(
        links, now, "", airflow=settings.airflow_ui, model=settings.model_name, names=settings.contract.event_names
    )
    overview = replace(load_overview(ledger, settings, now), actions=[])
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []

    def write(name: str, view: DataclassInstance, html: str) -> None:
        written.append(folder / f"{name}.html")
        written[-1].write_text(html, encoding="utf-8")
        text = json.dumps(asdict(view), default=encode_for_json, indent=1)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")

    def with_json(name: str) -> Site:
        return replace(site, json=f"{name}.json")

    write("index", overview, pages.render_overview(overview, with_json("index")))
    write("nights", nights, pages.render_nights(nights, with_json("nights")))
    write("data", data, pages.render_data(data, with_json("data")))
    images = load_images(ledger, settings, limit=limit)
    write("images", images, pages.render_images(images, with_json("images")))
    scores = load_scores(ledger, settings, now, limit=limit)
    if scores:
        write("scores", scores, pages.render_scores(scores, with_json("scores")))
    outcomes = load_outcomes(ledger, settings, now, limit=limit)
    write("outcomes", outcomes, pages.render_outcomes(outcomes, with_json("outcomes")))
    for line in nights.lines:
        if night := load_night(ledger, settings, line.night):
            name = night_file(night.night)
            write(name, night, pages.render_night(night, with_json(name)))
    for batch_line in data.lines:
        if batch := load_batch(ledger, settings, batch_line.batch):
            name = batch_file(batch_line.batch)
            write(name, batch, pages.render_batch(batch, with_json(name)))
    (folder / "style.css").write_text(pages.STYLE.read_text())
    return written
