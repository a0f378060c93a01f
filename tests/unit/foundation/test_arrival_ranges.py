"""The batches of a snapshot are kept as ranges of their arrival, and come back in order, whatever was left out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from churn.foundation.arrival_ranges import Arrivals
from churn.foundation.ledger import Ledger
from churn.foundation.records import Snapshot
from churn.foundation.schema import snapshots
from support.review_ledger import NOW


def arrivals_of(numbers: list[int]) -> Arrivals:
    """Batches with these numbers, in order."""
    hashes = np.array([f"batch {number}" for number in numbers], dtype=object)
    return Arrivals(hashes, np.array(numbers, dtype=np.int64))


@given(st.sets(st.integers(1, 60)).flatmap(lambda numbers: st.permutations(sorted(numbers))), st.data())
def test_any_choice_comes_back_in_order(numbers: list[int], data: st.DataObject) -> None:
    """Also if files arrived late, so that the order is not that of the numbers; the ranges touch nowhere."""
    arrivals = arrivals_of(numbers)
    left_out = data.draw(st.sets(st.sampled_from(numbers))) if numbers else set()
    chosen = [f"batch {number}" for number in numbers if number not in left_out]
    kept = arrivals.ranges_of(chosen)
    assert arrivals.batches_in(kept) == chosen
    ranges = [item for item in kept if not isinstance(item, str)]
    assert len(ranges) == len(kept)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(ranges))


def test_what_ranges_cannot_tell_is_kept_as_hashes() -> None:
    """Batches of another order, or that the ledger does not know."""
    arrivals = arrivals_of([1, 2, 3])
    for chosen in (["batch 2", "batch 1"], ["batch 1", "another"], []):
        assert arrivals.ranges_of(chosen) == chosen
        assert arrivals.batches_in(arrivals.ranges_of(chosen)) == chosen


def test_a_row_does_not_grow_with_the_batches_before_it(ledger: Ledger) -> None:
    """A thousand batches, one of which arrived late and one was rejected, take as much room as three."""
    for number in range(1000):
        ledger.add_batch(f"{number:064x}", f"{'a late' if number == 7 else 'b'} {number:04}.csv", 1, NOW)
    accepted = [batch.batch for batch in ledger.batches() if batch.name != "b 0500.csv"]
    assert accepted[0] == f"{7:064x}"
    snapshot = Snapshot("s", 10, 7, 2, accepted, "salt", "contract", NOW)
    ledger.add_snapshot(snapshot)
    assert ledger.snapshots() == [snapshot]
    with ledger._transaction() as connection:
        kept = connection.scalar(sa.select(snapshots.c.batches))
    assert kept == [[1, 500], [502, 1000]]
