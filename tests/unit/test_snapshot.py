"""A snapshot is the latest row of every customer, and nobody moves between its buckets."""

import hashlib
import hmac

import pytest

from churn.contract import BANK_CHURN
from churn.errors import NothingToDo
from churn.foundation.ledger import Ledger
from churn.foundation.storage import Storage
from churn.intake.acceptance import accept_batch
from churn.intake.arrival import collect_arrivals
from churn.intake.table_rules import IntakeLimits
from churn.learning.snapshot import Sampling, Snapshot, holdout_rows, take_snapshot, training_rows
from support import small_file

SAMPLING = Sampling(b"a salt of sixteen bytes or more", "500MB")


def take_in(storage: Storage, ledger: Ledger, text: str) -> None:
    with storage.writing("landing/batch.csv") as stream:
        stream.write(text.encode())
    for batch in collect_arrivals(storage, ledger).batches:
        accept_batch(batch.batch, "night", storage, ledger, BANK_CHURN, IntakeLimits(0.05, "500MB"))


def with_credit_score(text: str, score: int) -> str:
    header, *lines = text.splitlines()
    column = header.split(",").index("CreditScore")
    cells = [line.split(",") for line in lines]
    return "\n".join([header, *(",".join([*row[:column], str(score), *row[column + 1 :]]) for row in cells)])


def snap(storage: Storage, ledger: Ledger, sampling: Sampling = SAMPLING) -> Snapshot:
    return take_snapshot(storage, ledger, BANK_CHURN, sampling)


def test_nothing_accepted_is_nothing_to_do(storage: Storage, ledger: Ledger) -> None:
    """Without an accepted batch there is no snapshot."""
    with pytest.raises(NothingToDo, match="churn land"):
        snap(storage, ledger)


def test_buckets_are_a_keyed_hash_of_the_customer(storage: Storage, ledger: Ledger) -> None:
    """HMAC-SHA256 of the id modulo 100: 0-19 holdout, 20-24 reserve, the rest training."""
    take_in(storage, ledger, small_file())
    snapshot = snap(storage, ledger)

    def bucket(customer: int) -> int:
        return int(hmac.new(SAMPLING.salt, str(customer).encode(), hashlib.sha256).hexdigest()[:8], 16) % 100

    holdout, training = holdout_rows(storage, snapshot), training_rows(storage, snapshot)
    assert all(bucket(customer) < 20 for customer in holdout["CustomerId"])
    assert all(bucket(customer) >= 25 for customer in training["CustomerId"])
    assert (len(holdout), len(training)) == (snapshot.holdout_rows, snapshot.training_rows)
    assert 0 < snapshot.rows - len(holdout) - len(training) < snapshot.rows / 10


def test_nobody_moves_between_nights(storage: Storage, ledger: Ledger) -> None:
    """A customer of the first night's holdout is in the second night's, and never trained on."""
    take_in(storage, ledger, small_file())
    before = set(holdout_rows(storage, snap(storage, ledger))["CustomerId"])
    take_in(storage, ledger, small_file(first_customer=401, seed=8))
    later = snap(storage, ledger)
    assert before <= set(holdout_rows(storage, later)["CustomerId"])
    assert not before & set(training_rows(storage, later)["CustomerId"])


def test_the_latest_row_of_a_customer_wins(storage: Storage, ledger: Ledger) -> None:
    """A customer who is sent again is there once, with the newer row."""
    take_in(storage, ledger, small_file())
    take_in(storage, ledger, with_credit_score(small_file(), 700))
    snapshot = snap(storage, ledger)
    assert snapshot.rows == 400
    assert set(training_rows(storage, snapshot)["CreditScore"]) == {700}


def test_the_same_rows_are_the_same_snapshot(storage: Storage, ledger: Ledger) -> None:
    """Taken twice, one name and one ledger row; a duplicate batch does not change it."""
    take_in(storage, ledger, small_file())
    first, second = snap(storage, ledger), snap(storage, ledger)
    assert first.snapshot == second.snapshot
    assert ledger.snapshot(first.snapshot) is not None


def test_other_rows_or_another_salt_are_another_snapshot(storage: Storage, ledger: Ledger) -> None:
    """One changed cell or another salt changes the name."""
    take_in(storage, ledger, small_file())
    first = snap(storage, ledger)
    other = snap(storage, ledger, Sampling(b"another salt, also long enough", "500MB"))
    take_in(storage, ledger, with_credit_score(small_file(), 700))
    assert len({first.snapshot, other.snapshot, snap(storage, ledger).snapshot}) == 3
    assert first.salt_fingerprint != other.salt_fingerprint
