"""A snapshot that starts from an earlier one is the same, byte for byte, as one computed in full."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn.contract import Column, Contract, Kind, Role
from churn.errors import ChurnError
from churn.foundation.columnar import row_schema
from churn.foundation.ledger import Ledger, open_ledger
from churn.foundation.parts import MANIFEST, PartFault, WrittenPart, read_manifest, remove_table, store_parts
from churn.foundation.paths import accepted, snapshot_rows
from churn.foundation.records import BatchVerdict, Snapshot
from churn.foundation.sampling import Sampling
from churn.foundation.spread import Here
from churn.foundation.storage import Storage
from churn.intake.judging import batch_number
from churn.learning import snapshot as snapshots
from churn.learning.content import content_hash
from churn.learning.single_snapshot import write_single_file
from churn.learning.snapshot import (
    find_snapshot_differences,
    find_snapshot_faults,
    rebuild_snapshot,
    take_snapshot,
)
from churn.learning.snapshot_parts import PARTS, Base, compute_parts, snapshot_name
from churn.learning.unseen import holdout_pieces
from support.divisions import HERE
from support.stored_parts import change_part, change_part_and_manifest, part_file

DAY_ONE = datetime(2026, 1, 1, tzinfo=UTC)
SALT = b"a salt of sixteen bytes or more"
SAMPLING = Sampling(SALT, HERE)
numbers = count(1)
BY_NUMBER = Contract(
    "numbered",
    (
        Column("Customer", Kind.INTEGER, Role.KEY, 1, 10**9),
        Column("Balance", Kind.NUMBER, Role.FEATURE),
        Column("Segment", Kind.TEXT, Role.FEATURE, nullable=True, max_levels=5),
        Column("Left", Kind.INTEGER, Role.TARGET, 0, 1),
    ),
)
BY_TEXT = Contract(
    "named",
    (
        Column("Customer", Kind.TEXT, Role.KEY),
        Column("Balance", Kind.NUMBER, Role.FEATURE),
        Column("Segment", Kind.TEXT, Role.FEATURE, nullable=True, max_levels=5),
        Column("AsOf", Kind.DATE, Role.AS_OF),
        Column("Left", Kind.INTEGER, Role.TARGET, 0, 1),
    ),
)
Row = tuple[Any, ...]


def by_key(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=str)


@dataclass
class Arrived:
    """Batches that were accepted: their rows by hash, and the time of their arrival."""

    storage: Storage
    ledger: Ledger
    folder: Path
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    times: dict[str, datetime] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)

    def accept(self, rows: list[dict[str, Any]], at: datetime, contract: Contract, parts: int = 1) -> str:
        """Store rows as intake does after it has accepted them."""
        batch = f"{next(numbers):064x}"[::-1]
        table = pa.Table.from_pylist(rows, row_schema(contract))
        table = table.append_column("_line", pa.array(np.arange(2, len(rows) + 2)))
        table = table.append_column("_batch", pa.array(np.full(len(rows), batch_number(batch))))
        written = []
        for number, bounds in enumerate(np.array_split(np.arange(len(rows)), parts)):
            file = self.folder / f"{batch}-{number}.parquet"
            pq.write_table(table.take(pa.array(bounds)), file)
            written.append(WrittenPart.of(file))
        manifest = store_parts(self.storage, accepted(batch), written)
        self.ledger.add_batch(batch, f"{batch}.csv", 1, at)
        verdict = BatchVerdict("accepted", len(rows), len(rows), 0, accepted_sha256=manifest.digest)
        self.ledger.judge_batch(batch, "night", verdict)
        self.rows[batch], self.times[batch] = rows, at
        return batch

    def latest(self, contract: Contract) -> list[Row]:
        """The latest row of every customer, in a panel of every customer and time, found by the plainest means."""
        known: dict[Any, dict[str, Any]] = {}
        for batch in sorted(self.rows.keys() - self.withdrawn, key=lambda batch: (self.times[batch], f"{batch}.csv")):
            known |= {(row["Customer"], row.get("AsOf")): row for row in self.rows[batch]}
        return by_key(tuple(row.get(name) for name in contract.names) for row in known.values())


@pytest.fixture
def arrived(storage: Storage, ledger: Ledger, tmp_path: Path) -> Arrived:
    folder = tmp_path / "written"
    folder.mkdir()
    return Arrived(storage, ledger, folder)


def make_rows(random: np.random.Generator, contract: Contract, rows: int, night: int) -> list[dict[str, Any]]:
    """Rows of distinct customers out of a thousand, some with missing values."""
    made = []
    for number in random.choice(1000, rows, replace=False).tolist():
        row: dict[str, Any] = {
            "Customer": number + 1 if contract.key.kind is Kind.INTEGER else f"cüstomer {number}",
            "Balance": float(random.integers(0, 5)),
            "Segment": None if random.random() < 0.2 else f"segment {random.integers(3)}",
            "Left": int(random.integers(2)),
        }
        if contract.as_of:
            row["AsOf"] = date(2026, 1, 1) + timedelta(int(random.integers(night, night + 5)))
        if "Income" in contract.names:
            row["Income"] = float(random.integers(9))
        made.append(row)
    return made


def stored_rows(storage: Storage, snapshot: Snapshot, contract: Contract) -> list[Row]:
    folder = snapshot_rows(snapshot.snapshot)
    tables = [pq.read_table(part_file(storage, folder, number)) for number in range(PARTS)]
    return by_key(tuple(row[name] for name in contract.names) for table in tables for row in table.to_pylist())


def in_full(arrived: Arrived, contract: Contract, sampling: Sampling = SAMPLING, most: int = 10**6) -> list[str]:
    """The sha256 of the parts of a full computation."""
    batches = arrived.ledger.batches(state="accepted")
    with arrived.storage.scratch() as scratch:
        parts = compute_parts(arrived.storage, batches, contract, sampling, scratch, sorted_in_memory=most)
    return [part.written.sha256 for part in parts]


def parts_of(storage: Storage, snapshot: Snapshot) -> list[str]:
    manifest = read_manifest(storage, snapshot_rows(snapshot.snapshot))
    assert manifest is not None
    assert snapshot_name([part.content for part in manifest.parts], snapshot.complete) == snapshot.snapshot
    return [part.sha256 for part in manifest.parts]


@pytest.fixture
def bases(monkeypatch: pytest.MonkeyPatch) -> list[Base | None]:
    """The base of each computation of `take_snapshot`."""
    used: list[Base | None] = []

    def recorded(*arguments: Any, **options: Any) -> Any:
        used.append(arguments[5][0] if arguments[5] else None)
        return compute_parts(*arguments, **options)

    monkeypatch.setattr(snapshots, "compute_parts", recorded)
    return used


@pytest.mark.parametrize("contract", [BY_NUMBER, BY_TEXT], ids=["number", "text, as of"])
def test_thirty_nights_from_earlier_snapshots_equal_the_full_ones(
    contract: Contract, arrived: Arrived, bases: list[Base | None]
) -> None:
    """New customers, corrections, late files, withdrawals, restored batches, and a column that is added on the way."""
    random = np.random.default_rng(7)
    income = Column("Income", Kind.NUMBER, Role.FEATURE, nullable=True)
    for night in range(30):
        if night == 15:
            contract = replace(contract, columns=(*contract.columns, income))
        happened = ("new", "late", "new", "withdrawn", "new and late", "restored")[night % 6]
        if "new" in happened:
            rows = make_rows(random, contract, 60, night)
            arrived.accept(rows, DAY_ONE + timedelta(night), contract, parts=1 + night % 3)
        if "late" in happened:
            at = DAY_ONE + timedelta(float(random.uniform(0, night)))
            arrived.accept(make_rows(random, contract, 40, night), at, contract)
        if happened == "withdrawn":
            batch = sorted(arrived.rows.keys() - arrived.withdrawn)[-1 - night % 2]
            arrived.ledger.withdraw(batch, "withdrawn", "wrong")
            arrived.withdrawn.add(batch)
        if happened == "restored":
            arrived.ledger.withdraw(batch, "restored", "right")
            arrived.withdrawn.remove(batch)
        snapshot = take_snapshot(arrived.storage, arrived.ledger, contract, SAMPLING)
        assert parts_of(arrived.storage, snapshot) == in_full(arrived, contract)
        assert stored_rows(arrived.storage, snapshot, contract) == arrived.latest(contract)
        assert snapshot == arrived.ledger.snapshot(snapshot.snapshot)
    assert sum(base is not None for base in bases) >= 22
    assert sum(base is None for base in bases) >= 2  # the first night, and the contract change


def test_cores_parts_and_sorting_on_disk_change_no_byte(arrived: Arrived, tmp_path: Path) -> None:
    """One core or two, one file or seven, sorted in memory or by DuckDB."""
    divided = Arrived(
        Storage.open(f"{tmp_path}/divided"), open_ledger(f"sqlite:///{tmp_path}/divided.db"), arrived.folder
    )
    for place, parts in ((arrived, 1), (divided, 7)):
        random = np.random.default_rng(3)
        for night in range(3):
            place.accept(make_rows(random, BY_TEXT, 300, night), DAY_ONE + timedelta(night), BY_TEXT, parts)
    expected = in_full(arrived, BY_TEXT)
    for place in (arrived, divided):
        for cores in (1, 2):
            for most in (10**6, 5):
                found = in_full(place, BY_TEXT, Sampling(SALT, Here(cores, "500MB")), most)
                if place is arrived:
                    assert found == expected
                names = take_snapshot(
                    place.storage, place.ledger, BY_TEXT, Sampling(SALT, Here(cores, "500MB"))
                ).snapshot
                assert names == take_snapshot(arrived.storage, arrived.ledger, BY_TEXT, SAMPLING).snapshot


def two_nights(arrived: Arrived) -> Snapshot:
    """A snapshot, and a batch that has arrived since."""
    random = np.random.default_rng(5)
    arrived.accept(make_rows(random, BY_NUMBER, 600, 1), DAY_ONE, BY_NUMBER)
    snapshot = take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)
    arrived.accept(make_rows(random, BY_NUMBER, 100, 2), DAY_ONE + timedelta(1), BY_NUMBER)
    return snapshot


def changed(storage: Storage, folder: str) -> None:
    change_part(storage, folder, lambda rows: rows.slice(1), 11)


def truncated(storage: Storage, folder: str) -> None:
    file = part_file(storage, folder, 11)
    file.write_bytes(file.read_bytes()[:-100])


def missing(storage: Storage, folder: str) -> None:
    part_file(storage, folder, 11).unlink()


def of_another_run(storage: Storage, folder: str) -> None:
    part_file(storage, folder, 11).write_bytes(part_file(storage, folder, 12).read_bytes())


def without_manifest(storage: Storage, folder: str) -> None:
    storage.remove(f"{folder}/{MANIFEST}")


def changed_with_its_manifest(storage: Storage, folder: str) -> None:
    change_part_and_manifest(storage, folder, lambda rows: rows.slice(1), 11)


def with_a_broken_manifest(storage: Storage, folder: str) -> None:
    with storage.writing(f"{folder}/{MANIFEST}") as stream:
        stream.write(b'{"format": 1}')


DAMAGE = [
    changed,
    truncated,
    missing,
    of_another_run,
    without_manifest,
    with_a_broken_manifest,
    changed_with_its_manifest,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_snapshot_is_not_a_base(
    damage: Callable[[Storage, str], None], arrived: Arrived, bases: list[Base | None]
) -> None:
    """The next snapshot is computed in full, and is right."""
    before = two_nights(arrived)
    damage(arrived.storage, snapshot_rows(before.snapshot))
    after = take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)
    assert bases[-1] is None
    assert stored_rows(arrived.storage, after, BY_NUMBER) == arrived.latest(BY_NUMBER)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_snapshot_is_taken_again(damage: Callable[[Storage, str], None], arrived: Arrived) -> None:
    """Although nothing has arrived since."""
    arrived.accept(make_rows(np.random.default_rng(5), BY_NUMBER, 600, 1), DAY_ONE, BY_NUMBER)
    before = take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)
    sound = parts_of(arrived.storage, before)
    damage(arrived.storage, snapshot_rows(before.snapshot))
    after = take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)
    assert (after.snapshot, parts_of(arrived.storage, after)) == (before.snapshot, sound)


@pytest.mark.parametrize("damage", DAMAGE[:4])
def test_damage_is_found_named_and_mended_by_a_rebuild(
    damage: Callable[[Storage, str], None], arrived: Arrived
) -> None:
    """The audit, the weekly check and a reader name the part; `churn snapshot rebuild` replaces it."""
    snapshot = take_two(arrived)
    folder = snapshot_rows(snapshot.snapshot)
    sound = parts_of(arrived.storage, snapshot)
    assert find_snapshot_faults(arrived.storage, arrived.ledger, hashes=True) == []
    assert find_snapshot_differences(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING) == (snapshot, [])
    damage(arrived.storage, folder)
    (fault,) = find_snapshot_faults(arrived.storage, arrived.ledger, hashes=True)
    assert fault.startswith(f"{folder}/part-0011.parquet")
    assert f"churn snapshot rebuild {snapshot.snapshot[:12]}" in fault
    found = find_snapshot_differences(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)
    assert found is not None
    assert any(f"{folder}/part-0011.parquet" in difference for difference in found[1])
    rebuild_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING, snapshot)
    assert parts_of(arrived.storage, snapshot) == sound
    assert find_snapshot_faults(arrived.storage, arrived.ledger, hashes=True) == []


def take_two(arrived: Arrived) -> Snapshot:
    two_nights(arrived)
    return take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)


def test_the_weekly_check_finds_what_its_hashes_do_not_show(arrived: Arrived) -> None:
    """Rows that were wrong when they were written: the part is as its manifest says, and differs from the accepted rows."""
    snapshot = take_two(arrived)
    folder = snapshot_rows(snapshot.snapshot)
    manifest = read_manifest(arrived.storage, folder)
    assert manifest is not None
    parts = []
    for number, part in enumerate(manifest.parts):
        copy = arrived.folder / part.name
        copy.write_bytes(part_file(arrived.storage, folder, number).read_bytes())
        parts.append(WrittenPart.of(copy, "0" * 64 if number == 3 else part.content))
    wrong = snapshot_name([part.content for part in parts])
    store_parts(arrived.storage, snapshot_rows(wrong), parts, manifest.made_from)
    arrived.ledger.add_snapshot(replace(snapshot, snapshot=wrong, made_at=snapshot.made_at + timedelta(1)))
    found = find_snapshot_differences(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)
    assert found is not None
    assert found[1] == [f"{snapshot_rows(wrong)}/part-0003.parquet has other rows than the accepted files."]


def test_the_check_of_nothing_is_none(arrived: Arrived) -> None:
    """Neither a deleted snapshot nor one of another salt is compared."""
    snapshot = take_two(arrived)
    other = Sampling(b"another salt, also long enough", SAMPLING.spread)
    assert find_snapshot_differences(arrived.storage, arrived.ledger, BY_NUMBER, other) is None
    for known in arrived.ledger.snapshots():
        remove_table(arrived.storage, snapshot_rows(known.snapshot))
    assert find_snapshot_differences(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING) is None
    assert find_snapshot_faults(arrived.storage, arrived.ledger, hashes=True) == []
    assert snapshot.rows


def test_readers_refuse_a_changed_part_of_theirs_only(arrived: Arrived) -> None:
    """The holdout is in parts 0-3; a changed part 11 does not matter to it, and a changed part 2 is one clear error."""
    snapshot = take_two(arrived)
    folder = snapshot_rows(snapshot.snapshot)
    change_part(arrived.storage, folder, lambda rows: rows.slice(1), 11)
    read = sum(len(piece) for piece in holdout_pieces(arrived.storage, snapshot, BY_NUMBER, 7))
    assert read == snapshot.holdout_rows > 20
    change_part(arrived.storage, folder, lambda rows: rows.slice(1), 2)
    with pytest.raises(
        PartFault, match=rf"part-0002.parquet has been changed.*churn snapshot rebuild {snapshot.snapshot[:12]}"
    ):
        list(holdout_pieces(arrived.storage, snapshot, BY_NUMBER, 7))


@pytest.mark.parametrize("damage", DAMAGE[:3])
def test_a_damaged_accepted_part_is_one_clear_error(damage: Callable[[Storage, str], None], arrived: Arrived) -> None:
    """It names the part and the next step, and no snapshot is taken."""
    random = np.random.default_rng(5)
    batch = arrived.accept(make_rows(random, BY_NUMBER, 600, 1), DAY_ONE, BY_NUMBER, parts=12)
    damage(arrived.storage, accepted(batch))
    with pytest.raises(
        PartFault, match=rf"accepted/{batch}/part-0011.parquet .*audit --hashes.*batches withdraw {batch[:12]}"
    ):
        take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)
    assert arrived.ledger.snapshots() == []


def test_an_altered_manifest_of_accepted_rows_is_noticed(arrived: Arrived) -> None:
    """The ledger knows the hash of the list of parts."""
    batch = arrived.accept(make_rows(np.random.default_rng(5), BY_NUMBER, 60, 1), DAY_ONE, BY_NUMBER)
    change_part_and_manifest(arrived.storage, accepted(batch), lambda rows: rows.slice(1))
    with pytest.raises(PartFault, match=f"manifest of .*{batch} has been changed"):
        take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)


def test_rows_of_another_kind_are_refused(arrived: Arrived) -> None:
    """Numbers that today's contract wants as whole numbers, and have a fraction, are not rounded."""
    rows = make_rows(np.random.default_rng(5), BY_NUMBER, 60, 1)
    rows[7]["Balance"] = 1.5
    batch = arrived.accept(rows, DAY_ONE, BY_NUMBER)
    whole = [replace(column, kind=Kind.INTEGER) if column.name == "Balance" else column for column in BY_NUMBER.columns]
    with pytest.raises(ChurnError, match=f"batch {batch[:12]} have values of another kind.*withdraw"):
        take_snapshot(arrived.storage, arrived.ledger, replace(BY_NUMBER, columns=tuple(whole)), SAMPLING)


def test_the_same_rows_from_other_batches_are_no_base_for_the_first_ones(
    arrived: Arrived, bases: list[Base | None]
) -> None:
    """A repeated batch gives the same name. Once it is withdrawn, a late file between the two must win over the first."""
    random = np.random.default_rng(5)
    rows = make_rows(random, BY_NUMBER, 200, 1)
    arrived.accept(rows, DAY_ONE, BY_NUMBER)
    first = take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)
    again = arrived.accept(rows, DAY_ONE + timedelta(2), BY_NUMBER)
    assert take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING).snapshot == first.snapshot
    arrived.ledger.withdraw(again, "withdrawn", "a copy")
    arrived.withdrawn.add(again)
    # The ledger says that the snapshot is of the first batch, and its rows are still those of the second.
    arrived.ledger.add_snapshot(first)
    late = [row | {"Balance": 99.0} for row in rows[:50]]
    arrived.accept(late, DAY_ONE + timedelta(1), BY_NUMBER)
    after = take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)
    assert bases[-1] is None
    assert stored_rows(arrived.storage, after, BY_NUMBER) == arrived.latest(BY_NUMBER)


def test_another_order_of_arrival_is_computed_in_full(arrived: Arrived, bases: list[Base | None]) -> None:
    """If the ledger's time of an arrival is corrected, an earlier snapshot has the wrong winners."""
    two_nights(arrived)
    take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)
    first, second = arrived.ledger.batches()
    moved = DAY_ONE + timedelta(5)
    with arrived.ledger._transaction() as connection:
        connection.exec_driver_sql("UPDATE batches SET arrived_at = ? WHERE batch = ?", (str(moved), first.batch))
    arrived.times[first.batch] = moved
    after = take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)
    assert bases[-1] is None
    assert [batch.batch for batch in arrived.ledger.batches()] == [second.batch, first.batch]
    assert stored_rows(arrived.storage, after, BY_NUMBER) == arrived.latest(BY_NUMBER)


def test_the_base_that_lacks_the_fewest_rows_is_chosen(arrived: Arrived, bases: list[Base | None]) -> None:
    """Also if a newer snapshot leaves a batch out, as a comparison without suspect batches does."""
    random = np.random.default_rng(5)
    first = arrived.accept(make_rows(random, BY_NUMBER, 100, 1), DAY_ONE, BY_NUMBER)
    arrived.accept(make_rows(random, BY_NUMBER, 300, 1), DAY_ONE + timedelta(1), BY_NUMBER)
    whole = take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)
    take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING, without={first})
    arrived.accept(make_rows(random, BY_NUMBER, 10, 1), DAY_ONE + timedelta(2), BY_NUMBER)
    take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)
    assert bases[-1] is not None
    assert bases[-1].folder == snapshot_rows(whole.snapshot)


def test_empty_parts_are_written(arrived: Arrived) -> None:
    """Three customers are in at most three parts; all twenty are there, with the columns of the others."""
    rows = make_rows(np.random.default_rng(5), BY_NUMBER, 3, 1)
    arrived.accept(rows, DAY_ONE, BY_NUMBER)
    snapshot = take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)
    files = [part_file(arrived.storage, snapshot_rows(snapshot.snapshot), number) for number in range(PARTS)]
    assert len({str(pq.read_schema(file)) for file in files}) == 1
    assert sum(pq.read_metadata(file).num_rows for file in files) == 3
    arrived.accept(make_rows(np.random.default_rng(6), BY_NUMBER, 200, 1), DAY_ONE + timedelta(1), BY_NUMBER)
    after = take_snapshot(arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)
    assert stored_rows(arrived.storage, after, BY_NUMBER) == arrived.latest(BY_NUMBER)


def test_a_snapshot_of_format_1_is_rebuilt_by_its_own_rule(arrived: Arrived) -> None:
    """Its name is the hash of one file, which is written under the name it had; as a base it is not used."""
    snapshot = take_two(arrived)
    rebuild = partial(rebuild_snapshot, arrived.storage, arrived.ledger, BY_NUMBER, SAMPLING)
    with pytest.raises(ChurnError, match=r"now has other rows \((\w{12})\)") as raised:
        rebuild(replace(snapshot, snapshot="0" * 64, format=None))
    with arrived.storage.scratch() as scratch:
        batches = arrived.ledger.batches(state="accepted")
        rows = write_single_file(arrived.storage, batches, BY_NUMBER, SAMPLING, scratch)
        name = content_hash(rows, [*BY_NUMBER.names, "_bucket"])
    assert name[:12] in str(raised.value)
    old = replace(snapshot, snapshot=name, format=None)
    rebuild(old)
    assert arrived.storage.exists(f"snapshots/{name}.parquet")
    ours = list(holdout_pieces(arrived.storage, old, BY_NUMBER, 50))
    theirs = list(holdout_pieces(arrived.storage, snapshot, BY_NUMBER, 50))
    assert sorted(key for piece in ours for key in piece["Customer"]) == sorted(
        key for piece in theirs for key in piece["Customer"]
    )
