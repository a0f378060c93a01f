"""Panels: rows of customers at several times, labels that come later, and which rows count."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn.decision.evidence_parts import contact_weights
from churn.errors import NothingToDo
from churn.foundation import columnar
from churn.foundation.ledger import Ledger
from churn.foundation.parts import read_manifest
from churn.foundation.paths import snapshot_rows
from churn.foundation.records import Snapshot
from churn.foundation.sampling import Sampling
from churn.foundation.storage import Storage
from churn.learning import snapshot as snapshots
from churn.learning.fitting import CUSTOMER, read_rows
from churn.learning.maturity import count_mask
from churn.learning.snapshot import (
    TRAINING,
    count_contacted,
    counts_others,
    drawn_training_rows,
    find_snapshot_differences,
    find_snapshot_faults,
    rebuild_snapshot,
    scan_counted,
    take_snapshot,
)
from churn.learning.snapshot_parts import compute_parts
from churn.learning.unseen import holdout_pieces
from churn.outcomes.states import due_dates
from churn.outcomes.treated import SCHEMA
from support.divisions import HERE
from support.panels import HORIZON, LABELS, LEAVERS, PANEL, PanelBatches

SAMPLING = Sampling(b"a salt of sixteen bytes or more", HERE)
JANUARY, FEBRUARY, MARCH = date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1)
CUSTOMERS = 300


@pytest.fixture
def batches(storage: Storage, ledger: Ledger, tmp_path: Path) -> PanelBatches:
    folder = tmp_path / "written"
    folder.mkdir()
    return PanelBatches(storage, ledger, folder)


def rows_of(random: np.random.Generator, day: date, count: int, label: str = "early") -> list[dict[str, Any]]:
    """Rows of distinct customers at a date; early ones have no label or a 0."""
    labels = {"early": lambda: None if random.random() < 0.5 else 0, "final": lambda: int(random.random() < 0.3)}
    return [
        {
            "Customer": number + 1,
            "AsOf": day,
            "Balance": float(random.integers(0, 9)),
            "Segment": None if random.random() < 0.2 else f"segment {random.integers(3)}",
            "Left": labels[label](),
        }
        for number in random.choice(CUSTOMERS, count, replace=False).tolist()
    ]


def snap(batches: PanelBatches, cutoff: date) -> Snapshot:
    return take_snapshot(batches.storage, batches.ledger, PANEL, SAMPLING, cutoff=cutoff)


def trained_on(batches: PanelBatches, snapshot: Snapshot, most: int = 10**6) -> pd.DataFrame:
    with drawn_training_rows(batches.storage, snapshot, PANEL, SAMPLING, most) as file:
        return read_rows(file, 0, most)


def unseen(batches: PanelBatches, snapshot: Snapshot) -> pd.DataFrame:
    pieces = list(holdout_pieces(batches.storage, snapshot, PANEL, 17))
    return pd.concat(pieces) if pieces else pd.DataFrame({"Customer": [], "AsOf": [], "Left": []})


def in_full(batches: PanelBatches) -> list[str]:
    living = batches.ledger.batches(state="accepted")
    with batches.storage.scratch() as scratch:
        return [part.written.sha256 for part in compute_parts(batches.storage, living, PANEL, SAMPLING, scratch)]


def stored(batches: PanelBatches, snapshot: Snapshot) -> list[str]:
    manifest = read_manifest(batches.storage, snapshot_rows(snapshot.snapshot))
    assert manifest is not None
    return [part.sha256 for part in manifest.parts]


def test_a_year_of_rows_labels_and_leavers_comes_to_what_was_said_last(  # noqa: PLR0915 -- a year
    batches: PanelBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late files, full re-sends, labels apart, leavers with and without a date, withdrawals: as the plainest computation, and from an
    earlier snapshot as in full, byte for byte; the rows that count, for training and for comparison, are those that should."""
    bases = []

    def recorded(*arguments: Any, **options: Any) -> Any:
        bases.append(len(arguments) > 5 and arguments[5] is not None)
        return compute_parts(*arguments, **options)

    monkeypatch.setattr(snapshots, "compute_parts", recorded)
    random = np.random.default_rng(19)
    for night in range(14):
        day = JANUARY + timedelta(20 * night)
        known = sorted(batches.panel().rows)
        happened = night % 9
        if happened in (0, 1, 3, 5, 7):
            batches.accept(rows_of(random, day - timedelta(int(random.integers(4))), 60), day, parts=1 + night % 3)
        if happened == 2:  # rows that arrive after their horizon
            batches.accept(rows_of(random, day - timedelta(HORIZON + 5), 25, "final"), day)
        if happened == 4 and known:  # labels apart, of rows that are known and of some that are not
            chosen = [known[place] for place in random.choice(len(known), 30, replace=False)]
            labels = [{"Customer": who, "AsOf": when, "Left": int(random.integers(2))} for who, when in chosen]
            batches.accept([*labels, {"Customer": 10**6 + night, "AsOf": day, "Left": 1}], day, LABELS)
        if happened == 6:  # a full re-send of an early date
            early = min(when for _, when in known)
            again = [{"Customer": who, "AsOf": when, "Balance": 1.0, "Left": 1} for who, when in known if when == early]
            batches.accept(again, day)
        if happened in (3, 8):  # leavers, complete or not; some are not known, and some left before
            who = random.choice(CUSTOMERS + 20, 25, replace=False).tolist()
            left = [{"Customer": one + 1, "event_date": day - timedelta(int(random.integers(60)))} for one in who]
            batches.accept(left, day, LEAVERS, day - timedelta(3) if happened == 8 else None)
        if night in (8, 11):
            batch = sorted(batches.lines.keys() - batches.withdrawn)[night % 4]
            batches.ledger.withdraw(batch, "withdrawn", "wrong")
            batches.withdrawn.add(batch)
        if night == 10:
            batch = batches.withdrawn.pop()
            batches.ledger.withdraw(batch, "restored", "right")
        expected = batches.panel().counted(day)
        if not expected:
            with pytest.raises(NothingToDo, match="wait for their labels"):
                snap(batches, day)
            continue
        snapshot = snap(batches, day)
        if night % 3 == 2 or night in (8, 10, 11):
            assert stored(batches, snapshot) == in_full(batches)
        assert (snapshot.rows, snapshot.rows + sum((snapshot.waiting or {}).values())) == (
            len(expected),
            len(batches.panel().rows),
        )
        rows = trained_on(batches, snapshot)
        held = unseen(batches, snapshot)
        for who, when, left in zip(held["Customer"], pd.to_datetime(held["AsOf"]).dt.date, held["Left"], strict=True):
            assert expected[who, when] == left
        assert (len(rows), held["Customer"].is_unique) == (snapshot.training_rows, True)
        assert rows[CUSTOMER].nunique() < len(rows) or night < 10
        counted = all_that_count(batches, snapshot)
        assert {(who, when): left for who, when, left in counted.itertuples(index=False)} == expected
        assert counts_others(batches.storage, batches.ledger, snapshot, PANEL, day) is False
    assert sum(bases) >= 6
    assert find_snapshot_faults(batches.storage, batches.ledger, hashes=True) == []
    found = find_snapshot_differences(batches.storage, batches.ledger, PANEL, SAMPLING)
    assert found is not None
    assert found[1] == []
    before = stored(batches, snapshot)
    rebuild_snapshot(batches.storage, batches.ledger, PANEL, SAMPLING, snapshot)
    assert stored(batches, snapshot) == before


def all_that_count(batches: PanelBatches, snapshot: Snapshot) -> pd.DataFrame:
    """All rows that count, whatever their bucket."""
    with batches.storage.scratch() as folder, columnar.engine("500MB") as connection:
        scan_counted(connection, "counted", batches.storage, snapshot, PANEL, range(columnar.BUCKETS), folder)
        found: pd.DataFrame = connection.sql('SELECT "Customer", "AsOf", "Left" FROM counted').df()
    return found.assign(AsOf=found["AsOf"].dt.date)


def test_early_events_wait_for_the_others_of_their_date(batches: PanelBatches) -> None:
    """Of a month whose rows arrived early, leavers are known first. None of its rows counts until all labels are final."""
    random = np.random.default_rng(1)
    batches.accept(rows_of(random, JANUARY, 100), JANUARY)
    first = sorted(batches.panel().rows)
    batches.accept(
        [{"Customer": who, "event_date": JANUARY + timedelta(9)} for who, _ in first[:20]], FEBRUARY, LEAVERS
    )
    with pytest.raises(
        NothingToDo, match=r"All 100 accepted rows wait for their labels.*The first were due on 2026-02-01"
    ):
        snap(batches, MARCH)
    batches.accept(
        [{"Customer": first[20][0], "event_date": JANUARY + timedelta(30)}], MARCH, LEAVERS, JANUARY + timedelta(29)
    )
    with pytest.raises(NothingToDo):
        snap(batches, MARCH)  # complete through a day before the horizon ends
    batches.accept(
        [{"Customer": first[21][0], "event_date": JANUARY + timedelta(31)}], MARCH, LEAVERS, JANUARY + timedelta(30)
    )
    snapshot = snap(batches, MARCH)
    assert (snapshot.rows, snapshot.waiting, snapshot.complete) == (100, {}, ["2026-01-01"])
    assert (
        all_that_count(batches, snapshot)["Left"].sum() == 21
    )  # an event on the last day counts, one after it does not
    with pytest.raises(NothingToDo):
        snap(batches, JANUARY + timedelta(30))  # on the last day of the horizon it has not passed


def test_a_leavers_file_completes_the_date_only_when_the_cutoff_has_come(batches: PanelBatches) -> None:
    """Rows that mature overnight are new data for the next run, although no file arrives."""
    random = np.random.default_rng(1)
    batches.accept(rows_of(random, JANUARY, 100, "final"), FEBRUARY + timedelta(5))
    batches.accept(rows_of(random, FEBRUARY, 100), FEBRUARY)
    end = FEBRUARY + timedelta(HORIZON)
    batches.accept([{"Customer": 1, "event_date": FEBRUARY + timedelta(3)}], end, LEAVERS, end)
    snapshot = snap(batches, end)
    assert (snapshot.rows, due_dates(snapshot, PANEL)) == (100, {end + timedelta(1): 100})
    assert counts_others(batches.storage, batches.ledger, snapshot, PANEL, end) is False
    assert counts_others(batches.storage, batches.ledger, snapshot, PANEL, end + timedelta(1)) is True
    later = snap(batches, end + timedelta(1))
    assert (later.rows, later.snapshot != snapshot.snapshot) == (200, True)
    assert (
        snap(batches, end + timedelta(9)).snapshot == later.snapshot
    )  # the same rows count, so it is the same snapshot
    assert snap(batches, end).snapshot == snapshot.snapshot


def test_all_rows_of_a_customer_are_in_one_place(batches: PanelBatches) -> None:
    """Training has them after one another, all or the newest; unseen customers have one row each, of a date that is drawn for each."""
    random = np.random.default_rng(1)
    for month in range(6):
        day = JANUARY + timedelta(31 * month)
        batches.accept(rows_of(random, day, 200, "final"), day + timedelta(40))
    snapshot = snap(batches, date(2027, 1, 1))
    rows = trained_on(batches, snapshot)
    changes = (rows[CUSTOMER] != rows[CUSTOMER].shift()).sum()
    assert changes == rows[CUSTOMER].nunique() < len(rows)
    held = unseen(batches, snapshot)
    assert held["Customer"].is_unique
    assert held["AsOf"].nunique() > 3
    assert set(rows[CUSTOMER]) & set(held["_customer"]) == set()
    for newest in (1, 2):
        fewer = PANEL.__class__(PANEL.name, PANEL.columns, horizon_days=HORIZON, rows_per_customer=newest)
        with drawn_training_rows(batches.storage, snapshot, fewer, SAMPLING, 10**6) as file:
            assert read_rows(file, 0, 10**6)[CUSTOMER].value_counts().max() == newest
    assert TRAINING.start == 25


def test_both_ways_to_tell_what_counts_agree(batches: PanelBatches) -> None:
    """In SQL, for training, and in arrays, for unseen customers: on dates around the cut-off, with and without final labels."""
    random = np.random.default_rng(3)
    for number, day in enumerate([JANUARY, FEBRUARY, MARCH]):
        batches.accept(rows_of(random, day, 100, "final"), day + timedelta(HORIZON + number))
        batches.accept(rows_of(random, day + timedelta(1), 100), day + timedelta(1))
    snapshot = snap(batches, date(2027, 1, 1))
    files = [batches.storage.path(name) for name in batches.storage.names(snapshot_rows(snapshot.snapshot))]
    lines = pq.read_table([file for file in files if file.endswith(".parquet")])
    for cutoff in (FEBRUARY, MARCH + timedelta(HORIZON), date(2027, 1, 1)):
        for complete in ((), (JANUARY,), (JANUARY, FEBRUARY + timedelta(1))):
            counting = columnar.Counting(cutoff, complete)
            with columnar.engine("200MB") as connection:
                connection.register("lines", lines)
                columnar.create_counting_view(connection, "counted", "lines", PANEL, counting)
                found = connection.sql('SELECT "Customer", "AsOf" FROM counted').df()
            chosen = lines.filter(pa.array(count_mask(lines.combine_chunks(), PANEL, counting))).to_pandas()
            assert sorted(zip(found["Customer"], found["AsOf"].dt.date, strict=True)) == sorted(
                zip(chosen["Customer"], chosen["AsOf"], strict=True)
            )
            assert len(found) < lines.num_rows


def test_a_panel_of_an_earlier_version_is_still_compared_with(batches: PanelBatches) -> None:
    """It does not say whether a row first arrived with its label: the rows count that counted when its version was trained."""
    random = np.random.default_rng(3)
    batches.accept(rows_of(random, JANUARY, 100, "final"), JANUARY + timedelta(HORIZON + 1))
    batches.accept(rows_of(random, FEBRUARY, 100), FEBRUARY)
    snapshot = snap(batches, date(2027, 1, 1))
    files = [batches.storage.path(name) for name in batches.storage.names(snapshot_rows(snapshot.snapshot))]
    lines = pq.read_table([file for file in files if file.endswith(".parquet")])
    with columnar.engine("200MB") as connection:
        connection.register("lines", lines.drop_columns([columnar.FIRST_LABELLED]))
        columnar.create_counting_view(
            connection, "counted", "lines", PANEL, columnar.Counting(date(2027, 1, 1), complete=())
        )
        counted = connection.sql('SELECT "Customer", "AsOf" FROM counted').fetchall()
    assert len(counted) == 100
    assert {day for _, day in counted} == {JANUARY}


def test_unseen_customers_have_as_many_events_as_those_that_are_trained_on(batches: PanelBatches) -> None:
    """Whoever leaves has an event in the newest row: compared on these, every version would expect too few."""
    random = np.random.default_rng(8)
    living = list(range(1, 4001))
    for month in range(5):
        day = JANUARY + timedelta(31 * month)
        left = {who for who in living if random.random() < 0.2}
        lines = [
            {"Customer": who, "AsOf": day, "Balance": 1.0, "Segment": "segment 1", "Left": int(who in left)}
            for who in living
        ]
        batches.accept(lines, day + timedelta(40))
        living = [who for who in living if who not in left]
    snapshot = snap(batches, date(2027, 1, 1))
    held, rows = unseen(batches, snapshot), trained_on(batches, snapshot)
    assert held["Left"].mean() == pytest.approx(rows["Left"].mean(), abs=4 * (0.2 * 0.8 / len(held)) ** 0.5)
    last = all_that_count(batches, snapshot).sort_values("AsOf").drop_duplicates("Customer", keep="last")
    assert last["Left"].mean() > 0.5


def test_rows_of_customers_who_were_contacted_meanwhile_are_left_out(batches: PanelBatches) -> None:
    """Only those whose horizon the list touches: the same customer a month before and a month after is like any other."""
    days = [JANUARY, FEBRUARY, MARCH]
    lines = [
        {"Customer": who, "AsOf": day, "Balance": 1.0, "Segment": "a", "Left": int(who % 4 == 0)}
        for day in days
        for who in range(1, CUSTOMERS + 1)
    ]
    batches.accept(lines, date(2026, 6, 1))
    snapshot = snap(batches, date(2026, 6, 1))
    rows = trained_on(batches, snapshot)
    chosen = rows[CUSTOMER].unique()[:20]
    listed = {"since": date(2026, 2, 10), "until": date(2026, 2, 20), "contacted": True, "weight": 0.0}
    left_alone = [{"customer": int(rows[CUSTOMER].unique()[20]), **listed, "contacted": False, "weight": 9.0}]
    treated = pa.Table.from_pylist([{"customer": int(who), **listed} for who in chosen] + left_alone, SCHEMA)
    storage, known = batches.storage, snapshot
    assert count_contacted(storage, known, PANEL, SAMPLING, treated) == 20
    with drawn_training_rows(storage, known, PANEL, SAMPLING, 10**6, treated) as file:
        without = read_rows(file, 0, 10**6)
    assert len(without) == len(rows) - 20
    assert without[CUSTOMER].value_counts()[chosen].tolist() == [2] * 20
    piece = pd.DataFrame(
        {
            "_customer": np.array([chosen[0], chosen[0], left_alone[0]["customer"], 1], np.uint64),
            "AsOf": [FEBRUARY, MARCH, FEBRUARY, FEBRUARY],
            "_arrived_at": pd.to_datetime(["2026-06-01"] * 4, utc=True),
        }
    )
    assert contact_weights(piece, PANEL, treated).tolist() == [0, 1, 9, 1]
    assert contact_weights(piece, PANEL, None).tolist() == [1, 1, 1, 1]
