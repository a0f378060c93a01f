"""Files of a panel, of labels and of leavers, from their bytes to their verdict."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn.errors import ChurnError, NothingToDo
from churn.foundation import columnar
from churn.foundation.ledger import Ledger
from churn.foundation.records import Batch, Snapshot
from churn.foundation.sampling import Sampling
from churn.foundation.spread import Here
from churn.foundation.storage import Storage
from churn.intake.acceptance import BatchRejected, accept_batch
from churn.intake.label_files import LABELS, LEAVERS, ROWS, Completeness, contract_of, kind_of
from churn.intake.label_rules import read_completeness
from churn.intake.table_rules import IntakeLimits
from churn.learning.snapshot import take_snapshot
from support.panels import HORIZON, PANEL, at_noon

SAMPLING = Sampling(b"a salt of sixteen bytes or more", Here(2, "500MB"))
JANUARY, FEBRUARY, MARCH = date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 5)
numbers = count(1)


def take_in(storage: Storage, ledger: Ledger, text: str, day: date) -> Batch:
    """Let a file arrive on a day, and judge it."""
    name = f"originals/{next(numbers):064x}"
    with storage.writing(name) as stream:
        stream.write(text.encode())
    batch = name.partition("/")[2]
    ledger.add_batch(batch, f"{day}.csv", len(text), at_noon(day))
    return accept_batch(batch, "night", storage, ledger, PANEL, IntakeLimits(0.05, Here(2, "500MB")))


def rows_text(customers: Sequence[int], days: Sequence[date], label: str = "") -> str:
    lines = [f"{who},{day},{who % 7}.5,segment {who % 3},{label}" for day in days for who in customers]
    return "\n".join(["Customer,AsOf,Balance,Segment,Left", *lines]) + "\n"


def leavers_text(leavers: Sequence[tuple[int, date]], through: date | None = None, rows: int | None = None) -> str:
    if through is None:
        return "\n".join(["Customer,event_date", *(f"{who},{day}" for who, day in leavers)]) + "\n"
    about = f"{through},{len(leavers) if rows is None else rows}"
    header = "Customer,event_date,complete_through,rows"
    return "\n".join([header, *(f"{who},{day},{about}" for who, day in leavers)]) + "\n"


def snap(storage: Storage, ledger: Ledger, cutoff: date) -> Snapshot:
    return take_snapshot(storage, ledger, PANEL, SAMPLING, cutoff=cutoff)


@pytest.fixture
def early(storage: Storage, ledger: Ledger) -> None:
    """200 customers in January and February, sent before their labels, and 300 final rows of December."""
    final = [
        rows_text(range(1000, 1240), [date(2025, 11, 1)], "0"),
        rows_text(range(1240, 1300), [date(2025, 11, 1)], "1"),
    ]
    take_in(storage, ledger, final[0] + final[1].split("\n", 1)[1], JANUARY)
    take_in(storage, ledger, rows_text(range(1, 201), [JANUARY]), JANUARY + timedelta(1))
    take_in(storage, ledger, rows_text(range(1, 201), [FEBRUARY]), FEBRUARY + timedelta(1))


def test_several_dates_of_a_customer_are_no_conflict(storage: Storage, ledger: Ledger) -> None:
    """Twenty-four dates of each; the same row again is a duplicate, and another one for the same date a conflict."""
    days = [JANUARY + timedelta(31 * month) for month in range(24)]
    text = rows_text(range(1, 101), days, "0") + f"5,{days[0]},5.5,segment 2,0\n7,{days[3]},9.5,segment 1,0\n"
    batch = take_in(storage, ledger, text, date(2028, 3, 1))
    assert (batch.arrived_rows, batch.accepted_rows, batch.quarantined_rows) == (2402, 2399, 3)
    assert {rule: rows for rule, rows, _ in batch.rules or []} == {"record.conflict": 2, "record.duplicate": 1}
    snapshot = snap(storage, ledger, date(2028, 3, 1))
    assert snapshot.rows + sum((snapshot.waiting or {}).values()) == 2399


def test_a_header_tells_the_kind_of_a_file() -> None:
    assert kind_of(PANEL.names, PANEL) == ROWS
    assert kind_of(["Customer", "AsOf", "Left", "note"], PANEL) == LABELS
    assert kind_of(["event_date", "Customer"], PANEL) == LEAVERS
    assert kind_of(["Customer", "Left"], PANEL) == ROWS  # and so a file that lacks columns
    without = PANEL.__class__(
        PANEL.name,
        tuple(column for column in PANEL.columns if column.name not in {"AsOf", "Left"}),
        labelled=False,
    )
    assert kind_of(["Customer", "AsOf", "Left"], without) == ROWS
    assert contract_of(LABELS, PANEL)["Left"].nullable is False
    assert contract_of(ROWS, PANEL) is PANEL


@pytest.mark.usefixtures("early")
def test_labels_come_apart(storage: Storage, ledger: Ledger) -> None:
    """A file of labels is a batch: judged, counted, withdrawn and restored like any other."""
    lines = [f"{who},{JANUARY},{int(who % 5 == 0)}" for who in range(1, 201)]
    text = "\n".join(["Customer,AsOf,Left", *lines, f"3,{JANUARY},1", "x,2026-01-01,1"]) + "\n"
    batch = take_in(storage, ledger, text, MARCH)
    assert (batch.kind, batch.arrived_rows, batch.accepted_rows, batch.quarantined_rows) == (LABELS, 202, 199, 3)
    with pytest.raises(BatchRejected, match="No row can be accepted"):
        take_in(storage, ledger, "Customer,AsOf,Left\n1,2026-01-01,\n", MARCH)
    assert snap(storage, ledger, MARCH).rows == 300  # one label of January is missing
    take_in(storage, ledger, f"Customer,AsOf,Left\n3,{JANUARY},0\n", MARCH + timedelta(1))
    complete = snap(storage, ledger, MARCH + timedelta(1))
    assert (complete.rows, complete.complete) == (500, ["2025-11-01", "2026-01-01"])
    assert batch.batch in complete.batches
    ledger.withdraw(batch.batch, "withdrawn", "wrong")
    assert snap(storage, ledger, MARCH + timedelta(1)).rows == 300


@pytest.mark.usefixtures("early")
def test_leavers_complete_their_dates(storage: Storage, ledger: Ledger) -> None:
    """Everyone whom a complete file does not name has stayed."""
    left = [(who, JANUARY + timedelta(1 + who % HORIZON)) for who in range(1, 41)]
    through = JANUARY + timedelta(HORIZON)
    batch = take_in(storage, ledger, leavers_text(left, through), MARCH)
    assert (batch.kind, batch.complete_through) == (LEAVERS, str(through))
    assert snap(storage, ledger, MARCH).rows == 500


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("truncated", "says that it has 40 rows, and 25 arrived"),
        ("one statement", "does not say the same on each row"),
        ("no count", "does not say the same on each row"),
        ("future", "which is after its arrival"),
        ("faulty", "1 rows of the file of leavers broke a rule"),
        ("few", "compared with 20.0% before"),
    ],
)
def test_a_leavers_file_that_lost_something_makes_nobody_stay(
    storage: Storage, ledger: Ledger, change: str, words: str
) -> None:
    """It is rejected whole, and the rows of its dates go on waiting."""
    through = JANUARY + timedelta(HORIZON)
    left = [(who, JANUARY + timedelta(1 + who % HORIZON)) for who in range(1, 41)]
    text = leavers_text(left, through)
    if change == "truncated":
        text = "\n".join(text.split("\n")[:26]) + "\n"
    if change == "one statement":
        text = text.replace(f"{through},40\n40,", f"{through - timedelta(1)},40\n40,")
    if change == "no count":
        text = text.replace(f"{through},40", f"{through},")
    if change == "future":
        text = leavers_text(left, MARCH + timedelta(1))
    if change == "faulty":
        text = leavers_text(left[:-1], through, rows=40) + "40,yesterday," + f"{through},40\n"
    if change == "few":
        text = leavers_text(left[:8], through)
    with pytest.raises((BatchRejected, ChurnError), match=words):
        take_in(storage, ledger, text, MARCH)
    assert snap(storage, ledger, MARCH).rows == 300


@pytest.mark.usefixtures("early")
def test_leavers_without_a_statement_are_events_and_complete_nothing(storage: Storage, ledger: Ledger) -> None:
    batch = take_in(storage, ledger, leavers_text([(1, JANUARY + timedelta(3))]), MARCH)
    assert (batch.kind, batch.complete_through) == (LEAVERS, None)
    assert snap(storage, ledger, MARCH).rows == 300


@pytest.mark.usefixtures("early")
def test_labels_that_contradict_final_ones_are_limited(storage: Storage, ledger: Ledger) -> None:
    """A few are corrections, which the next snapshot has; many are a file that is wrong."""
    before = snap(storage, ledger, MARCH)
    few = "\n".join(["Customer,AsOf,Left", *(f"{who},2025-11-01,1" for who in range(1000, 1004))]) + "\n"
    many = (
        "\n".join(["Customer,AsOf,Left", *(f"{who},2025-11-01,{int(who < 1140)}" for who in range(1100, 1300))]) + "\n"
    )
    with pytest.raises(BatchRejected, match="contradict a final label"):
        take_in(storage, ledger, many, MARCH)
    take_in(storage, ledger, few.replace(",1\n", ",0\n", 3), MARCH)
    after = snap(storage, ledger, MARCH)
    assert after.snapshot != before.snapshot
    assert ledger.snapshot(before.snapshot) == before


def test_rows_without_labels_are_accepted_and_wait(storage: Storage, ledger: Ledger) -> None:
    """With an empty column, or with none."""
    take_in(storage, ledger, rows_text(range(1, 61), [JANUARY]), JANUARY)
    text = "\n".join(line.rsplit(",", 1)[0] for line in rows_text(range(61, 121), [JANUARY]).splitlines()) + "\n"
    assert take_in(storage, ledger, text, JANUARY).accepted_rows == 60
    with pytest.raises(NothingToDo, match="All 120 accepted rows wait for their labels"):
        snap(storage, ledger, MARCH)


def test_a_statement_is_the_same_on_each_row(tmp_path: Path) -> None:
    """Otherwise the file says nothing."""
    said = {"complete_through": [MARCH, MARCH], "rows": [2, 2]}
    for change, stated in (({}, Completeness(MARCH, 2)), ({"rows": [2, 3]}, None), ({"rows": [2, None]}, None)):
        file = tmp_path / "leavers.parquet"
        pq.write_table(pa.table({"event_date": [MARCH, MARCH], **said, **change}), file)
        with columnar.engine("100MB") as connection:
            assert read_completeness(connection, [file]) == stated
