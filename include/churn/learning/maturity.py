"""Which rows of a panel count: those whose horizon has passed by the cut-off date of the run, whatever their label.

A row counts if it first arrived with its label after its horizon had passed, or if every label of its as-of date is final: all its rows have been sent
or labelled again, or files of leavers are complete for its horizon. Until then the rows of that date wait, leavers
and stayers alike: a month of which only the leavers are known would teach a model that everybody leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from churn.contract import Contract
from churn.foundation import columnar
from churn.foundation.columnar import Counting, DateCount
from churn.foundation.records import Snapshot

_EPOCH = date(1970, 1, 1)


def today() -> date:
    """The cut-off if none is named."""
    return datetime.now(UTC).date()


def complete_dates(
    dates: Sequence[DateCount], contract: Contract, cutoff: date, known: Sequence[tuple[date, date]]
) -> tuple[date, ...]:
    """The as-of dates whose horizon has passed by the cut-off and of which every label is final.

    Args:
        dates: the rows of the panel by as-of date.
        contract: the data contract.
        cutoff: the cut-off date of the run.
        known: the periods of which every event is known from files of leavers.
    """
    if contract.horizon_days is None:
        return ()
    complete = []
    for count in dates:
        if not isinstance(count.as_of, date):
            continue
        end = count.as_of + timedelta(days=contract.horizon_days)
        labelled = not count.unlabelled and count.labelled_since is not None and count.labelled_since > end
        told = any(begin <= count.as_of + timedelta(1) and end <= through for begin, through in known)
        if end < cutoff and (labelled or told):
            complete.append(count.as_of)
    return tuple(complete)


def counting_of(snapshot: Snapshot) -> Counting | None:
    """Which rows of a snapshot count; None if all do."""
    if snapshot.cutoff is None:
        return None
    return Counting(
        date.fromisoformat(snapshot.cutoff), tuple(date.fromisoformat(day) for day in snapshot.complete or ())
    )


def cutoff_of(snapshot: Snapshot) -> date | None:
    """The cut-off of a snapshot; None if it has none."""
    return date.fromisoformat(snapshot.cutoff) if snapshot.cutoff else None


def count_mask(
    batch: pa.RecordBatch | pa.Table, contract: Contract, counting: Counting | None
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which lines of a panel are rows that count, as `columnar.create_counting_view` has them; shape (lines,)."""
    rows = pc.equal(batch[columnar.KIND], columnar.ROW).to_numpy(zero_copy_only=False)
    if counting is None or contract.horizon_days is None or contract.as_of is None:
        return np.asarray(rows & pc.is_valid(batch[contract.target.name]).to_numpy(zero_copy_only=False), np.bool_)
    as_of = batch[contract.as_of.name]
    ends = (
        pc.fill_null(as_of.cast(pa.int32()), np.iinfo(np.int32).max // 2).to_numpy(zero_copy_only=False)
        + contract.horizon_days
    )
    first = pc.fill_null(batch[columnar.FIRST_AT].cast(pa.date32()).cast(pa.int32()), 0).to_numpy(zero_copy_only=False)
    labelled = pc.fill_null(batch[columnar.FIRST_LABELLED], False).to_numpy(zero_copy_only=False)
    whole = pc.is_in(as_of, pa.array(counting.complete, pa.date32())).to_numpy(zero_copy_only=False)
    passed = ends < (counting.cutoff - _EPOCH).days
    return np.asarray(rows & passed & (((first > ends) & labelled) | whole), np.bool_)
