"""Rows of the ledger for score lists that were never made."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from churn.decision.scoring import Scorer, open_scorer
from churn.foundation.records import ScoreList
from churn.scoring.scoring_policy import ScoringPolicy
from support.basics import ROOT

POLICY = ScoringPolicy.read((ROOT / "include/churn/scoring_policy.yaml").read_text(), "p")
"""The shipped policy: a horizon of 90 days, an exclusion of 30."""


def in_this_process(*arguments: Any, apart: bool) -> AbstractContextManager[Scorer]:
    """Stands in for `open_scorer` in the second scoring: to start another process takes longer than all the rest of a list."""
    assert apart
    return open_scorer(*arguments)


def published(name: str, campaign: str, days_ago: float, sequence: int, now: datetime) -> ScoreList:
    """A list of a campaign that was published a number of days ago."""
    return ScoreList(
        list_id=name,
        model="m",
        sequence=sequence,
        version=1,
        campaign=campaign,
        population="p",
        source="file",
        source_name="f",
        policy=POLICY.changed(campaign).model_dump_json(),
        excludes=[],
        continues=[],
        arrived_rows=1,
        rows=1,
        quarantined_rows=0,
        contact=1,
        control=0,
        summary={"drift": {"drifted": [], "scores": None}},
        manifest="",
        night="n",
        requested_by=None,
        published_at=now - timedelta(days=days_ago),
    )
