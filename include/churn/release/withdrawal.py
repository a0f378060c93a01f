"""A batch that is found bad later: it leaves all future snapshots, and every version trained on it is flagged.

The ledger is written first; the registry's tags follow and can be repeated. No version is moved here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from churn.foundation.ledger import Ledger
from churn.foundation.records import Batch, VersionFlag
from churn.foundation.tracking import Tracking

TAG = "churn.withdrawn_batches"
SNAPSHOT_TAG = "churn.snapshot"


@dataclass(frozen=True)
class Withdrawn:
    """The versions that were trained on a batch, and the one of them that is in production, if one is."""

    versions: list[int]
    champion: int | None


def withdraw_batch(batch: Batch, reason: str, ledger: Ledger, tracking: Tracking) -> Withdrawn:
    """Take a batch out of all future snapshots and flag what was trained on it; repeated, it flags again.

    Raises:
        ChurnError: the batch was never accepted.
        TrackingUnreachable: the batch is withdrawn, the versions are not flagged yet; run it again.
    """
    ledger.withdraw(batch.batch, "withdrawn", reason)
    holding = {one.snapshot for one in ledger.snapshots() if batch.batch in one.batches}
    with tracking.explained("list the versions that were trained on the batch"):
        found = tracking.client.search_model_versions(f"name = '{tracking.model}'")
    versions = sorted(int(one.version) for one in found if one.tags.get(SNAPSHOT_TAG) in holding)
    now = datetime.now(UTC)
    ledger.flag_versions([VersionFlag(tracking.model, version, batch.batch, reason, now) for version in versions])
    _tag(versions, ledger, tracking)
    promotion = ledger.in_production(tracking.model)
    champion = promotion.version if promotion else None
    return Withdrawn(versions, champion if champion in versions else None)


def restore_batch(batch: Batch, reason: str, ledger: Ledger, tracking: Tracking) -> Withdrawn:
    """Take a withdrawn batch back into future snapshots, and its flags off.

    Raises:
        ChurnError: the batch was never accepted.
        TrackingUnreachable: the batch is back, the registry still has the flags; run it again.
    """
    ledger.withdraw(batch.batch, "restored", reason)
    with tracking.explained("list the versions that were flagged"):
        found = tracking.client.search_model_versions(f"name = '{tracking.model}'")
    versions = sorted(int(one.version) for one in found if batch.batch[:12] in one.tags.get(TAG, ""))
    ledger.clear_flags(batch.batch)
    _tag(versions, ledger, tracking)
    return Withdrawn(versions, None)


def say_flags(version: int, ledger: Ledger, model: str) -> list[str]:
    """What a person must know of a version that is in production, a sentence for each withdrawn batch."""
    return [
        f"Version {version}, which is in production, was trained on batch {flag.batch[:12]}, withdrawn since: {flag.reason} "
        "The next night trains without it; until then consider an earlier version."
        for flag in ledger.flags(model, version)
    ]


def _tag(versions: list[int], ledger: Ledger, tracking: Tracking) -> None:
    """The registry's tag says what the ledger's flags say; an empty one where there is none any more."""
    for version in versions:
        batches = [flag.batch[:12] for flag in ledger.flags(tracking.model, version)]
        tracking.tag_version(version, {TAG: ", ".join(batches)})
