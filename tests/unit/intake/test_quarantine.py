"""Rows set aside can be looked at, repaired and landed again; a batch found bad later can be withdrawn."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn.contracts.bank import BANK_CHURN
from churn.errors import ChurnError
from churn.foundation.ledger import Ledger
from churn.foundation.parts import WrittenPart, remove_table, single_file, store_parts
from churn.foundation.paths import accepted, original, quarantined
from churn.foundation.records import Batch
from churn.foundation.storage import Storage
from churn.intake.acceptance import BatchRejected, accept_batch
from churn.intake.arrival import collect_arrivals
from churn.intake.audit import find_losses
from churn.intake.quarantine import export_rows, quarantined_rows, release_rows
from churn.sample.fault_injection import cell_faults, plant_faults, record_faults
from support.basics import small_file
from support.divisions import BYTES, limits
from support.judged_files import table_rows

FAULTS = {fault.name: fault for fault in [*cell_faults(BANK_CHURN), *record_faults(BANK_CHURN)]}
PLANTED = ["Age: 'n/a'", "Geography: 'Atlantis'", "too few cells"]


def judge_all(storage: Storage, ledger: Ledger) -> list[Batch]:
    waiting = collect_arrivals(storage, ledger, part_size=BYTES).batches
    return [accept_batch(batch.batch, "night", storage, ledger, BANK_CHURN, limits()) for batch in waiting]


@pytest.fixture
def batch(storage: Storage, ledger: Ledger) -> Batch:
    data, _ = plant_faults(small_file(400), BANK_CHURN, [FAULTS[name] for name in PLANTED], [3, 30, 300])
    with storage.writing("landing/day.csv") as stream:
        stream.write(data)
    (losses,) = judge_all(storage, ledger)
    return losses


def test_rows_are_exported_repaired_and_released(
    storage: Storage, ledger: Ledger, batch: Batch, tmp_path: Path
) -> None:
    """The repaired rows are a new batch that remembers where it came from; every count adds up."""
    out = tmp_path / "repair.csv"
    assert export_rows(storage, batch, BANK_CHURN, out) == 3
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["_line"], row["_failed"]) for row in rows] == [
        ("5", "Age.type"),
        ("32", "Geography.category"),
        ("302", "record.field_count"),
    ]
    assert rows[2]["_raw"].count(",") == 2
    rows[0]["Age"], rows[1]["Geography"] = "33", "Spain"
    with out.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows[:2])
    new = release_rows(storage, ledger, batch, BANK_CHURN, out)
    assert (new.origin, new.state) == (batch.batch, "arrived")
    (judged,) = judge_all(storage, ledger)
    assert (judged.batch, judged.accepted_rows, judged.quarantined_rows) == (new.batch, 2, 0)
    assert find_losses(storage, ledger, hashes=True) == []
    with pytest.raises(ChurnError, match="accepted before"):
        release_rows(storage, ledger, batch, BANK_CHURN, out)


def test_more_rows_than_were_set_aside_are_not_released(
    storage: Storage, ledger: Ledger, batch: Batch, tmp_path: Path
) -> None:
    """What was never in quarantine does not come out of it; nothing is left behind."""
    (tmp_path / "many.csv").write_text(small_file(10, first_customer=9000))
    with pytest.raises(ChurnError, match="10 rows, but only 3 rows of batch"):
        release_rows(storage, ledger, batch, BANK_CHURN, tmp_path / "many.csv")
    (tmp_path / "none.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ChurnError, match="missing"):
        release_rows(storage, ledger, batch, BANK_CHURN, tmp_path / "none.csv")
    with pytest.raises(ChurnError, match="Cannot read"):
        release_rows(storage, ledger, batch, BANK_CHURN, tmp_path / "nowhere.csv")
    assert ledger.hashes("arrived") == []
    assert storage.names("landing") == []


def test_a_rejected_file_is_exported_too(storage: Storage, ledger: Ledger, tmp_path: Path) -> None:
    """Every row of it, under the contract's header where the file had none that could be read."""
    with storage.writing("landing/bad.csv") as stream:
        stream.write(b"no,churn\n1,2\n3,4\n")
    with pytest.raises(BatchRejected):
        judge_all(storage, ledger)
    (batch,) = ledger.batches()
    assert export_rows(storage, batch, BANK_CHURN, tmp_path / "out.csv") == 2
    assert (tmp_path / "out.csv").read_text().startswith(",".join(BANK_CHURN.names))


def test_the_audit_finds_every_loss(storage: Storage, ledger: Ledger, batch: Batch) -> None:
    """A lost, shortened or foreign file, and an original that is not what arrived."""
    assert find_losses(storage, ledger, hashes=True) == []
    with storage.writing("accepted/stranger.parquet") as stream:
        stream.write(b"x")
    remove_table(storage, accepted(batch.batch))
    for name in storage.names(quarantined(batch.batch)):
        storage.put(Path(storage.path(name)), name.replace("quarantine", "accepted"))
    remove_table(storage, quarantined(batch.batch))
    with storage.writing(original(batch.batch)) as stream:
        stream.write(b"other bytes")
    losses = " ".join(find_losses(storage, ledger, hashes=True))
    for phrase in (
        "manifest.json has been changed since it was written",
        "0 rows, but 3 are recorded",
        "changed since it arrived",
        "stranger",
    ):
        assert phrase in losses
    storage.remove(original(batch.batch))
    assert "its original is missing" in " ".join(find_losses(storage, ledger))


@dataclass(frozen=True)
class Damage:
    """A way to damage the files of a batch, and what the audit says of it."""

    harm: Callable[[Storage, Batch, Path], None]
    phrase: str
    hashes: bool = False


def lose_part(storage: Storage, batch: Batch, _: Path) -> None:
    storage.remove(f"{accepted(batch.batch)}/part-0000.parquet")


def truncate_part(storage: Storage, batch: Batch, _: Path) -> None:
    with storage.writing(f"{quarantined(batch.batch)}/part-0000.parquet") as stream:
        stream.write(b"nothing")


def alter_part(storage: Storage, batch: Batch, scratch: Path) -> None:
    """Change values without changing the number of rows."""
    name = f"{accepted(batch.batch)}/part-0000.parquet"
    rows = storage.read_table(name)
    balance = rows.column_names.index("Balance")
    pq.write_table(rows.set_column(balance, "Balance", pa.array([1.0] * rows.num_rows)), scratch / "changed.parquet")
    storage.put(scratch / "changed.parquet", name)


def add_part(storage: Storage, batch: Batch, _: Path) -> None:
    storage.put(
        Path(storage.path(f"{accepted(batch.batch)}/part-0000.parquet")), f"{accepted(batch.batch)}/part-0999.parquet"
    )


def drop_row(storage: Storage, batch: Batch, scratch: Path) -> None:
    name = f"{accepted(batch.batch)}/part-0000.parquet"
    pq.write_table(storage.read_table(name).slice(1), scratch / "shorter.parquet")
    storage.put(scratch / "shorter.parquet", name)


def lose_manifest(storage: Storage, batch: Batch, _: Path) -> None:
    storage.remove(f"{accepted(batch.batch)}/manifest.json")


def break_manifest(storage: Storage, batch: Batch, _: Path) -> None:
    with storage.writing(f"{accepted(batch.batch)}/manifest.json") as stream:
        stream.write(b"{")


DAMAGES = {
    "a lost part": Damage(lose_part, "part-0000.parquet is missing"),
    "a truncated part": Damage(truncate_part, "part-0000.parquet cannot be read"),
    "an altered part": Damage(alter_part, "part-0000.parquet has been changed", hashes=True),
    "a part of another run": Damage(add_part, "part-0999.parquet is not in the manifest"),
    "a shorter part": Damage(drop_row, "rows, but its manifest lists"),
    "a lost manifest": Damage(lose_manifest, "manifest.json is missing"),
    "a broken manifest": Damage(break_manifest, "manifest.json is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_the_audit_names_the_damaged_part(
    storage: Storage, ledger: Ledger, batch: Batch, tmp_path: Path, damage: Damage
) -> None:
    """Whatever happened to a part, the audit names it; one that keeps its rows and size is found by its hash."""
    damage.harm(storage, batch, tmp_path)
    assert (find_losses(storage, ledger) == []) is damage.hashes
    assert damage.phrase in " ".join(find_losses(storage, ledger, hashes=damage.hashes))
    assert find_losses(storage, ledger, hashes=True) != []


def test_the_audit_notices_quarantined_rows_of_another_batch(storage: Storage, ledger: Ledger, batch: Batch) -> None:
    """As many rows with a manifest of their own, in their place."""
    folder = quarantined(batch.batch)
    rows = table_rows(storage, folder)
    with storage.scratch() as scratch:
        pq.write_table(rows.take(list(range(rows.num_rows))[::-1]), scratch / "other.parquet")
        store_parts(storage, folder, [WrittenPart.of(scratch / "other.parquet")])
    (loss,) = find_losses(storage, ledger)
    assert f"{folder}/manifest.json has been changed since it was written" in loss


def test_the_audit_reads_what_an_earlier_version_kept_in_one_file(
    storage: Storage, ledger: Ledger, batch: Batch, tmp_path: Path
) -> None:
    """Single files are counted as before."""
    for folder in (accepted(batch.batch), quarantined(batch.batch)):
        pq.write_table(table_rows(storage, folder), tmp_path / "rows.parquet")
        remove_table(storage, folder)
        storage.put(tmp_path / "rows.parquet", single_file(folder))
    assert find_losses(storage, ledger) == []
    assert "changed since it was accepted" in " ".join(find_losses(storage, ledger, hashes=True))
    assert [row["_line"] for row in quarantined_rows(storage, batch)] == [5, 32, 302]
    storage.remove(single_file(quarantined(batch.batch)))
    assert "0 rows, but 3 are recorded" in " ".join(find_losses(storage, ledger))


def test_a_damaged_history_is_one_clear_error(storage: Storage, ledger: Ledger, batch: Batch) -> None:
    """A batch cannot be compared with a history that cannot be read; the error says how to find out which part it is."""
    with storage.writing(f"{accepted(batch.batch)}/part-0000.parquet") as stream:
        stream.write(b"nothing")
    with storage.writing("landing/next.csv") as stream:
        stream.write(small_file(60, first_customer=5000).encode())
    with pytest.raises(ChurnError, match="churn audit"):
        judge_all(storage, ledger)
    assert len(ledger.hashes("arrived")) == 1


def test_a_batch_is_withdrawn_and_restored(ledger: Ledger, storage: Storage, batch: Batch) -> None:
    """It leaves the accepted ones and comes back; each time with its reason; twice is once."""
    assert ledger.withdraw(batch.batch, "withdrawn", "wrong month")
    assert ledger.withdraw(batch.batch, "withdrawn", "again") is None
    assert ledger.hashes("accepted") == []
    assert ledger.withdraw(batch.batch, "restored", "it was right")
    assert ledger.hashes("accepted") == [batch.batch]
    assert [
        (withdrawal.sequence, withdrawal.kind, withdrawal.reason) for withdrawal in ledger.withdrawals(batch.batch)
    ] == [
        (1, "withdrawn", "wrong month"),
        (2, "restored", "it was right"),
    ]
    assert find_losses(storage, ledger) == []


def test_only_what_was_accepted_is_withdrawn(storage: Storage, ledger: Ledger) -> None:
    """A rejected batch is in no snapshot, and the error says so."""
    with storage.writing("landing/bad.csv") as stream:
        stream.write(b"no,churn\n1,2\n")
    with pytest.raises(BatchRejected):
        judge_all(storage, ledger)
    (batch,) = ledger.batches()
    with pytest.raises(ChurnError, match=r"is rejected\. Only an accepted batch"):
        ledger.withdraw(batch.batch, "withdrawn", "no")
