"""What is kept, in one list. Whatever adds a zone, a table, a DAG or a setting of retention says here what becomes of it."""

from __future__ import annotations

import re

import pytest

from churn.foundation import paths, schema
from churn.settings import Settings
from support.basics import ROOT

ZONES = {
    "landing",
    "originals",
    "accepted",
    "quarantine",
    "snapshots",
    "docs",
    "decisions",
    "scores",
    "populations",
    "outcomes",
    "unfinished",
}
"""Folders of the data root. `make clean` deletes each, `data/README.md` describes it, and the page on retention says how long it is kept."""
TABLES = {
    "batches", "sightings", "withdrawals", "drifts", "version_flags", "snapshots", "cutoffs", "decisions", "versions", "looks", "approvals",
    "promotions", "thaws", "confirmations", "owner", "images", "populations", "score_lists", "deliveries", "alerts", "arrival_scores", "outcome_looks", "list_results",
}  # fmt: skip
"""Tables of the ledger. No row is ever deleted, and a backup of the database contains all of them."""
DAGS = {
    "churn_retraining", "churn_image_build", "churn_rollback", "churn_scoring", "churn_landing", "churn_population_landing",
    "churn_maintenance", "churn_watch",
}  # fmt: skip
"""The page on tasks says for each what a cleared task does."""
KEPT = {
    "keep_versions",
    "keep_decisions",
    "keep_images",
    "keep_lists",
    "keep_populations",
    "keep_outcomes",
    "keep_days",
}
"""Settings that say how much is kept; the page on retention has each."""


def read(page: str) -> str:
    return (ROOT / page).read_text()


def test_the_lists_are_complete() -> None:
    """A new zone, table, DAG or setting of retention fails here first."""
    constants = {name: value for name, value in vars(paths).items() if name.isupper()}
    assert set(constants.values()) == ZONES
    assert {table.name for table in schema.metadata.sorted_tables} == TABLES
    assert {file.stem for file in (ROOT / "dags").glob("*.py")} == DAGS
    assert {name for name in Settings.model_fields if name.startswith("keep_")} == KEPT


@pytest.mark.parametrize("zone", sorted(ZONES))
def test_a_zone_is_deleted_by_make_clean_and_described(zone: str) -> None:
    clean = re.search(r"^clean:.*\n\t(rm .*)$", read("Makefile"), re.MULTILINE)
    assert clean is not None
    assert f"data/{zone}" in clean[1].split()
    for page in ("data/README.md", "docs/pages/operations/retention.md"):
        assert f"`{zone}/`" in read(page), page


def test_no_row_of_the_ledger_is_deleted() -> None:
    """Retention deletes files and versions, so what was in production at any time can be looked up."""
    code = "\n".join(file.read_text() for file in (ROOT / "include/churn").rglob("*.py"))
    assert re.findall(r"\b(?:sa\.)?delete\((?:schema\.)?\w+\)|DELETE FROM", code) == []


@pytest.mark.parametrize("dag", sorted(DAGS))
def test_a_dag_has_its_place_in_the_documentation(dag: str) -> None:
    assert dag in read("docs/pages/operations/tasks.md")


@pytest.mark.parametrize("setting", sorted(KEPT))
def test_a_setting_of_retention_has_its_place_in_the_documentation(setting: str) -> None:
    assert f"`CHURN_{setting.upper()}`" in read("docs/pages/operations/retention.md")
