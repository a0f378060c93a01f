"""A batch that is compared with the history on other machines gives the same answer as on this one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest

from churn.contract import Contract
from churn.contracts.bank import BANK_CHURN
from churn.errors import ChurnError
from churn.foundation import columnar
from churn.foundation.ledger import Ledger
from churn.foundation.parts import PartFault, part_names
from churn.foundation.paths import accepted, original, snapshot_rows
from churn.foundation.records import Batch
from churn.foundation.sampling import Sampling
from churn.foundation.storage import Storage
from churn.intake import acceptance
from churn.intake.acceptance import BatchRejected, accept_batch
from churn.intake.history import Compared, Known, Question, compare_here
from churn.intake.history_apart import can_compare_apart, compare_apart
from churn.intake.judged_rows import Judged
from churn.learning.snapshot import take_snapshot
from support.basics import small_file
from support.divisions import SALT, Apart, limits
from support.panels import PANEL, at_noon

APART = Apart(2, "500MB")
SAMPLING = Sampling(SALT, APART)
AnswersOf = Callable[[str, date, Contract], list[Compared]]


@pytest.fixture
def answers_of(storage: Storage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> AnswersOf:
    """Judge a file whose comparison is made in both ways, which must agree; returns the answers, if any was needed."""
    answers, numbers = list[Compared](), count(1)

    def both(
        known: Known, judged: Judged, question: Question, kind: str, sampling: Sampling, scratch: Path, sample: int
    ) -> Compared:
        apart = compare_apart(known, judged, question, kind, sampling, scratch, sample)
        with columnar.engine("500MB") as connection:
            here = compare_here(connection, known, judged, question, sample)
        tables = {"before": pa.table({}), "now": pa.table({})}
        assert replace(apart, **tables) == replace(here, **tables)
        for mine, other in ((apart.before, here.before), (apart.now, here.now)):
            by = [(name, "ascending") for name in mine.column_names]
            assert (mine.sort_by(by) if by else mine) == (other.sort_by(by) if by else other)
        answers.append(apart)
        return apart

    monkeypatch.setattr(acceptance, "compare_apart", both)

    def judge(text: str, day: date, contract: Contract) -> list[Compared]:
        batch, before = f"{next(numbers):064x}", len(answers)
        with storage.writing(f"originals/{batch}") as stream:
            stream.write(text.encode())
        ledger.add_batch(batch, f"{day}.csv", len(text), at_noon(day))
        try:
            accepted: Batch | None = accept_batch(
                batch, "night", storage, ledger, contract, replace(limits(), spread=APART)
            )
        except BatchRejected:
            accepted = None
        assert (accepted is None) is ("rejected" in ledger.batches()[-1].state)
        return answers[before:]

    return judge


def test_batches_of_customers(storage: Storage, ledger: Ledger, answers_of: AnswersOf) -> None:
    """Without a snapshot, with one, and with newer batches; a poisoned one is rejected, and drift is measured on the same sample."""
    monday = date(2026, 3, 2)
    text = small_file(2000)
    assert answers_of(text, monday, BANK_CHURN) == []
    header, *lines = text.splitlines()
    place = header.split(",").index("Exited")
    changed = [line.split(",") for line in lines[:600]]
    for cells in changed[:90]:
        cells[place] = "0"
    again = "\n".join([header, *(",".join(cells) for cells in changed)]) + "\n"
    (without_snapshot,) = answers_of(again, monday + timedelta(1), BANK_CHURN)
    assert without_snapshot.customers == 600
    assert 0 < without_snapshot.relabelled < 90
    take_snapshot(storage, ledger, BANK_CHURN, SAMPLING)
    (with_snapshot,) = answers_of(small_file(1500, seed=8, older_share=0.5), monday + timedelta(2), BANK_CHURN)
    assert with_snapshot.customers == 1500
    assert (with_snapshot.before.num_rows, with_snapshot.now.num_rows) == (2000, 1500)
    assert with_snapshot.changed > 0  # another person under a known key


def test_rows_labels_and_leavers(storage: Storage, ledger: Ledger, answers_of: AnswersOf) -> None:
    """Of a panel: what a file of leavers relabels, completes and does not know, before and after a snapshot."""
    january = date(2026, 1, 1)

    def rows(customers: range, day: date, label: str) -> str:
        lines = [f"{who},{day},{who % 7}.5,segment {who % 3},{label}" for who in customers]
        return "\n".join(["Customer,AsOf,Balance,Segment,Left", *lines]) + "\n"

    def leavers(who: range, day: date, through: date) -> str:
        lines = [f"{one},{day},{through},{len(who)}" for one in who]
        return "\n".join(["Customer,event_date,complete_through,rows", *lines]) + "\n"

    assert answers_of(rows(range(1, 200), january, "0"), january + timedelta(40), PANEL) == []
    (more,) = answers_of(rows(range(150, 400), january + timedelta(30), ""), january + timedelta(41), PANEL)
    assert (more.customers, more.before.num_rows) == (50, 199)
    (first,) = answers_of(
        leavers(range(180, 260), january + timedelta(35), january + timedelta(70)), january + timedelta(71), PANEL
    )
    assert first.leavers == columnar.LeaversCount(leavers=80, completed=250, events=80)
    take_snapshot(storage, ledger, PANEL, SAMPLING, cutoff=january + timedelta(80))
    labels = "Customer,AsOf,Left\n" + "".join(f"{who},{january},0\n" for who in range(1, 120))
    (told,) = answers_of(labels, january + timedelta(81), PANEL)
    assert told.final > 0
    (last,) = answers_of(
        leavers(range(390, 410), january + timedelta(75), january + timedelta(90)), january + timedelta(91), PANEL
    )
    assert (last.leavers.leavers, last.leavers.unknown) == (20, 10)


def test_other_salts_and_one_part_are_compared_here(storage: Storage, ledger: Ledger, answers_of: AnswersOf) -> None:
    """The parts of a snapshot under another salt have other customers than the regrouped rows would."""
    answers_of(small_file(300), date(2026, 3, 2), BANK_CHURN)
    take_snapshot(storage, ledger, BANK_CHURN, Sampling(b"another salt of sixteen bytes", APART))
    assert answers_of(small_file(300, seed=9), date(2026, 3, 3), BANK_CHURN) == []
    assert len(ledger.batches(state="accepted")) + len(ledger.batches(state="rejected")) == 2


@pytest.mark.parametrize(("parts", "salt", "apart"), [(20, SALT, True), (20, b"another", False), (1, SALT, False)])
def test_what_is_regrouped(storage: Storage, parts: int, salt: bytes, apart: bool) -> None:
    """A snapshot of an earlier version is one file, which no worker could read alone."""
    base = tuple(f"snapshots/x/part-{number}" for number in range(parts))
    fingerprint = Sampling(salt, APART).fingerprint
    known = Known(storage, base, 1, fingerprint, (), pa.table({"_batch": [1]}), (), (), (1,), 0)
    assert can_compare_apart(known, Judged(()), SAMPLING) is False  # no part is not work for others
    judged = Judged((None,))  # type: ignore[arg-type]
    assert can_compare_apart(known, judged, SAMPLING) is apart


@pytest.mark.parametrize("in_snapshot", [False, True])
def test_a_damaged_history_is_one_clear_error(storage: Storage, ledger: Ledger, *, in_snapshot: bool) -> None:
    """Before any row is sent: the file of an accepted batch, or a part of the snapshot, is named, and the batch waits."""
    first, second = small_file(), small_file(60, first_customer=5000)
    accept(storage, ledger, first, BANK_CHURN)
    if in_snapshot:
        snapshot = take_snapshot(storage, ledger, BANK_CHURN, SAMPLING)
        damaged = part_names(storage, snapshot_rows(snapshot.snapshot))[3]
    else:
        (damaged,) = part_names(storage, accepted(ledger.hashes("accepted")[0]))
    with storage.writing(damaged) as stream:
        stream.write(b"nothing")
    with pytest.raises(PartFault, match=f"{damaged} is damaged.*churn audit"):
        accept(storage, ledger, second, BANK_CHURN)
    assert len(ledger.hashes("arrived")) == 1


def test_rows_of_another_contract_are_refused_before_they_are_compared(storage: Storage, ledger: Ledger) -> None:
    """A data root that a contract with another key has filled: the same sentence as on one machine."""
    accept(storage, ledger, small_file(), BANK_CHURN)
    key = replace(BANK_CHURN.key, name="Account")
    other = replace(BANK_CHURN, name="other", columns=(key, *(c for c in BANK_CHURN.columns if c != BANK_CHURN.key)))
    text = small_file(100, first_customer=5000).replace("CustomerId", "Account")
    with pytest.raises(ChurnError, match=r"no column Account.*CHURN_LEDGER_URL"):
        accept(storage, ledger, text, other)
    assert [batch.state for batch in ledger.batches()] == ["accepted", "arrived"]


def accept(storage: Storage, ledger: Ledger, text: str, contract: Contract) -> None:
    """Accept a file whose rows are compared on other machines."""
    batch = hashlib.sha256(text.encode()).hexdigest()
    with storage.writing(original(batch)) as stream:
        stream.write(text.encode())
    ledger.add_batch(batch, "file.csv", len(text), at_noon(date(2026, 3, 2)))
    accept_batch(batch, "night", storage, ledger, contract, replace(limits(), spread=APART))
