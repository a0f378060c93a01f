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
from churn.foundation.spread import ONE_CORE
from churn.foundation.storage import Storage
from churn.intake.acceptance import BatchRejected, accept_batch
from churn.intake.label_files import (
    LABELS,
    LEAVERS,
    ROWS,
    Completeness,
    contract_of,
    join_periods,
    kind_of,
    known_periods,
)
from churn.intake.label_rules import completeness_of
from churn.intake.statements import Said, Statements, read_statements
from churn.learning.snapshot import scan_counted, take_snapshot
from support.divisions import HERE, limits
from support.panels import HORIZON, PANEL, at_noon

SAMPLING = Sampling(b"a salt of sixteen bytes or more", HERE)
JANUARY, FEBRUARY, MARCH = date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 5)
numbers = count(1)


def take_in(storage: Storage, ledger: Ledger, text: str, day: date) -> Batch:
    """Let a file arrive on a day, and judge it."""
    name = f"originals/{next(numbers):064x}"
    with storage.writing(name) as stream:
        stream.write(text.encode())
    batch = name.partition("/")[2]
    ledger.add_batch(batch, f"{day}.csv", len(text), at_noon(day))
    return accept_batch(batch, "night", storage, ledger, PANEL, limits())


def rows_text(customers: Sequence[int], days: Sequence[date], label: str = "") -> str:
    lines = [f"{who},{day},{who % 7}.5,segment {who % 3},{label}" for day in days for who in customers]
    return "\n".join(["Customer,AsOf,Balance,Segment,Left", *lines]) + "\n"


def leavers_text(
    leavers: Sequence[tuple[int, date]],
    through: date | None = None,
    rows: int | None = None,
    begin: date | None = None,
) -> str:
    if through is None:
        return "\n".join(["Customer,event_date", *(f"{who},{day}" for who, day in leavers)]) + "\n"
    about = f"{through},{len(leavers) if rows is None else rows}{f',{begin}' if begin else ''}"
    header = f"Customer,event_date,complete_through,rows{',complete_from' if begin else ''}"
    return "\n".join([header, *(f"{who},{day},{about}" for who, day in leavers)]) + "\n"


def snap(storage: Storage, ledger: Ledger, cutoff: date) -> Snapshot:
    return take_snapshot(storage, ledger, PANEL, SAMPLING, cutoff=cutoff)


@pytest.fixture
def final(storage: Storage, ledger: Ledger) -> None:
    """300 rows of November with final labels."""
    final = [
        rows_text(range(1000, 1240), [date(2025, 11, 1)], "0"),
        rows_text(range(1240, 1300), [date(2025, 11, 1)], "1"),
    ]
    take_in(storage, ledger, final[0] + final[1].split("\n", 1)[1], JANUARY)


@pytest.fixture
def early(storage: Storage, ledger: Ledger, final: None) -> None:
    """200 customers in January and February, sent before their labels, and the final rows of November."""
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
        ("no count", "has no value in rows"),
        ("no date", "has no value in complete_through"),
        ("future", "which is after its arrival"),
        ("future event", "1 of its events are dated later, the latest on 2031-01-15"),
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
    if change == "no date":
        text = text.replace(f",{through},40", ",,40")
    if change == "future event":
        text = leavers_text([*left[:-1], (40, date(2031, 1, 15))], through)
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
def test_rows_that_a_complete_file_does_not_name_count_as_stayed(storage: Storage, ledger: Ledger) -> None:
    """The next file is compared with the share of events of all rows whose label is final, and not of those that were named."""
    for month, day in ((JANUARY, MARCH), (FEBRUARY, MARCH + timedelta(31))):
        left = [(who, month + timedelta(1 + who % HORIZON)) for who in range(1, 41)]
        through = month + timedelta(HORIZON)
        take_in(storage, ledger, leavers_text(left, through), day)
        snap(storage, ledger, day)
    assert len(ledger.batches(state="accepted")) == 5


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
    batch = take_in(storage, ledger, few, MARCH)
    assert [said for said in batch.warnings or [] if said.startswith("4 labels contradict what was known")]
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


@pytest.mark.parametrize("parts", [1, 2])
def test_a_statement_is_the_same_on_each_row(parts: int, tmp_path: Path) -> None:
    """Otherwise the file says nothing, whatever part the other row is in."""
    said = {"complete_from": [JANUARY, JANUARY], "complete_through": [MARCH, MARCH], "rows": [2, 2]}
    for change, stated in (
        ({}, Completeness(JANUARY, MARCH, 2)),
        ({"complete_from": pa.nulls(2, pa.date32())}, Completeness(None, MARCH, 2)),
        ({"complete_from": [None, JANUARY]}, Completeness(JANUARY, MARCH, 2)),
        ({"complete_from": [JANUARY, FEBRUARY]}, None),
        ({"complete_through": [MARCH, FEBRUARY]}, None),
        ({"rows": [2, 3]}, None),
        ({"rows": [2, None]}, None),
    ):
        rows = pa.table({"event_date": [JANUARY, MARCH], **said, **change})
        files = [tmp_path / f"leavers-{number}.parquet" for number in range(parts)]
        for number, file in enumerate(files):
            pq.write_table(rows.slice(number, 2 // parts), file)
        assert completeness_of(read_statements(ONE_CORE, files, MARCH), []) == stated


def test_the_rows_of_leavers_are_read_once(tmp_path: Path) -> None:
    """How many say something of the file, through when, and how many events lie ahead; a part may have no row."""
    file, empty = tmp_path / "some.parquet", tmp_path / "none.parquet"
    rows = pa.table(
        {
            "event_date": [JANUARY, MARCH, MARCH],
            "complete_from": pa.nulls(3, pa.date32()),
            "complete_through": [None, FEBRUARY, MARCH],
            "rows": pa.array([None, None, 3], pa.int64()),
        }
    )
    pq.write_table(rows, file)
    pq.write_table(rows.slice(0, 0), empty)
    for files in ([file], [file, empty], [empty, file]):
        assert read_statements(ONE_CORE, files, MARCH - timedelta(2)) == Statements(
            rows=3,
            silent=1,
            complete_from=Said(0),
            complete_through=Said(2, FEBRUARY, MARCH),
            row_count=Said(1, 3, 3),
            event_date=Said(3, JANUARY, MARCH),
            ahead=2,
        )
    assert read_statements(ONE_CORE, [file], MARCH - timedelta(1)).ahead == 0


def test_periods_that_follow_one_another_are_one() -> None:
    days = [JANUARY + timedelta(day) for day in range(10)]
    assert join_periods([(days[3], days[5]), (days[0], days[2])]) == ((days[0], days[5]),)
    assert join_periods([(days[0], days[8]), (days[2], days[3])]) == ((days[0], days[8]),)
    assert join_periods([(days[0], days[2]), (days[4], days[5])]) == ((days[0], days[2]), (days[4], days[5]))
    assert join_periods([(days[5], days[4])]) == ()
    assert join_periods([(days[0], date.max), (days[4], days[5])]) == ((days[0], date.max),)
    assert join_periods([(date.min, days[1]), (days[2], date.max)]) == ((date.min, date.max),)


MONTHS = [date(2026, month, 1) for month in range(1, 7)]


def monthly_leavers(month: int) -> str:
    """A fifth of 200 customers of each as-of date leave in its horizon; the file of a month has those of that month."""
    day = MONTHS[month]
    left = [(2000 + 1000 * month + who, day + timedelta(1 + who % HORIZON)) for who in range(1, 41)]
    return leavers_text(left, MONTHS[month + 1] - timedelta(1))


def land_months(storage: Storage, ledger: Ledger) -> None:
    """Rows of four months, each with customers of its own and without labels."""
    for month, day in enumerate(MONTHS[:4]):
        customers = range(2000 + 1000 * month + 1, 2000 + 1000 * month + 201)
        take_in(storage, ledger, rows_text(customers, [day]), day)


@pytest.mark.usefixtures("final")
def test_files_of_several_months_may_arrive_in_one_night(storage: Storage, ledger: Ledger) -> None:
    """Each is compared with the rows that the files before it made final, although no snapshot has them yet."""
    land_months(storage, ledger)
    for month in range(4):
        take_in(storage, ledger, monthly_leavers(month), date(2026, 6, 1))
    snapshot = snap(storage, ledger, date(2026, 6, 1))
    assert snapshot.complete == ["2025-11-01", *map(str, MONTHS[:3])]  # the horizon of April ends in May
    assert not any(batch.warnings for batch in ledger.batches(state="accepted") if batch.kind == LEAVERS)


@pytest.mark.usefixtures("final")
@pytest.mark.parametrize("how", ["rejected", "withdrawn"])
def test_a_file_of_leavers_that_is_missing_makes_nobody_stay(storage: Storage, ledger: Ledger, how: str) -> None:
    """The dates whose horizon touches its days go on waiting, and later ones count, until it is sent again."""
    land_months(storage, ledger)
    take_in(storage, ledger, monthly_leavers(0), MARCH)
    lost = monthly_leavers(1)
    if how == "rejected":
        with pytest.raises(BatchRejected, match="says that it has 40 rows"):
            take_in(storage, ledger, lost.rsplit("\n", 9)[0] + "\n", MARCH + timedelta(20))
    else:
        ledger.withdraw(take_in(storage, ledger, lost, MARCH + timedelta(20)).batch, "withdrawn", "wrong")
    later = take_in(storage, ledger, monthly_leavers(2), date(2026, 4, 10))
    assert later.complete_from == "2026-03-01"
    assert len(later.warnings) == 1
    assert (
        "200 rows go on waiting for their labels: of the time from 2026-02-01 through 2026-02-28, no accepted"
        in later.warnings[0]
    )
    day = date(2026, 4, 20)
    assert snap(storage, ledger, day).complete == ["2025-11-01", "2026-01-01", "2026-03-01"]
    assert take_in(storage, ledger, lost, day).complete_from == "2026-02-01"
    assert known_periods(ledger.batches(state="accepted")) == ((date.min, date(2026, 3, 31)),)
    whole = snap(storage, ledger, day)
    assert whole.complete == ["2025-11-01", *map(str, MONTHS[:3])]
    with storage.scratch() as folder, columnar.engine("100MB") as connection:
        scan_counted(connection, "counted", storage, whole, PANEL, range(100), folder)
        found = connection.sql('SELECT "AsOf", sum("Left") FROM counted GROUP BY ALL ORDER BY ALL').fetchall()
    assert [events for _, events in found] == [60, 40, 40, 40]


@pytest.mark.usefixtures("final")
def test_a_file_may_say_from_when_it_is_complete(storage: Storage, ledger: Ledger) -> None:
    """Then a time before it of which nothing is known is a gap, and a file that covers it closes it."""
    land_months(storage, ledger)
    march = monthly_leavers(2).replace("rows", "rows,complete_from", 1).replace(",40\n", ",40,2026-03-01\n")
    assert take_in(storage, ledger, march, date(2026, 4, 10)).complete_from == "2026-03-01"
    assert snap(storage, ledger, date(2026, 4, 20)).complete == ["2025-11-01", "2026-03-01"]
    both = [
        (2000 + 1000 * month + who, MONTHS[month] + timedelta(1 + who % HORIZON))
        for month in (0, 1)
        for who in range(1, 41)
    ]
    take_in(storage, ledger, leavers_text(both, date(2026, 2, 28), begin=JANUARY), date(2026, 4, 21))
    assert snap(storage, ledger, date(2026, 4, 21)).complete == ["2025-11-01", *map(str, MONTHS[:3])]


@pytest.mark.usefixtures("final")
def test_rows_that_arrive_late_without_labels_wait_for_all_of_them(storage: Storage, ledger: Ledger) -> None:
    """A file of leavers gives some of them a label; if they counted by it, everybody of that date would have left."""
    take_in(storage, ledger, rows_text(range(1, 201), [JANUARY]), MARCH)
    left = [(who, JANUARY + timedelta(1 + who % HORIZON)) for who in range(1, 41)]
    take_in(storage, ledger, leavers_text(left), MARCH + timedelta(1))
    snapshot = snap(storage, ledger, MARCH + timedelta(2))
    assert (snapshot.rows, snapshot.waiting) == (300, {"2026-01-01": 200})
    take_in(storage, ledger, leavers_text(left, JANUARY + timedelta(HORIZON)), MARCH + timedelta(2))
    assert snap(storage, ledger, MARCH + timedelta(2)).rows == 500


@pytest.mark.usefixtures("early")
def test_a_label_of_today_does_not_undo_a_departure(storage: Storage, ledger: Ledger) -> None:
    """Rows that are sent again before their horizon has passed, with the flag that they have on that day; afterwards it is a correction."""
    left = [(who, JANUARY + timedelta(5)) for who in range(1, 41)]
    take_in(storage, ledger, leavers_text(left, JANUARY + timedelta(9)), JANUARY + timedelta(10))
    again = rows_text([1, 2, 3, 4], [JANUARY], "0") + rows_text(range(201, 261), [JANUARY]).split("\n", 1)[1]
    batch = take_in(storage, ledger, again, JANUARY + timedelta(11))
    assert [said for said in batch.warnings or [] if said.startswith("4 labels contradict what was known")]
    through = JANUARY + timedelta(HORIZON)
    rest = leavers_text([(41, JANUARY + timedelta(20))], through, begin=JANUARY + timedelta(10))
    take_in(storage, ledger, rest, MARCH)
    assert leavers_of(storage, snap(storage, ledger, MARCH)) == 41
    take_in(storage, ledger, f"Customer,AsOf,Left\n4,{JANUARY},0\n", MARCH + timedelta(1))
    assert leavers_of(storage, snap(storage, ledger, MARCH + timedelta(1))) == 40


def leavers_of(storage: Storage, snapshot: Snapshot) -> int:
    """The rows of January that count, with the event."""
    with storage.scratch() as folder, columnar.engine("500MB") as connection:
        scan_counted(connection, "counted", storage, snapshot, PANEL, range(columnar.BUCKETS), folder)
        ((events,),) = connection.execute('SELECT sum("Left") FROM counted WHERE "AsOf" = ?', [JANUARY]).fetchall()
    return int(events)


@pytest.mark.usefixtures("final")
def test_labels_and_events_may_be_there_before_their_rows(storage: Storage, ledger: Ledger) -> None:
    """What the snapshot knows of customers whose rows had not arrived counts when those are compared."""
    left = [(who, JANUARY + timedelta(1 + who % HORIZON)) for who in range(1, 31)]
    take_in(storage, ledger, leavers_text(left), MARCH)
    labels = (
        "\n".join(["Customer,AsOf,Left", *(f"{who},{JANUARY},{int(who % 5 == 0)}" for who in range(31, 41))]) + "\n"
    )
    take_in(storage, ledger, labels, MARCH)
    snap(storage, ledger, MARCH)
    take_in(storage, ledger, rows_text(range(1, 201), [JANUARY]), MARCH + timedelta(1))
    few = leavers_text([(200, JANUARY + timedelta(1))], JANUARY + timedelta(HORIZON))
    batch = take_in(storage, ledger, few, MARCH + timedelta(2))  # with the 32 that are known, a sixth has left
    assert batch.state == "accepted"
    assert snap(storage, ledger, MARCH + timedelta(2)).rows == 500


@pytest.mark.usefixtures("final")
def test_labels_of_one_night_are_compared_with_each_other(storage: Storage, ledger: Ledger) -> None:
    """A file that contradicts another one that no snapshot has yet is found."""
    take_in(storage, ledger, rows_text(range(1, 201), [JANUARY], ""), JANUARY)
    labels = [f"{who},{JANUARY},{int(who % 5 == 0)}" for who in range(1, 201)]
    take_in(storage, ledger, "\n".join(["Customer,AsOf,Left", *labels]) + "\n", MARCH)
    other = [f"{who},{JANUARY},{int(who % 5 == 1)}" for who in range(1, 201)]
    with pytest.raises(BatchRejected, match="contradict a final label"):
        take_in(storage, ledger, "\n".join(["Customer,AsOf,Left", *other]) + "\n", MARCH)


@pytest.mark.usefixtures("final")
def test_a_file_of_leavers_may_be_complete_from_the_first_day_of_the_calendar(storage: Storage, ledger: Ledger) -> None:
    """There is no day before it, and so no gap."""
    take_in(storage, ledger, rows_text(range(1, 201), [JANUARY]), JANUARY)
    leavers = [(who, JANUARY + timedelta(1)) for who in range(1, 41)]
    batch = take_in(storage, ledger, leavers_text(leavers, JANUARY + timedelta(HORIZON), begin=date.min), MARCH)
    assert (batch.state, batch.complete_from, batch.warnings) == ("accepted", "0001-01-01", [])


@pytest.mark.parametrize("day", ["0000-01-01", "0000-12-31", "2026-02-30"])
def test_a_day_that_no_calendar_has_is_not_a_date(storage: Storage, ledger: Ledger, day: str) -> None:
    """The year 0 is none: neither Python nor ISO 8601 without an agreement has it."""
    rows = [f"{who},{day if who == 7 else JANUARY},1.5,segment 0," for who in range(1, 101)]
    batch = take_in(storage, ledger, "\n".join(["Customer,AsOf,Balance,Segment,Left", *rows]) + "\n", JANUARY)
    assert (batch.accepted_rows, batch.quarantined_rows) == (99, 1)
    assert batch.rules == [["AsOf.type", 1, [8]]]
