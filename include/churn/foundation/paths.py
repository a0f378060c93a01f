"""Paths below the data root. Files of a batch or a snapshot are named after its hash; tables are folders, see `foundation.parts`."""

from __future__ import annotations

LANDING = "landing"
ORIGINALS = "originals"
ACCEPTED = "accepted"
QUARANTINE = "quarantine"
SNAPSHOTS = "snapshots"
DOCS = "docs"
DECISIONS = "decisions"
SCORES = "scores"
POPULATIONS = "populations"
OUTCOMES = "outcomes"
UNFINISHED = "unfinished"


def original(batch: str) -> str:
    """Path of the bytes of a batch, as they arrived."""
    return f"{ORIGINALS}/{batch}"


def division_note(name: str) -> str:
    """Path of the note of the parts of an original, if it has more than one."""
    return f"{name}.parts.json"


def accepted(batch: str) -> str:
    """Folder of the accepted rows of a batch."""
    return f"{ACCEPTED}/{batch}"


def quarantined(batch: str) -> str:
    """Folder of the quarantined rows of a batch."""
    return f"{QUARANTINE}/{batch}"


def snapshot_rows(snapshot: str) -> str:
    """Folder of the rows of a snapshot."""
    return f"{SNAPSHOTS}/{snapshot}"


def decision_rows(evidence: str) -> str:
    """Folder of the scored rows behind a decision, named after their hash."""
    return f"{DECISIONS}/{evidence}"


def arrival_scores(batch: str, model: str) -> str:
    """Folder of the scores that versions of a model gave the rows of a batch on arrival."""
    return f"{OUTCOMES}/arrivals/{model}/{batch}"


def outcome_rows(evidence: str) -> str:
    """Folder of the later rows that confirmed or refuted a promotion, named after their hash."""
    return f"{OUTCOMES}/looks/{evidence}"


def docs_index(batch: str) -> str:
    """Path of the first page of the Data Docs of a batch."""
    return f"{DOCS}/{batch}/index.html"


def population_landing() -> str:
    """Folder in which files of current customers land."""
    return f"{POPULATIONS}/landing"


def population_original(population: str) -> str:
    """Path of the bytes of a file of current customers, as they arrived."""
    return f"{POPULATIONS}/originals/{population}"


def population_quarantined(population: str) -> str:
    """Folder of the rows of a file of current customers that broke a rule."""
    return f"{POPULATIONS}/quarantine/{population}"


def list_rows(name: str) -> str:
    """Folder of the rows of a score list."""
    return f"{SCORES}/{name}"
