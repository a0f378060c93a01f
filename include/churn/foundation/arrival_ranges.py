"""Sets of batches, written as ranges of their order of arrival, so that a row of the ledger does not grow with every batch there ever was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from churn.foundation.schema import batches

IN_ORDER = (batches.c.arrived_at, batches.c.name, batches.c.batch)
"""By the arrival of their files, then by name. The order in which they were claimed does not matter."""

Kept = list[str | list[int]]
"""What a row keeps: pairs of the first and the last arrival of a range; from an earlier version, hashes."""


@dataclass(frozen=True)
class Arrivals:
    """All batches of a ledger, in order.

    Attributes:
        hashes: their hashes, shape (batches,), objects.
        numbers: the number of the arrival of each, shape (batches,), int64; no two are equal.
    """

    hashes: npt.NDArray[np.object_]
    numbers: npt.NDArray[np.int64]

    @classmethod
    def read(cls, connection: sa.Connection) -> Arrivals:
        """Read them from a ledger."""
        rows = connection.execute(sa.select(batches.c.batch, batches.c.arrival).order_by(*IN_ORDER)).all()
        hashes = np.array([row.batch for row in rows], dtype=object)
        return cls(hashes, np.array([row.arrival for row in rows], dtype=np.int64))

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
