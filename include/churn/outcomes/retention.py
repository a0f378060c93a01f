"""Which scores of batches on arrival, and which rows of looks, are no longer needed."""

from __future__ import annotations

from churn.foundation.ledger import Ledger
from churn.foundation.paths import OUTCOMES, arrival_scores, outcome_rows
from churn.foundation.storage import Storage


def expendable_outcomes(storage: Storage, ledger: Ledger, model: str, keep: int) -> list[str]:
    """The places in the data root that may be deleted.

    Kept are the scores of the newest batches, and of all that arrived since the version in production was promoted; and the rows of
    the newest looks that confirmed or refuted a promotion, and of the one in force.

    Args:
        storage: the data root.
        ledger: knows what was stored.
        model: the registered model.
        keep: the number of newest batches, and of looks.
    """
    change = ledger.in_production(model)
    arrived = {batch.batch: batch.arrived_at for batch in ledger.batches()}
    scores = ledger.arrival_scores(model)
    old = [row for row in scores[keep:] if change is None or arrived[row.batch] <= change.promoted_at]
    looks = [look for look in ledger.last_looks(model) if look.evidence]
    past = [look for look in looks[keep:] if change is None or look.sequence != change.sequence]
    places = {arrival_scores(row.batch, model) for row in old} | {outcome_rows(str(look.evidence)) for look in past}
    there = {name.rpartition("/")[0] for name in storage.names(OUTCOMES)}
    return sorted(places & there)
