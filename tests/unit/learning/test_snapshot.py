"""A snapshot is the latest row of every customer, and nobody moves between its buckets."""

import hashlib
import hmac
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import chi2_contingency

from churn.contract import Column, Contract, Kind, Role
from churn.contracts.bank import BANK_CHURN
from churn.errors import ChurnError, NothingToDo
from churn.foundation import columnar
from churn.foundation.columnar.draws import draw_parameters, draw_sql
from churn.foundation.ledger import Ledger
from churn.foundation.parts import part_names
from churn.foundation.paths import snapshot_rows
from churn.foundation.sampling import Sampling
from churn.foundation.storage import Storage
from churn.intake.acceptance import accept_batch
from churn.intake.arrival import collect_arrivals
from churn.learning.content import content_hash
from churn.learning.fitting import read_rows
from churn.learning.snapshot import TRAINING, Snapshot, drawn_training_rows, take_snapshot
from churn.learning.unseen import holdout_pieces
from support.basics import small_file
from support.divisions import HERE, limits

SAMPLING = Sampling(b"a salt of sixteen bytes or more", HERE)


def take_in(storage: Storage, ledger: Ledger, text: str, contract: Contract = BANK_CHURN) -> None:
    with storage.writing("landing/batch.csv") as stream:
        stream.write(text.encode())
    for batch in collect_arrivals(storage, ledger).batches:
        accept_batch(batch.batch, "night", storage, ledger, contract, limits())


def with_credit_score(text: str, score: int) -> str:
    header, *lines = text.splitlines()
    column = header.split(",").index("CreditScore")
    cells = [line.split(",") for line in lines]
    return "\n".join([header, *(",".join([*row[:column], str(score), *row[column + 1 :]]) for row in cells)])


def snap(storage: Storage, ledger: Ledger, sampling: Sampling = SAMPLING) -> Snapshot:
    return take_snapshot(storage, ledger, BANK_CHURN, sampling)


def holdout_rows(storage: Storage, snapshot: Snapshot) -> pd.DataFrame:
    return pd.concat(holdout_pieces(storage, snapshot, BANK_CHURN, 300))


def training_rows(storage: Storage, snapshot: Snapshot) -> pd.DataFrame:
    names = part_names(storage, snapshot_rows(snapshot.snapshot))
    rows = pd.concat([pd.read_parquet(storage.path(name)) for name in names])
    return rows[rows["_bucket"].isin(TRAINING)]


def test_nothing_accepted_is_nothing_to_do(storage: Storage, ledger: Ledger) -> None:
    """Without an accepted batch there is no snapshot."""
    with pytest.raises(NothingToDo, match="churn land"):
        snap(storage, ledger)


INCOME = Column("Income", Kind.NUMBER, Role.FEATURE, 0, 1e6)


@pytest.mark.parametrize(
    ("column", "rows"), [(INCOME, 400), (replace(INCOME, nullable=True), None)], ids=["required", "nullable"]
)
def test_a_column_that_only_some_customers_have_is_refused_unless_it_is_nullable(
    storage: Storage, ledger: Ledger, column: Column, rows: int | None
) -> None:
    """A file of the earlier contract, then one with the new column for other customers: the rows, and the choice."""
    take_in(storage, ledger, small_file())
    wider = replace(BANK_CHURN, columns=(*BANK_CHURN.columns, column))
    header, *lines = small_file(100, first_customer=5000).splitlines()
    take_in(storage, ledger, "\n".join([f"{header},Income", *(f"{line},1000" for line in lines)]), wider)
    if rows is None:
        assert take_snapshot(storage, ledger, wider, SAMPLING).rows == 500
        return
    with pytest.raises(ChurnError, match=r"Of 500 customers, 400 have no Income.*nullable.*withdraw HASH"):
        take_snapshot(storage, ledger, wider, SAMPLING)
    assert ledger.snapshots() == []


def test_rows_of_another_contract_are_refused_before_they_are_compared(storage: Storage, ledger: Ledger) -> None:
    """A data root that a contract with another key has filled: one sentence, and the next file is not judged."""
    take_in(storage, ledger, small_file())
    key = replace(BANK_CHURN.key, name="Account")
    other = replace(BANK_CHURN, name="other", columns=(key, *(c for c in BANK_CHURN.columns if c != BANK_CHURN.key)))
    text = small_file(100, first_customer=5000).replace("CustomerId", "Account")
    with pytest.raises(ChurnError, match=r"no column CustomerId|no column Account.*CHURN_LEDGER_URL"):
        take_in(storage, ledger, text, other)
    assert [batch.state for batch in ledger.batches()] == ["accepted", "arrived"]


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
    other = snap(storage, ledger, Sampling(b"another salt, also long enough", HERE))
    take_in(storage, ledger, with_credit_score(small_file(), 700))
    assert len({first.snapshot, other.snapshot, snap(storage, ledger).snapshot}) == 3
    assert first.salt_fingerprint != other.salt_fingerprint


def dated(text: str, day: str, score: int) -> str:
    """A file with an as-of column, and the same credit score in every row."""
    header, *lines = with_credit_score(text, score).splitlines()
    return "\n".join([f"{header},AsOf", *(f"{line},{day}" for line in lines)])


def test_a_late_file_does_not_overwrite_newer_rows(storage: Storage, ledger: Ledger) -> None:
    """Where the contract says when a row was true, January's file that arrives after March's is a row of its own, and an older one."""
    contract = replace(BANK_CHURN, columns=(*BANK_CHURN.columns, Column("AsOf", Kind.DATE, Role.AS_OF)))
    for day, score in (("2026-03-31", 700), ("2026-01-31", 600)):
        with storage.writing("landing/batch.csv") as stream:
            stream.write(dated(small_file(), day, score).encode())
        for batch in collect_arrivals(storage, ledger).batches:
            accept_batch(batch.batch, "night", storage, ledger, contract, limits())
    snapshot = take_snapshot(storage, ledger, contract, SAMPLING)
    assert (snapshot.rows, snapshot.holdout_rows * 10 < snapshot.rows * 2) == (800, True)
    held = pd.concat(holdout_pieces(storage, snapshot, contract, 300))
    assert set(held["CreditScore"]) == {700}
    newest = replace(contract, rows_per_customer=1)
    with drawn_training_rows(storage, snapshot, newest, SAMPLING, 10**6) as file:
        assert set(read_rows(file, 0, 10**6)["CreditScore"]) == {700}


def test_the_order_is_that_of_arrival_not_of_claiming(storage: Storage, ledger: Ledger, tmp_path: Path) -> None:
    """A file that arrived earlier and is claimed later does not overwrite the one that arrived after it."""
    for score, at in ((700, 2_000_000), (600, 1_000_000)):
        file = tmp_path / "data/landing/batch.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(with_credit_score(small_file(), score))
        os.utime(file, (at, at))
        for batch in collect_arrivals(storage, ledger).batches:
            accept_batch(batch.batch, "night", storage, ledger, BANK_CHURN, limits())
    assert set(training_rows(storage, snap(storage, ledger))["CreditScore"]) == {700}


def test_the_name_does_not_hang_on_how_the_file_is_written(tmp_path: Path) -> None:
    """Other row groups and another compression give the same hash; another value, order or absence do not."""
    table = pa.table({"key": [1, 2, 3], "text": ["a", None, "bc"], "number": [0.5, 0.0, None]})

    def named(rows: pa.Table, **options: object) -> str:
        pq.write_table(rows, tmp_path / "rows.parquet", **options)
        return content_hash(tmp_path / "rows.parquet", rows.column_names)

    name = named(table)
    assert named(table, row_group_size=1, compression="none") == name
    others = [
        table.take([1, 0, 2]),
        table.set_column(1, "text", [["a", "", "bc"]]),
        table.set_column(1, "text", [["ab", None, "c"]]),
        table.set_column(2, "number", [[0.5, 0.0, 0.0]]),
    ]
    assert len({name, *(named(other) for other in others)}) == 5


def test_training_reads_its_own_customers_in_the_order_of_a_draw(storage: Storage, ledger: Ledger) -> None:
    """The draw is HMAC-SHA256 of the label and the id; it has at most the rows that were asked for, and the same ones each time."""
    take_in(storage, ledger, small_file())
    snapshot = snap(storage, ledger)
    rows = training_rows(storage, snapshot)
    rows = rows.assign(draw=[_draw("training", customer) for customer in rows["CustomerId"]]).sort_values("draw")
    with drawn_training_rows(storage, snapshot, BANK_CHURN, SAMPLING, 50) as file:
        drawn = read_rows(file, 0, 50)
    assert list(drawn.columns) == [*BANK_CHURN.feature_names, "Exited"]
    assert drawn["EstimatedSalary"].tolist() == rows["EstimatedSalary"].tolist()[:50]
    assert drawn["Exited"].tolist() == rows["Exited"].tolist()[:50]


def test_the_draw_is_independent_of_the_bucket() -> None:
    """Of the customers in each group of buckets, each tenth of the draw has a tenth: chi-square with 9 x 9 degrees of freedom."""
    customers = range(20_000)
    buckets = [
        int(hmac.new(SAMPLING.salt, str(customer).encode(), hashlib.sha256).hexdigest()[:8], 16) % 100
        for customer in customers
    ]
    tenths = [_draw("training", customer) * 10 >> 64 for customer in customers]
    counts = np.zeros((10, 10))
    for bucket, tenth in zip(buckets, tenths, strict=True):
        counts[bucket // 10, tenth] += 1
    assert chi2_contingency(counts).pvalue > 0.001
    assert chi2_contingency(np.eye(10) * 2000 + 1).pvalue < 0.001  # a draw by the bits of the bucket


def test_the_draw_in_sql_is_the_one_that_is_tested_here() -> None:
    """HMAC-SHA256 (RFC 2104) of label, U+001F and key: its first 64 bits."""
    parameters = draw_parameters(SAMPLING.salt, "training")
    with columnar.engine("500MB") as connection:
        drawn = connection.execute(
            f"SELECT {draw_sql('key')} FROM (VALUES (1), (77)) AS keys(key)",  # noqa: S608
            parameters,
        ).fetchall()
    assert drawn == [(_draw("training", 1),), (_draw("training", 77),)]


def _draw(label: str, customer: int) -> int:
    message = f"{label}\x1f{customer}".encode()
    return int(hmac.new(SAMPLING.salt, message, hashlib.sha256).hexdigest()[:16], 16)
