"""Paths below the data root. Files of a batch or a snapshot are named after its hash."""

from __future__ import annotations

LANDING = "landing"
ORIGINALS = "originals"
ACCEPTED = "accepted"
QUARANTINE = "quarantine"
SNAPSHOTS = "snapshots"
DOCS = "docs"
DECISIONS = "decisions"
UNFINISHED = "unfinished"


def original(batch: str) -> str:
    """Path of the bytes of a batch, as they arrived."""
    return f"{ORIGINALS}/{batch}"


def accepted(batch: str) -> str:
    """Path of the accepted rows of a batch."""
    return f"{ACCEPTED}/{batch}.parquet"


def quarantined(batch: str) -> str:
    """Path of the quarantined rows of a batch."""
    return f"{QUARANTINE}/{batch}.parquet"


def snapshot_rows(snapshot: str) -> str:
    """Path of the rows of a snapshot."""
    return f"{SNAPSHOTS}/{snapshot}.parquet"


def decision_rows(evidence: str) -> str:
    """Path of the scored rows behind a decision, named after their hash."""
    return f"{DECISIONS}/{evidence}.parquet"


def docs_index(batch: str) -> str:
    """Path of the first page of the Data Docs of a batch."""
    return f"{DOCS}/{batch}/index.html"
