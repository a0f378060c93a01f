"""Paths below the data root. Files of a batch or a snapshot are named by its hash."""

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
    """The bytes of a batch, as they arrived."""
    return f"{ORIGINALS}/{batch}"


def accepted(batch: str) -> str:
    """The accepted rows of a batch."""
    return f"{ACCEPTED}/{batch}.parquet"


def quarantined(batch: str) -> str:
    """The quarantined rows of a batch."""
    return f"{QUARANTINE}/{batch}.parquet"


def snapshot_rows(snapshot: str) -> str:
    """The rows of a snapshot."""
    return f"{SNAPSHOTS}/{snapshot}.parquet"


def decision_rows(evidence: str) -> str:
    """The scored rows behind a decision, named by their hash."""
    return f"{DECISIONS}/{evidence}.parquet"


def docs_index(batch: str) -> str:
    """The first page of a batch's Data Docs."""
    return f"{DOCS}/{batch}/index.html"
