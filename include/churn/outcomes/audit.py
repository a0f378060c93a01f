"""Checks the scores of batches on arrival, and the rows of looks, against the ledger."""

from __future__ import annotations

from churn.foundation.ledger import Ledger
from churn.foundation.parts import DigestOf, PartFault, file_digest, find_part_faults, has_table
from churn.foundation.paths import OUTCOMES, arrival_scores, outcome_rows
from churn.foundation.records import OutcomeLook
from churn.foundation.storage import Storage
from churn.outcomes.looks import replay_look

_RESTORE = "Restore it from a backup of the data root; until then its rows confirm and refute nothing."


def find_outcome_faults(
    storage: Storage, ledger: Ledger, model: str, hashes: bool = False, digest_of: DigestOf = file_digest
) -> list[str]:
    """Describe what is wrong with the stored outcomes, in a sentence each; empty if all is well. What maintenance has deleted is not reported.

    Args:
        storage: the data root.
        ledger: knows what was stored.
        model: the registered model.
        hashes: also read every part, check its hash, and replay what confirmed or refuted a promotion.
        digest_of: finds the sha256 of a file.
    """
    there = storage.names(OUTCOMES)
    faults = []
    for row in ledger.arrival_scores(model):
        folder = arrival_scores(row.batch, model)
        parts = [name for name in there if name.startswith(f"{folder}/")]
        found = find_part_faults(storage, folder, parts, hashes, row.manifest, digest_of) if parts else []
        faults += [f"Scores of batch {row.batch[:12]}: {fault} {_RESTORE}" for fault in found]
    for look in ledger.last_looks(model):
        if look.evidence is None or not has_table(storage, outcome_rows(look.evidence)):
            continue
        who = f"Outcome of promotion {look.sequence}"
        folder = outcome_rows(look.evidence)
        found = find_part_faults(storage, folder, there, hashes, None, digest_of)
        if hashes and not found and not _replays(storage, look):
            found = [f"{folder} does not give the recorded outcome."]
        faults += [f"{who}: {fault} Restore it from a backup of the data root." for fault in found]
    return faults


def _replays(storage: Storage, look: OutcomeLook) -> bool:
    try:
        return replay_look(storage, look)
    except PartFault:
        return False
