"""Who is compared on what, and whether these versions may be held against each other at all.

What makes a version no evidence is looked up in the ledger and in the recorded snapshots; it is not
taken on trust from the registry.
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
class Contest:
    """Who is compared on which snapshot; `suspects` are batches that the champion has not been held against yet."""

    challenger: int
    champion: int | None
    anchor: int | None
    snapshot: Snapshot
    suspects: list[str]

    @property
    def versions(self) -> dict[str, int]:
        """The version in each role; the anchor only where it is another than the champion."""
        anchor = None if self.anchor == self.champion else self.anchor
        roles = {CHALLENGER: self.challenger, CHAMPION: self.champion, ANCHOR: anchor}
        return {role: version for role, version in roles.items() if version is not None}


def find_refusal(role: str, contest: Contest, clients: Clients) -> Refusal | None:
    """Why the version in a role is no evidence on these customers, None if it is; asked before anything is scored.

    Raises:
        TrackingUnreachable: MLflow is away.
    """
    version = contest.versions[role]
    if role == CHAMPION and version == contest.challenger:
        return Refusal(Reason.INPUT_MISMATCH, f"version {version} would be compared with itself.")
    return (
        _unknown(version, clients)
        or _mismatch(version, contest.snapshot, clients)
        or _contaminated(version, contest.snapshot, clients)
    )


def _unknown(version: int, clients: Clients) -> Refusal | None:
    if clients.ledger.version(clients.tracking.model, version) or _recorded_late(version, clients):
        return None
    return Refusal(
        Reason.INPUT_MISMATCH,
        f"the ledger does not know version {version}: nobody can say what it was trained on. Only versions that a night trained are evidence.",
    )


def _recorded_late(version: int, clients: Clients) -> bool:
    """Keep the hash of a version that a night trained before hashes were kept: of its files as they are now."""
    earlier = (one for one in clients.ledger.decisions(limit=None) if one.challenger == version and not one.digests)
    trained = next(earlier, None)
    snapshot = clients.ledger.snapshot(trained.snapshot) if trained else None
    if trained is None or snapshot is None:
        return False
    log.warning("Version %d was registered before hashes were kept: its files count as they are now.", version)
    with clients.tracking.explained(f"find version {version}"):
        run_id = str(clients.tracking.version(version).run_id)
    remember_version(version, run_id, trained.night, snapshot, clients.ledger, clients.tracking)
    return True


def _mismatch(version: int, snapshot: Snapshot, clients: Clients) -> Refusal | None:
    """A version trained under another key, target or salt may have seen the holdout: it is no evidence."""
    with clients.tracking.explained(f"read the tags of version {version}"):
        tags = clients.tracking.version(version).tags
    ours = evidence_tags(clients.contract, snapshot.salt_fingerprint)
    differing = [name.removeprefix("churn.") for name, value in ours.items() if tags.get(name) != value]
    if not differing:
        return None
    return Refusal(
        Reason.INPUT_MISMATCH,
        f"version {version} was trained under another {', '.join(differing)}: it may have seen these customers, "
        "or predicts something else. Restore the setting, or take the version out of production.",
    )


def _contaminated(version: int, snapshot: Snapshot, clients: Clients) -> Refusal | None:
    known = clients.ledger.version(clients.tracking.model, version)
    trained = clients.ledger.snapshot(known.snapshot) if known else None
    if trained is None:
        return Refusal(Reason.HOLDOUT_CONTAMINATED, f"the ledger does not know what version {version} was trained on.")
    try:
        seen = count_contaminated(clients.storage, trained, snapshot, clients.contract, clients.sampling.memory_limit)
    except Outage:
        raise
    except ChurnError:
        return Refusal(
            Reason.HOLDOUT_CONTAMINATED,
            f"the rows that version {version} was trained on are gone or damaged, so that nobody can say whether it saw the holdout: "
            f"`churn snapshot rebuild {trained.snapshot[:12]}` makes them again.",
        )
    if not seen:
        return None
    return Refusal(
        Reason.HOLDOUT_CONTAMINATED,
        f"version {version} was trained on {seen} of the customers that it would be judged by (snapshot {trained.snapshot[:12]}).",
    )
