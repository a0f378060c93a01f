"""Snapshots of format 1: one file, named by the content hash of its rows. They are rebuilt, and no longer taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from churn.contract import Contract
from churn.foundation import columnar
from churn.foundation.parts import part_names
from churn.foundation.paths import accepted
from churn.foundation.records import Batch
from churn.foundation.sampling import Sampling
from churn.foundation.storage import Storage
from churn.intake.judged_rows import batch_number


def write_single_file(
    storage: Storage, batches: Sequence[Batch], contract: Contract, sampling: Sampling, scratch: Path
) -> Path:
    """Write the latest row of every customer in these batches, which are in the order of arrival, to one scratch file.

    Raises:
        ChurnError: a file of accepted rows is missing or damaged.
    """
    arrivals = pa.table(
        {
            "_batch": pa.array([batch_number(batch.batch) for batch in batches], pa.int64()),
            "_arrived_at": pa.array([batch.arrived_at for batch in batches], pa.timestamp("us", "UTC")),
            "_rank": pa.array(np.arange(len(batches))),
        }
    )
    with columnar.engine(sampling.spread.memory_limit) as connection:
        names = [name for batch in batches for name in part_names(storage, accepted(batch.batch))]
        columnar.scan(connection, "accepted", storage, names)
        rows = scratch / "rows.parquet"
        columnar.write_latest_rows(connection, arrivals, contract, sampling.salt, rows)
        return rows
