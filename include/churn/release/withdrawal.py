"""Withdraws a batch that turned out to be bad: it leaves all future snapshots, and versions trained on it are flagged.

The ledger is written first. The tags in the MLflow registry follow, and can be repeated. No version is moved here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from churn.foundation.ledger import Ledger
from churn.foundation.records import Batch, VersionFlag
from churn.foundation.tracking import Tracking
from churn.foundation.wording import as_sentence_end

TAG = "churn.withdrawn_batches"
SNAPSHOT_TAG = "churn.snapshot"


@dataclass(frozen=True)
class Withdrawn:
    """The versions that were trained on a batch, and the one of them that is in production, if any."""

    versions: list[int]
    champion: int | None


def withdraw_batch(batch: Batch, reason: str, ledger: Ledger, tracking: Tracking) -> Withdrawn:
    """Remove a batch from all future snapshots, and flag the versions that were trained on it. Repeating this flags again.

    Raises:
        ChurnError: the batch was never accepted.
        TrackingUnreachable: the batch is withdrawn, but the versions are not flagged yet; run it again.
    """
    ledger.withdraw(batch.batch, "withdrawn", reason)
    holding = {snapshot.snapshot for snapshot in ledger.snapshots() if batch.batch in snapshot.batches}
    done = "The batch has been withdrawn; only the flags of the versions that were trained on it are missing."
    with tracking.explained("list the versions that were trained on the batch", done):
        registered = tracking.client.search_model_versions(f"name = '{tracking.model}'")
    versions = sorted(int(version.version) for version in registered if version.tags.get(SNAPSHOT_TAG) in holding)
    now = datetime.now(UTC)
    ledger.flag_versions([VersionFlag(tracking.model, version, batch.batch, reason, now) for version in versions])
    _tag(versions, ledger, tracking)
    promotion = ledger.in_production(tracking.model)
    champion = promotion.version if promotion else None
    return Withdrawn(versions, champion if champion in versions else None)


def restore_batch(batch: Batch, reason: str, ledger: Ledger, tracking: Tracking) -> Withdrawn:
    """Return a withdrawn batch to future snapshots, and remove its flags.

    Raises:
        ChurnError: the batch was never accepted.
        TrackingUnreachable: the batch has been restored, but the registry still has the flags; run it again.
    """
    ledger.withdraw(batch.batch, "restored", reason)
    done = "The batch has been restored; only the flags of the versions that were trained on it are still there."
    with tracking.explained("list the versions that were flagged", done):
        registered = tracking.client.search_model_versions(f"name = '{tracking.model}'")
    versions = sorted(int(version.version) for version in registered if batch.batch[:12] in version.tags.get(TAG, ""))
    ledger.clear_flags(batch.batch)
    _tag(versions, ledger, tracking)
    return Withdrawn(versions, None)


def say_flags(version: int, ledger: Ledger, model: str) -> list[str]:
    """Warnings about a version in production: a sentence for each withdrawn batch that it was trained on."""
    return [
        f"Version {version}, which is in production, was trained on batch {flag.batch[:12]}, which has been withdrawn since: {as_sentence_end(flag.reason)} "
        "The next run trains without it. Until then, consider a rollback."
        for flag in ledger.flags(model, version)
    ]


def _tag(versions: list[int], ledger: Ledger, tracking: Tracking) -> None:
    """Copy the flags of the ledger to the tag in the MLflow registry; empty if there are none."""
    for version in versions:
        batches = [flag.batch[:12] for flag in ledger.flags(tracking.model, version)]
        tracking.tag_version(version, {TAG: ", ".join(batches)})
