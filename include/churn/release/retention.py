"""Deletes old versions, except those that are needed: champion, previous and baseline version, and those of open decisions."""

from __future__ import annotations

from dataclasses import dataclass

from churn.foundation.ledger import Ledger
from churn.foundation.tracking import Tracking
from churn.release.lineage import lineage
from churn.release.mirror import read_registry

_LOGGED = "models:/"


@dataclass(frozen=True)
class Retention:
    """The versions to delete, those kept because they are recent, and those that are protected, with the reason."""

    expendable: list[int]
    recent: list[int]
    protected: dict[int, str]


def plan_retention(keep: int, ledger: Ledger, tracking: Tracking) -> Retention:
    """Sort the registered versions into those that may be deleted and those that are kept.

    Args:
        keep: number of newest versions that are always kept.
        ledger: knows what is in production, and which decisions are open.
        tracking: MLflow.

    Raises:
        TrackingUnreachable: the MLflow registry does not answer, so nothing may be deleted.
    """
    protected = _protected(ledger, tracking)
    with tracking.explained("list the versions"):
        registered = tracking.client.search_model_versions(f"name = '{tracking.model}'")
    numbers = sorted((int(version.version) for version in registered), reverse=True)
    recent = [number for number in numbers[:keep] if number not in protected]
    expendable = [number for number in numbers[keep:] if number not in protected]
    return Retention(expendable, recent, {number: protected[number] for number in numbers if number in protected})


def delete_versions(versions: list[int], ledger: Ledger, tracking: Tracking) -> list[int]:
    """Delete versions, each only if it is still not protected; returns those that were deleted."""
    deleted = []
    for version in versions:
        if version in _protected(ledger, tracking):
            continue
        with tracking.explained(f"delete version {version}"):
            source = tracking.version(version).source or ""
            tracking.client.delete_model_version(tracking.model, str(version))
            if source.startswith(_LOGGED):
                tracking.client.delete_logged_model(source.removeprefix(_LOGGED))
        deleted.append(version)
    return deleted


def _protected(ledger: Ledger, tracking: Tracking) -> dict[int, str]:
    """Versions that are kept whatever their age, according to the ledger or the MLflow registry."""
    rows = ledger.promotions(tracking.model)
    state = read_registry(tracking)
    way = lineage(rows)
    reasons = [(number, "was in production before the champion") for number in way]
    reasons += [(number, "is in stage Production") for number in state.in_stage]
    for decision in ledger.open_decisions(tracking.model):
        reasons += [
            (number, "is waiting for an approval") for number in (decision.challenger, decision.champion) if number
        ]
    if rows and rows[0].anchor:
        reasons.append((rows[0].anchor, "is the baseline version"))
    reasons += [(number, f"has the alias {name}") for name, number in state.aliases.items()]
    return dict(reasons)
