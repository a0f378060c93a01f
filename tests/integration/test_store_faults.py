"""An object store that fails sometimes or permanently: limited retries, then one clear error, and no batch half accepted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from churn.contracts.bank import BANK_CHURN
from churn.foundation.ledger import Ledger
from churn.foundation.storage import Storage, StorageError
from churn.intake.acceptance import accept_batch
from churn.intake.arrival import collect_arrivals
from churn.intake.audit import find_losses
from support.basics import S3, small_file
from support.divisions import BYTES, limits
from support.faulty_store import Faulty, faulty_store, through

LIMITS = limits()


@pytest.fixture
def store(s3: S3) -> Iterator[Faulty]:
    with faulty_store(s3) as server:
        yield server


def accept_all(storage: Storage, ledger: Ledger) -> None:
    for batch in collect_arrivals(storage, ledger, part_size=BYTES).batches:
        accept_batch(batch.batch, "night", storage, ledger, BANK_CHURN, LIMITS)


def land(storage: Storage) -> None:
    with storage.writing("landing/day.csv") as stream:
        stream.write(small_file(200, faults=3).encode())


def test_occasional_errors_are_retried(store: Faulty, s3: S3, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fifth request fails, and the batch is accepted all the same."""
    with through(store, s3, monkeypatch, "now-and-then") as storage:
        land(storage)
        store.fails = lambda number: number % 5 == 0
        accept_all(storage, ledger)
        store.fails = lambda number: False
        assert store.failed >= 5
        (batch,) = ledger.batches()
        assert (batch.state, batch.accepted_rows, batch.quarantined_rows) == ("accepted", 197, 3)
        assert find_losses(storage, ledger, hashes=True) == []


@pytest.mark.parametrize("after", [0, 4, 12, 20])
def test_a_store_that_fails_permanently_is_one_error_and_no_batch_is_half_accepted(
    store: Faulty, s3: S3, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """From some request on, every answer is a 500: one clear error. Once the store works again, the counts are the same."""
    with through(store, s3, monkeypatch, f"for-good-{after}") as storage:
        land(storage)
        last_good = store.requests + after
        store.fails = lambda number: number > last_good
        with pytest.raises(StorageError, match="CHURN_DATA_ROOT"):
            accept_all(storage, ledger)
        assert store.failed > 1
        assert ledger.batches(state="accepted") == []
        store.fails = lambda number: False
        accept_all(storage, ledger)
        (batch,) = ledger.batches()
        assert (batch.state, batch.accepted_rows, batch.quarantined_rows) == ("accepted", 197, 3)
        assert storage.landed() == []
        assert find_losses(storage, ledger, hashes=True) == []


def test_a_store_that_does_not_answer_is_an_error(
    store: Faulty, s3: S3, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After repeated time-outs the step fails; it does not hang."""
    from churn.foundation import storage as module

    impatient = {"connect_timeout": 1, "read_timeout": 1, "retries": {"mode": "standard", "total_max_attempts": 2}}
    monkeypatch.setattr(module, "_S3", {"config_kwargs": impatient})
    with through(store, s3, monkeypatch, "hanging") as storage:
        land(storage)
        store.hangs, store.fails = 3.0, lambda number: True
        with pytest.raises(StorageError, match="CHURN_DATA_ROOT"):
            accept_all(storage, ledger)
        assert ledger.batches() == []
