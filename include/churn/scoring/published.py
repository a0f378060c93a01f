"""Reads published lists: their rows, for an export, and how two of them differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from churn.errors import ChurnError
from churn.foundation.parts import has_table, part_names
from churn.foundation.paths import list_rows
from churn.foundation.records import ScoreList
from churn.foundation.storage import Storage
from churn.scoring.treatments import CONTACT, GROUP


@dataclass(frozen=True)
class ContactChange:
    """How many customers entered and left the contact group since the list before, and what differs between the lists."""

    before: str
    entered: int
    left: int
    stayed: int
    because: str


@dataclass(frozen=True)
class Difference:
    """How the contact group of a list differs from that of another: customers who entered and left, as texts of their keys."""

    before: ScoreList
    after: ScoreList
    entered: list[str]
    left: list[str]
    stayed: int

    @property
    def because(self) -> str:
        """What differs between the lists, in words."""
        return describe_change(self.before, self.after)


def read_rows(storage: Storage, row: ScoreList, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a list in the order of its customers, in pieces.

    Raises:
        ChurnError: its parts have been deleted by maintenance, or are missing.
    """
    folder = list_rows(row.list_id)
    if not has_table(storage, folder):
        raise ChurnError(
            f"The rows of list {row.list_id[:12]} were deleted. CHURN_KEEP_LISTS says how many lists are kept; `churn scores list` shows the others."
        )
    for name in part_names(storage, folder):
        with storage.reading(name) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(columns=columns):
                yield pa.Table.from_batches([batch])


def stored_columns(storage: Storage, row: ScoreList, wanted: Sequence[str]) -> list[str]:
    """Those of some columns that the rows of a list have: lists of earlier versions of this software have fewer.

    Raises:
        ChurnError: the rows were deleted.
    """
    piece = next(read_rows(storage, row), None)
    return [name for name in wanted if piece is None or name in piece.column_names]


def first_rows(storage: Storage, row: ScoreList, count: int, group: str | None = None) -> pa.Table:
    """The first rows of a list by rank, of one group or of all.

    Args:
        storage: the data root.
        row: the list.
        count: the number of rows.
        group: contact, control or rest; None for all.
    """
    best: pa.Table | None = None
    for piece in read_rows(storage, row):
        chosen = piece.filter(pc.equal(piece[GROUP], group)) if group else piece
        best = pa.concat_tables([best, chosen]) if best is not None else chosen
        best = best.sort_by("rank").slice(0, count)
    if best is None:
        raise ChurnError(f"List {row.list_id[:12]} has no customers.")
    return best


def compare_lists(storage: Storage, before: ScoreList, after: ScoreList, key: str) -> Difference:
    """Find who entered and left the contact group.

    Args:
        storage: the data root.
        before: the earlier list.
        after: the later one.
        key: the name of the column with the key.
    """
    earlier, later = _contacts(storage, before, key), _contacts(storage, after, key)
    return Difference(before, after, sorted(later - earlier), sorted(earlier - later), len(earlier & later))


def describe_change(before: ScoreList, after: ScoreList) -> str:
    """What differs between what two lists were made from, in words."""
    changes = []
    if before.version != after.version:
        changes.append(f"version {after.version} scored instead of version {before.version}")
    if before.population != after.population:
        changes.append("the customers are others")
    if before.policy != after.policy:
        changes.append("the scoring policy was changed")
    if before.excludes != after.excludes:
        changes.append("lists of other campaigns exclude other customers")
    return " and ".join(changes) or "only the earlier lists of the campaign differ"


def count_change(
    storage: Storage, before: ScoreList, after: ScoreList, written: Sequence[Path], key: str
) -> ContactChange | None:
    """Count who entered and left the contact group; None if the rows of the list before were deleted, or have another key.

    Args:
        storage: the data root.
        before: the list before.
        after: the new list.
        written: the files of its parts, before they are stored.
        key: the name of the column with the key.
    """
    if not has_table(storage, list_rows(before.list_id)):
        return None
    names = part_names(storage, list_rows(before.list_id))
    try:
        earlier = _contact_keys([storage.read_table(name, [key, GROUP]) for name in names], key)
    except (KeyError, pa.ArrowInvalid):
        return None
    later = _contact_keys([pq.read_table(file, columns=[key, GROUP]) for file in written], key)
    stayed = int(pc.sum(pc.is_in(later, value_set=earlier)).as_py() or 0)
    return ContactChange(
        before.list_id, len(later) - stayed, len(earlier) - stayed, stayed, describe_change(before, after)
    )


def _contact_keys(tables: Sequence[pa.Table], key: str) -> pa.ChunkedArray:
    chosen = [table.filter(pc.equal(table[GROUP], CONTACT))[key].cast(pa.string()) for table in tables]
    chunks = [chunk for column in chosen for chunk in column.chunks]
    return pa.chunked_array(chunks, pa.string())


def _contacts(storage: Storage, row: ScoreList, key: str) -> set[str]:
    keys: set[str] = set()
    for piece in read_rows(storage, row, [key, GROUP]):
        keys |= set(piece.filter(pc.equal(piece[GROUP], CONTACT))[key].cast(pa.string()).to_pylist())
    return keys
