"""The rules for a batch as a whole: what stops it, and what is only said."""

from __future__ import annotations

import pytest

from churn.contracts.bank import BANK_CHURN
from churn.foundation.ledger import Ledger
from churn.foundation.records import Batch
from churn.foundation.sampling import Sampling
from churn.foundation.storage import Storage
from churn.intake.acceptance import BatchRejected, accept_batch
from churn.intake.arrival import collect_arrivals
from churn.intake.table_rules import IntakeLimits
from churn.learning.snapshot import take_snapshot
from churn.sample.generator import Night, make_night
from support.basics import small_file
from support.divisions import BYTES, HERE, limits

LIMITS = limits()


def take_in(storage: Storage, ledger: Ledger, text: str, limits: IntakeLimits = LIMITS) -> Batch:
    with storage.writing("landing/batch.csv") as stream:
        stream.write(text.encode())
    (batch,) = collect_arrivals(storage, ledger, part_size=BYTES).batches
    return accept_batch(batch.batch, "night", storage, ledger, BANK_CHURN, limits)


def changed(text: str, column: str, change: object, rows: range) -> str:
    """The file with a column of some rows changed: a value, or a function of the cell."""
    header, *lines = text.splitlines()
    place = header.split(",").index(column)
    for row in rows:
        cells = lines[row].split(",")
        cells[place] = change(cells[place]) if callable(change) else str(change)
        lines[row] = ",".join(cells)
    return "\n".join([header, *lines]) + "\n"


def flipped(label: str) -> str:
    return "0" if label == "1" else "1"


@pytest.mark.parametrize("after_a_snapshot", [False, True], ids=["batches", "snapshot"])
def test_known_customers_with_flipped_labels_are_stopped(
    storage: Storage, ledger: Ledger, after_a_snapshot: bool
) -> None:
    """The poisoning drill: 1,000 known customers come again with flipped labels, and nothing is accepted."""
    known = make_night(BANK_CHURN, Night(rows=3000, first_customer=1, seed=3))
    take_in(storage, ledger, known)
    if after_a_snapshot:
        take_snapshot(storage, ledger, BANK_CHURN, Sampling(b"a salt of sixteen bytes or more", HERE))
    header, *lines = changed(known, "Exited", flipped, range(1000)).splitlines()
    with pytest.raises(
        BatchRejected,
        match=r"of 1,000 known customers are reported as “stayed” and were “left” before \(Exited from 1 to 0\)",
    ):
        take_in(storage, ledger, "\n".join([header, *lines[:1000]]))
    assert [batch.state for batch in ledger.batches()] == ["accepted", "rejected"]


def test_a_campaign_night_is_no_poison(storage: Storage, ledger: Ledger) -> None:
    """Many customers of a new kind, and some known ones who have left meanwhile, are accepted and warned of."""
    known = make_night(BANK_CHURN, Night(rows=1000, first_customer=1, seed=3, older_share=0.01))
    take_in(storage, ledger, known)
    campaign = make_night(BANK_CHURN, Night(rows=1400, first_customer=5000, seed=4, older_share=0.5))
    header, *lines = changed(known, "Exited", 1, range(300)).splitlines()
    batch = take_in(storage, ledger, campaign + "\n".join(lines[:300]) + "\n")
    assert (batch.state, batch.accepted_rows) == ("accepted", 1700)
    assert any("Age has drifted" in warning for warning in batch.warnings or [])
    assert header == campaign.splitlines()[0]


@pytest.mark.parametrize(
    ("column", "value"), [("Gender", lambda cell: {"Male": "Female"}.get(cell, "Male")), ("Surname", "Somebody")]
)
def test_a_mixed_up_file_is_stopped(storage: Storage, ledger: Ledger, column: str, value: object) -> None:
    """More than 2% of the known customers with another gender or surname: the columns have slipped."""
    known = small_file(400)
    take_in(storage, ledger, known)
    corrected = changed(known, column, value, range(8))  # 2 %
    take_in(storage, ledger, corrected)
    with pytest.raises(BatchRejected, match="9 of 400 known customers have a different Surname or Gender"):
        take_in(storage, ledger, changed(corrected, column, value, range(100, 109)))


def test_a_few_corrections_are_no_dispute(storage: Storage, ledger: Ledger) -> None:
    """Four of ten customers back from having left are corrections: too few to poison anything."""
    known = changed(small_file(400), "Exited", 1, range(10))
    take_in(storage, ledger, known)
    header, *lines = changed(known, "Exited", 0, range(4)).splitlines()
    assert take_in(storage, ledger, "\n".join([header, *lines[:10]])).state == "accepted"


def test_a_raised_limit_lets_a_rejected_batch_in(storage: Storage, ledger: Ledger) -> None:
    """A person who knows better raises the limit and has the batch judged again; the counts add up."""
    text = changed(small_file(400), "Geography", "Atlantis", range(100))
    with pytest.raises(BatchRejected, match="rejudge"):
        take_in(storage, ledger, text)
    (rejected,) = ledger.batches()
    assert ledger.reopen_batch(rejected.batch)
    batch = accept_batch(rejected.batch, "later", storage, ledger, BANK_CHURN, limits(0.3))
    assert (batch.state, batch.arrived_rows, batch.accepted_rows, batch.reason) == ("accepted", 400, 300, None)
    assert not ledger.reopen_batch(batch.batch)


def test_a_much_larger_batch_is_said(storage: Storage, ledger: Ledger) -> None:
    """More than three times the median of past batches is a warning, and goes on."""
    for number in range(3):
        take_in(storage, ledger, small_file(100, first_customer=1000 * number + 1, seed=number))
    usual = take_in(storage, ledger, small_file(290, first_customer=5001))
    large = take_in(storage, ledger, small_file(400, first_customer=6001))
    phrase = "times the median of past batches"
    assert [any(phrase in warning for warning in batch.warnings or []) for batch in (usual, large)] == [False, True]


def test_another_churn_rate_is_said(storage: Storage, ledger: Ledger) -> None:
    """Half as many, or twice as many, as before is a warning."""
    take_in(storage, ledger, small_file(400))
    batch = take_in(storage, ledger, changed(small_file(400, first_customer=1000, seed=9), "Exited", 1, range(350)))
    assert any("90.0% of the customers left (Exited = 1), compared with" in warning for warning in batch.warnings or [])


def test_one_class_in_a_few_rows_says_nothing(storage: Storage, ledger: Ledger) -> None:
    """Thirty repaired rows of one class are accepted; in fifty it is a fault of the export."""
    assert take_in(storage, ledger, changed(small_file(30), "Exited", 0, range(30))).accepted_rows == 30
    with pytest.raises(BatchRejected, match="all 60 rows"):
        take_in(storage, ledger, changed(small_file(60, first_customer=1000), "Exited", 0, range(60)))


def test_rows_without_a_label_wait(storage: Storage, ledger: Ledger) -> None:
    """They are set aside, do not count against the share, and come in when they are sent again with one."""
    text = small_file(400)
    batch = take_in(storage, ledger, changed(text, "Exited", "", range(200)))
    assert (batch.accepted_rows, batch.quarantined_rows, batch.unlabelled_rows) == (200, 200, 200)
    again = take_in(storage, ledger, text)
    assert (again.accepted_rows, again.quarantined_rows) == (400, 0)
    with pytest.raises(BatchRejected, match="all 400 are quarantined, 400 of them"):
        take_in(storage, ledger, changed(text, "Exited", "", range(400)))


def test_a_rejected_batch_is_named_in_the_command(storage: Storage, ledger: Ledger) -> None:
    """The person who reads the reason can copy the command; the count is of rows that broke a rule."""
    with pytest.raises(BatchRejected, match=r"100 of 400 rows broke a rule .* `churn batches rejudge [0-9a-f]{12}`"):
        take_in(storage, ledger, changed(small_file(400), "Age", -5, range(100)))
