"""Sets of batches, written as ranges of their order of arrival, so that a row of the ledger does not grow with every batch there ever was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from churn.foundation.schema import batches

Kept = list[str | list[int]]
"""What a row keeps: pairs of the first and the last arrival of a range; from an earlier version, hashes."""


@dataclass(frozen=True)
class Arrivals:
    """Batches of a ledger by the arrival of their files, then by name.

    Attributes:
        hashes: their hashes, shape (batches,), objects.
        numbers: the number of the arrival of each, shape (batches,), int64; no two are equal.
    """

    hashes: npt.NDArray[np.object_]
    numbers: npt.NDArray[np.int64]

    @classmethod
    def read(cls, connection: sa.Connection) -> Arrivals:
        """Read all of a ledger."""
        return cls._read(connection, sa.select(batches))

    @classmethod
    def read_for(cls, connection: sa.Connection, rows: Sequence[Kept]) -> Arrivals:
        """Read those that these rows need, by index."""
        numbers = [number for kept in rows for item in kept if not isinstance(item, str) for number in item]
        among = batches.c.arrival.between(min(numbers, default=0), max(numbers, default=0))
        return cls._read(connection, sa.select(batches).where(among))

    @classmethod
    def _read(cls, connection: sa.Connection, query: sa.Select[Any]) -> Arrivals:
        columns = (batches.c.arrived_at, batches.c.name, batches.c.batch, batches.c.arrival)
        rows = sorted(map(tuple, connection.execute(query.with_only_columns(*columns))))
        hashes = np.array([name for _, _, name, _ in rows], dtype=object)
        return cls(hashes, np.array([number for *_, number in rows], dtype=np.int64))

    def ranges_of(self, chosen: Sequence[str]) -> Kept:
        """Return the ranges of these batches, or their hashes if the ledger does not know them all in this order."""
        wanted = set(chosen)
        among = np.fromiter((name in wanted for name in self.hashes), dtype=bool, count=len(self.hashes))
        if not wanted or self.hashes[among].tolist() != list(chosen):
            return list(chosen)
        numbers = np.sort(self.numbers[among])
        runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
        return [[int(run[0]), int(run[-1])] for run in runs]

    def batches_in(self, kept: Kept) -> list[str]:
        """Return the hashes of what `ranges_of` returned, in order."""
        ranges = [item for item in kept if not isinstance(item, str)]
        if not ranges:
            return [item for item in kept if isinstance(item, str)]
        first, last = np.array(ranges, dtype=np.int64).T
        candidate = np.searchsorted(first, self.numbers, side="right") - 1
        inside = (candidate >= 0) & (self.numbers <= last[candidate])
        names: list[str] = self.hashes[inside].tolist()
        return names
