"""Which unseen customers a comparison uses when there are more than it needs: a draw by customer, fixed before anything is scored."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa

from churn.contract import Contract
from churn.foundation import columnar

_DRAW = "evidence"
"""Label of the draw. It has nothing to do with buckets, with training or with control groups."""
_ALL = 2.0**64
_SIGMAS = 4
"""The draw aims this many standard deviations below the limit, so that it practically never exceeds it."""


def evidence_share(holdout_rows: int, most: int) -> float:
    """The share of unseen customers to draw so that there are at most this many; 1 if all may be used."""
    if holdout_rows <= most:
        return 1.0
    return float(max(most - _SIGMAS * np.sqrt(most), 1) / holdout_rows)


def draw_rows(
    connection: duckdb.DuckDBPyConnection, rows: pa.RecordBatch, contract: Contract, salt: bytes, share: float
) -> pa.RecordBatch:
    """The rows of this share of the customers. The same customers are drawn from each snapshot; with a smaller share, some of them.

    Args:
        connection: the engine.
        rows: rows with the key of the contract.
        contract: the data contract.
        salt: the secret of the draw.
        share: of the customers, below 1.
    """
    drawn = columnar.draw_customers(connection, rows[contract.key.name], salt, _DRAW)
    return rows.filter(pa.array(drawn < np.uint64(share * _ALL)))
