"""Merges the rows of an earlier snapshot with those that were accepted since; both are ordered by key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from churn.contract import Contract
from churn.foundation.parts import PartFault


class BaseFault(PartFault):
    """A part of an earlier snapshot is missing or has been changed, so nothing can be computed from it."""


class FreshRows:
    """The new rows, by key, read as far as they are needed."""

    def __init__(self, rows: Iterator[pa.Table], contract: Contract) -> None:
        self._rows, self._key = rows, contract.key.name
        self._waiting: pa.Table | None = next(rows, None)

    def up_to(self, key: pa.Scalar[Any]) -> pa.Table | None:
        """The next rows whose key is at most this one; None if there are none."""
        taken = []
        while self._waiting is not None:
            count = pc.sum(pc.less_equal(self._waiting[self._key], key)).as_py() or 0
            taken.append(self._waiting.slice(0, count))
            if count < self._waiting.num_rows:
                self._waiting = self._waiting.slice(count)
                break
            self._waiting = next(self._rows, None)
        table = pa.concat_tables(taken) if taken else None
        return table if table is not None and table.num_rows else None

    def rest(self) -> Iterator[pa.Table]:
        """All rows that have not been read."""
        while self._waiting is not None:
            yield self._waiting.drop_columns(["_rank"])
            self._waiting = next(self._rows, None)


def merge_rows(
    base: Iterator[pa.Table], fresh: FreshRows, contract: Contract, batches: NDArray[np.int64]
) -> Iterator[pa.Table]:
    """The rows of an earlier snapshot with the new ones, by key; of two rows of a customer, the later one.

    Args:
        base: the rows of the earlier snapshot.
        fresh: the new rows, each with `_rank`, the place of its batch.
        contract: the data contract.
        batches: the numbers of all batches in the order of arrival, shape (batches,).

    Raises:
        BaseFault: the earlier snapshot has rows of other batches.
    """
    key = contract.key.name
    for piece in base:
        chosen = fresh.up_to(piece[key][-1])
        yield piece if chosen is None else _with_fresh(piece, chosen, contract, batches)
    yield from fresh.rest()


def _with_fresh(piece: pa.Table, chosen: pa.Table, contract: Contract, batches: NDArray[np.int64]) -> pa.Table:
    key, rows = contract.key.name, piece.num_rows
    old, new = _comparable(piece[key]), _comparable(chosen[key])
    places = np.searchsorted(old, new)  # at most the last one, because the piece ends with a key that is as large
    known = old[places] == new
    wins = ~known
    wins[known] = _is_later(chosen.filter(pa.array(known)), piece.take(pa.array(places[known])), contract, batches)
    order = np.arange(rows)
    replaced = known & wins
    numbers = rows + np.arange(chosen.num_rows)
    order[places[replaced]] = numbers[replaced]
    order = np.insert(order, places[~known], numbers[~known])
    return pa.concat_tables([piece, chosen.drop_columns(["_rank"])]).combine_chunks().take(pa.array(order))


def _is_later(new: pa.Table, old: pa.Table, contract: Contract, batches: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the new row of a customer counts: by the as-of column if there is one, then by the arrival of the batch."""
    sorter = np.argsort(batches)
    numbers = old["_batch"].to_numpy()
    found = sorter[np.minimum(np.searchsorted(batches, numbers, sorter=sorter), len(sorter) - 1)]
    if not np.array_equal(batches[found], numbers):
        raise BaseFault("It has rows of batches that it should not contain.")
    later: NDArray[np.bool_] = new["_rank"].to_numpy() > found
    if contract.as_of is None:
        return later
    ours, theirs = (table[contract.as_of.name] for table in (new, old))
    absent, missing = pc.is_null(ours).to_numpy(), pc.is_null(theirs).to_numpy()  # a missing value is the latest
    newer = pc.fill_null(pc.greater(ours, theirs), False).to_numpy() | (absent & ~missing)
    same = pc.fill_null(pc.equal(ours, theirs), False).to_numpy() | (absent & missing)
    return np.asarray(newer | (same & later), np.bool_)


def _comparable(keys: pa.ChunkedArray) -> NDArray[Any]:
    """Keys as an array that numpy orders like DuckDB: texts by their UTF-8 bytes."""
    if pa.types.is_string(keys.type):
        keys = keys.cast(pa.binary())
    return np.asarray(keys.combine_chunks().to_numpy(zero_copy_only=False))
