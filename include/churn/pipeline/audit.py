"""Checks everything that the data root should contain: batches, snapshots, evidence, lists of scores, and outcomes."""

from __future__ import annotations

from churn.decision.evidence_file import find_evidence_faults
from churn.foundation.clients import Clients
from churn.foundation.parts import digest_files, file_digest
from churn.foundation.paths import (
    ACCEPTED,
    DECISIONS,
    ORIGINALS,
    OUTCOMES,
    POPULATIONS,
    QUARANTINE,
    SCORES,
    SNAPSHOTS,
    population_landing,
)
from churn.foundation.storage import Storage
from churn.intake.audit import find_losses
from churn.learning.snapshot import find_snapshot_faults
from churn.outcomes.audit import find_outcome_faults
from churn.scoring.audit import find_list_faults


def audit_data(clients: Clients, hashes: bool = False) -> list[str]:
    """Describe everything in the data root that is not as the ledger says, in a sentence each; empty if all is well.

    Args:
        clients: the data root and the ledger.
        hashes: also read every original and every part, and check it against its hash.
    """
    storage, ledger = clients.storage, clients.ledger
    digest_of = digest_files(storage, _hashed_files(storage), clients.spread) if hashes else file_digest
    return [
        *find_losses(storage, ledger, hashes, digest_of),
        *find_snapshot_faults(storage, ledger, hashes, digest_of),
        *find_evidence_faults(storage, ledger, hashes, digest_of),
        *find_list_faults(storage, ledger, hashes, digest_of),
        *find_outcome_faults(storage, ledger, clients.settings.model_name, hashes, digest_of),
    ]


def _hashed_files(storage: Storage) -> list[str]:
    """The originals, and the parts of all tables."""
    zones = (ORIGINALS, ACCEPTED, QUARANTINE, SNAPSHOTS, DECISIONS, SCORES, POPULATIONS, OUTCOMES)
    names = [name for zone in zones for name in storage.names(zone)]
    return [name for name in names if not name.endswith(".json") and not name.startswith(f"{population_landing()}/")]
