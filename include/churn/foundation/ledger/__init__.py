"""The database that remembers batches, snapshots, decisions, promotions, images, score lists and alerts.

Every write can be repeated; promotions are compare-and-set.
"""

from churn.foundation.ledger.alerts import AlertRows
from churn.foundation.ledger.batches import BatchRows
from churn.foundation.ledger.database import LedgerError
from churn.foundation.ledger.decisions import DecisionRows
from churn.foundation.ledger.outcomes import OutcomeRows
from churn.foundation.ledger.ownership import LedgerOfAnother, OwnershipRows
from churn.foundation.ledger.production import ProductionRows, PromotionConflict
from churn.foundation.ledger.reviews import ReviewRows
from churn.foundation.ledger.scores import ScoreRows
from churn.foundation.ledger.snapshots import SnapshotRows

__all__ = ["Ledger", "LedgerError", "LedgerOfAnother", "PromotionConflict", "open_ledger", "read_ledger"]


class Ledger(
    BatchRows,
    SnapshotRows,
    DecisionRows,
    ProductionRows,
    ReviewRows,
    AlertRows,
    OwnershipRows,
    ScoreRows,
    OutcomeRows,
):
    """Reads and writes of the ledger, on SQLite or PostgreSQL."""


def open_ledger(url: str) -> Ledger:
    """Open the ledger and migrate it to the current schema."""
    ledger = Ledger(url)
    ledger.migrate()
    return ledger


def read_ledger(url: str) -> Ledger:
    """Open the ledger to read only: creates, migrates and locks nothing, and reports an unavailable server within seconds."""
    return Ledger(url, read_only=True)
