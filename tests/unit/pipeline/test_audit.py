"""The audit covers everything that the data root should contain."""

from __future__ import annotations

from unittest.mock import Mock

from churn.contracts.bank import BANK_CHURN
from churn.foundation.ledger import Ledger
from churn.foundation.paths import accepted, decision_rows, original, snapshot_rows
from churn.foundation.storage import Storage
from churn.intake.acceptance import accept_batch
from churn.intake.arrival import collect_arrivals
from churn.pipeline.audit import audit_data
from support.basics import small_file
from support.divisions import HERE, limits


def test_batches_snapshots_and_evidence_are_checked(ledger: Ledger, storage: Storage) -> None:
    """A folder that the ledger does not know, in any of the zones, is a finding where files of batches are concerned."""
    clients = Mock(storage=storage, ledger=ledger, settings=Mock(model_name="churn"))
    assert audit_data(clients) == []
    for folder in (accepted("a" * 64), snapshot_rows("b" * 64), decision_rows("c" * 64)):
        with storage.writing(f"{folder}/part-0000.parquet") as stream:
            stream.write(b"x")
    assert audit_data(clients) == [f"accepted/{'a' * 64}/part-0000.parquet: the ledger has no such batch."]


def test_files_are_read_by_the_workers_and_damage_is_found(ledger: Ledger, storage: Storage) -> None:
    """Originals and parts are hashed once each, by the workers, and a changed byte is a finding."""
    with storage.writing("landing/rows.csv") as stream:
        stream.write(small_file().encode())
    (batch,) = collect_arrivals(storage, ledger).batches
    accept_batch(batch.batch, "night", storage, ledger, BANK_CHURN, limits(1))
    spread = Mock(wraps=HERE)
    clients = Mock(storage=storage, ledger=ledger, settings=Mock(model_name="churn"), spread=spread)
    assert audit_data(clients, hashes=True) == []
    (call,) = spread.each.call_args_list
    read = call.args[1]
    assert read[0] == original(batch.batch)
    assert {name.rpartition("/")[0] for name in read} >= {"originals", accepted(batch.batch)}
    with storage.writing(original(batch.batch)) as stream:
        stream.write(b"x")
    assert audit_data(clients, hashes=True) == [
        f"Batch {batch.batch[:12]} (rows.csv): its original has been changed since it arrived."
    ]
