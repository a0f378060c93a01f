"""Reads from the ledger what a decision needs to know about the past: age, tests, freeze, looks, confirmation, suspect batches."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from churn.decision.comparison import Confirmed, Evidence, Force, History
from churn.decision.reasons import Reason
from churn.foundation.digests import array_digest, json_digest
from churn.foundation.ledger import Ledger
from churn.foundation.records import Look, Promotion, Snapshot
from churn.foundation.wording import REVERSALS

_DAY = 86_400


def read_history(
    ledger: Ledger, model: str, promotion: Promotion | None, decided_at: datetime, force: Force | None
) -> History:
    """Read the history at the time of a decision. Looks are counted when one is taken.

    Args:
        ledger: the ledger.
        model: the registered model.
        promotion: what is in production.
        decided_at: the time of the decision.
        force: who demands the promotion, if anyone.
    """
    freeze = ledger.freeze(model)
    frozen = (
        f"version {freeze.previous} was {REVERSALS[freeze.kind]} by {freeze.actor or 'someone'}: {freeze.reason}"
        if freeze
        else None
    )
    confirmation = ledger.confirmation(model)
    confirmed = Confirmed(confirmation.by, confirmation.reason) if confirmation else None
    if promotion is None or promotion.version is None:
        return History(decided_at, frozen=frozen, force=force, confirmed=confirmed)
    tries = [
        decision.decided_at
        for decision in ledger.outlines(model, champion=promotion.version)
        if Reason.implied_by(decision.code).tested_noninferiority
        and not decision.dry_run
        and decision.decided_at >= promotion.promoted_at
    ]
    return History(
        decided_at,
        champion_days=_days(promotion.promoted_at, decided_at),
        days_since_try=_days(max(tries), decided_at) if tries else None,
        frozen=frozen,
        force=force,
        confirmed=confirmed,
    )


def suspect_batches(ledger: Ledger, model: str, snapshot: Snapshot, champion: int | None) -> list[str]:
    """The batches that the champion has not been compared on: new since the last decision, or still disputed.

    A dispute ends when another version is in production: a person has approved it, or it was no longer a contradiction.
    """
    if champion is None:
        return []
    last = ledger.last_decision(model)
    seen = ledger.snapshot(last.snapshot) if last else None
    compared = set(seen.batches) if seen else set()
    disputed = disputed_batches(ledger, model, champion)
    return [batch for batch in snapshot.batches if batch not in compared or batch in disputed]


def disputed_batches(ledger: Ledger, model: str, champion: int) -> set[str]:
    """The batches that contradicted the earlier ones when a version was the champion."""
    return {
        batch
        for decision in ledger.decisions(limit=None, champion=champion, model=model)
        if not decision.dry_run
        and any(rule.get("code") == Reason.BATCH_DISPUTED and not rule["passed"] for rule in decision.rules)
        for batch in decision.comparison["case"]["suspects"]
    }


def take_look(
    ledger: Ledger,
    model: str,
    night: str,
    promotion: Promotion,
    evidence: Evidence,
    decided_at: datetime,
    timezone: str,
) -> Look:
    """Count a test of a challenger against the champion. The same scores of the same customers count once.

    Args:
        ledger: counts the looks.
        model: the registered model.
        night: the id of the run.
        promotion: the promotion of the champion, which began the epoch.
        evidence: the scored rows.
        decided_at: the time of the decision.
        timezone: the time zone whose calendar nights are counted.
    """
    seen = (evidence.customers, evidence.labels, evidence.challenger, evidence.champion)
    digests = [array_digest(values[evidence.used]) for values in seen if values is not None]
    look = json_digest([promotion.sequence, *digests])
    calendar_night = decided_at.astimezone(ZoneInfo(timezone)).date().isoformat()
    return ledger.take_look(Look(model, look, promotion.sequence, calendar_night, 0, night, decided_at))


def _days(since: datetime, until: datetime) -> float:
    return max(0.0, (until - since).total_seconds() / _DAY)
