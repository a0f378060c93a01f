"""The audit covers everything that the data root should contain."""

from __future__ import annotations

from unittest.mock import Mock

from churn.foundation.ledger import Ledger
from churn.foundation.paths import accepted, decision_rows, snapshot_rows
from churn.foundation.storage import Storage
from churn.pipeline.audit import audit_data


def test_batches_snapshots_and_evidence_are_checked(ledger: Ledger, storage: Storage) -> None:
    """A folder that the ledger does not know, in any of the zones, is a finding where files of batches are concerned."""
    clients = Mock(storage=storage, ledger=ledger, settings=Mock(model_name="churn"))
    assert audit_data(clients) == []
    for folder in (accepted("a" * 64), snapshot_rows("b" * 64), decision_rows("c" * 64)):
        with storage.writing(f"{folder}/part-0000.parquet") as stream:
            stream.write(b"x")
    assert audit_data(clients) == [f"accepted/{'a' * 64}/part-0000.parquet: the ledger has no such batch."]
