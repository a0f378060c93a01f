"""Whether versions may be compared at all.

What makes a version ineligible is looked up in the ledger and in the recorded snapshots. The MLflow registry is not trusted
with it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from churn.decision.comparison import Refusal
from churn.decision.reasons import Reason
from churn.errors import ChurnError, Outage
from churn.foundation.clients import Clients
from churn.foundation.records import Snapshot
from churn.learning.snapshot import count_contaminated
from churn.learning.training import evidence_tags, remember_version

log = logging.getLogger(__name__)

CHALLENGER, CHAMPION, ANCHOR = "challenger", "champion", "anchor"


@dataclass(frozen=True)
class ComparedVersions:
    """Which versions are compared on which snapshot. `suspects` are batches that the champion has not been compared on yet."""

    challenger: int
    champion: int | None
    anchor: int | None
    snapshot: Snapshot
    suspects: list[str]

    @property
    def versions(self) -> dict[str, int]:
        """The version in each role. The baseline version is included only if it is not the champion."""
        anchor = None if self.anchor == self.champion else self.anchor
        roles = {CHALLENGER: self.challenger, CHAMPION: self.champion, ANCHOR: anchor}
        return {role: version for role, version in roles.items() if version is not None}


def find_refusal(role: str, compared: ComparedVersions, clients: Clients) -> Refusal | None:
    """Explain why the version in a role cannot be compared on these customers; None if it can. Checked before anything is scored.

    Raises:
        TrackingUnreachable: MLflow is unavailable.
    """
    version = compared.versions[role]
    if role == CHAMPION and version == compared.challenger:
        return Refusal(Reason.INPUT_MISMATCH, f"version {version} would be compared with itself.")
    if role != CHALLENGER and clients.tracking.find_version(version) is None:
        return missing(role, version)
    return (
        _unknown(version, clients)
        or _mismatch(version, compared.snapshot, clients)
        or _contaminated(version, compared.snapshot, clients)
    )


def missing(role: str, version: int, what: str = "it was deleted in MLflow") -> Refusal:
    """Why a version that no longer exists, or whose files do not, cannot be compared."""
    if role == ANCHOR:
        return Refusal(Reason.CHAMPION_MISSING, f"baseline version {version} cannot be compared, because {what}.")
    return Refusal(
        Reason.CHAMPION_MISSING,
        f"version {version} is in production, but {what}, so nothing can be compared with it. Its image keeps serving.",
    )


def _unknown(version: int, clients: Clients) -> Refusal | None:
    if clients.ledger.version(clients.tracking.model, version) or _recorded_late(version, clients):
        return None
    return Refusal(
        Reason.INPUT_MISMATCH,
        f"the ledger has no version {version}, so it is unknown what it was trained on. Only versions that a run has trained can be compared.",
    )


def _recorded_late(version: int, clients: Clients) -> bool:
    """Record the hash of a version that was trained before hashes were kept, from its files as they are now."""
    earlier = (
        decision for decision in clients.ledger.outlines() if decision.challenger == version and not decision.digests
    )
    trained = next(earlier, None)
    snapshot = clients.ledger.snapshot(trained.snapshot) if trained else None
    if trained is None or snapshot is None:
        return False
    log.warning("Version %d was registered before hashes were kept. Its files are recorded as they are now.", version)
    with clients.tracking.explained(f"find version {version}"):
        run_id = str(clients.tracking.version(version).run_id)
    remember_version(version, run_id, trained.night, snapshot, clients.ledger, clients.tracking)
    return True


def _mismatch(version: int, snapshot: Snapshot, clients: Clients) -> Refusal | None:
    """A version trained under another key, target or salt may have seen the holdout, so it cannot be compared."""
    with clients.tracking.explained(f"read the tags of version {version}"):
        tags = clients.tracking.version(version).tags
    ours = evidence_tags(clients.contract, snapshot.salt_fingerprint)
    differing = [name.removeprefix("churn.") for name, value in ours.items() if tags.get(name) != value]
    if not differing:
        return None
    return Refusal(
        Reason.INPUT_MISMATCH,
        f"version {version} was trained with another {', '.join(differing)}, so it may have been trained on these customers, or may predict something else. "
        "Restore the setting, or replace the version in production.",
    )


def _contaminated(version: int, snapshot: Snapshot, clients: Clients) -> Refusal | None:
    record = clients.ledger.version(clients.tracking.model, version)
    trained = clients.ledger.snapshot(record.snapshot) if record else None
    if trained is None:
        return Refusal(Reason.HOLDOUT_CONTAMINATED, f"it is unknown what version {version} was trained on.")
    try:
        seen = count_contaminated(clients.storage, trained, snapshot, clients.contract, clients.spread.memory_limit)
    except Outage:
        raise
    except ChurnError:
        return Refusal(
            Reason.HOLDOUT_CONTAMINATED,
            f"the rows that version {version} was trained on are missing or damaged, so it is unknown whether it has seen the holdout. "
            f"Restore them with `churn snapshot rebuild {trained.snapshot[:12]}`.",
        )
    if not seen:
        return None
    return Refusal(
        Reason.HOLDOUT_CONTAMINATED,
        f"version {version} was trained on {seen} of the customers that it would be compared on (snapshot {trained.snapshot[:12]}).",
    )
