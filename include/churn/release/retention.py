"""Old versions go, except those that somebody may still need: champion, previous, anchor, open decisions."""

from __future__ import annotations

from dataclasses import dataclass

from churn.foundation.ledger import Ledger
from churn.foundation.tracking import Tracking
from churn.release.lineage import lineage
from churn.release.mirror import read_registry

_LOGGED = "models:/"


@dataclass(frozen=True)
class Retention:
    """What would go, what stays by the number of versions to keep, and what is protected, with the reason."""

    expendable: list[int]
    recent: list[int]
    protected: dict[int, str]


def plan_retention(keep: int, ledger: Ledger, tracking: Tracking) -> Retention:
    """Sort the registered versions into those that may be deleted and those that stay.

    Args:
        keep: so many of the newest versions stay in any case.
        ledger: knows what is in production, and which decisions are open.
        tracking: MLflow.

    Raises:
        TrackingUnreachable: the registry does not answer; nothing is deleted on a guess.
    """
    protected = _protected(ledger, tracking)
    with tracking.explained("list the versions"):
        found = tracking.client.search_model_versions(f"name = '{tracking.model}'")
    numbers = sorted((int(one.version) for one in found), reverse=True)
    recent = [number for number in numbers[:keep] if number not in protected]
    expendable = [number for number in numbers[keep:] if number not in protected]
    return Retention(expendable, recent, {number: protected[number] for number in numbers if number in protected})


def delete_versions(versions: list[int], ledger: Ledger, tracking: Tracking) -> list[int]:
    """Delete versions, each only if it still is not protected; returns those that were deleted."""
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
    """Versions that stay, whatever their age; both ledger and registry are asked."""
    rows = ledger.promotions(tracking.model)
    state = read_registry(tracking)
    way = lineage(rows)
    reasons = [(number, "was in production on the way to the champion") for number in way]
    reasons += [(number, "is in stage Production") for number in state.in_stage]
    for decision in ledger.open_decisions(tracking.model):
        reasons += [(number, "waits for an approval") for number in (decision.challenger, decision.champion) if number]
    if rows and rows[0].anchor:
        reasons.append((rows[0].anchor, "is the anchor"))
    reasons += [(number, f"bears the alias {name}") for name, number in state.aliases.items()]
    return dict(reasons)
