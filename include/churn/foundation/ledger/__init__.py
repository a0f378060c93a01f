"""The database that remembers batches, snapshots, decisions, promotions, images and alerts.

Every write can be repeated; promotions are compare-and-set.
"""

from churn.foundation.ledger.alerts import AlertRows
from churn.foundation.ledger.batches import BatchRows
from churn.foundation.ledger.database import LedgerError
from churn.foundation.ledger.decisions import DecisionRows
from churn.foundation.ledger.production import ProductionRows, PromotionConflict

__all__ = ["Ledger", "LedgerError", "PromotionConflict", "open_ledger"]


class Ledger(BatchRows, DecisionRows, ProductionRows, AlertRows):
    """Reads and writes of the ledger, on SQLite or PostgreSQL."""


def open_ledger(url: str) -> Ledger:
    """Open the ledger at the present schema."""
    ledger = Ledger(url)
    ledger.migrate()
    return ledger
