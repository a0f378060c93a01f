"""Checks everything that the data root should contain: batches, snapshots, evidence, lists of scores, and outcomes."""

from __future__ import annotations

from churn.decision.evidence_file import find_evidence_faults
from churn.foundation.clients import Clients
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
    return [
        *find_losses(storage, ledger, hashes),
        *find_snapshot_faults(storage, ledger, hashes),
        *find_evidence_faults(storage, ledger, hashes),
        *find_list_faults(storage, ledger, hashes),
        *find_outcome_faults(storage, ledger, clients.settings.model_name, hashes),
    ]
