"""Which data contract and which registered model a ledger belongs to."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from churn.errors import ChurnError
from churn.foundation.ledger.database import LedgerDatabase
from churn.foundation.records import Owner
from churn.foundation.schema import decisions, owner, promotions, versions


class LedgerOfAnother(ChurnError):  # noqa: N818 -- names the state
    """The ledger belongs to another contract or another model."""


class OwnershipRows(LedgerDatabase):
    """Reads and writes the owner of the ledger."""

    def owner(self) -> Owner | None:
        """Return the contract and the model that the ledger belongs to; None before the first process has opened it."""
        return self._one(Owner, sa.select(owner))

    def claim(self, contract: str, model: str) -> None:
        """Check that the ledger belongs to a contract and a model; an unowned ledger is theirs from now on.

        A ledger from before owners were stored belongs to the model that it has versions, decisions or promotions of.

        Raises:
            LedgerOfAnother: it belongs to others. Nothing was read or changed.
        """
        current = self.owner() or self._become_owner(contract, model)
        if (current.contract, current.model) == (contract, model):
            return
        raise LedgerOfAnother(
            f"This ledger belongs to contract {current.contract} and model {current.model}, but the settings name contract {contract} and "
            f"model {model}. Nothing was changed. Correct CHURN_CONTRACT and CHURN_MODEL_NAME, or give the other contract its own "
            "CHURN_LEDGER_URL, CHURN_DATA_ROOT and CHURN_MODEL_NAME."
        )

    def _become_owner(self, contract: str, model: str) -> Owner:
        named = sa.union(*(sa.select(table.c.model) for table in (versions, decisions, promotions)))
        with self._transaction() as connection:
            known = sorted(connection.execute(named).scalars())
            if known and model not in known:
                return Owner(1, contract, ", ".join(known), datetime.now(UTC))
            self._insert_once(connection, owner, Owner(1, contract, model, datetime.now(UTC)))
        return self.owner() or Owner(1, contract, model, datetime.now(UTC))
