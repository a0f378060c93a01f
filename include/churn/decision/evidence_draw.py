"""Which unseen customers a comparison uses when there are more than it needs: a draw by customer, fixed before anything is scored."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa

from churn.foundation import columnar
from churn.foundation.clients import Clients
from churn.foundation.records import Snapshot
from churn.learning.snapshot import holdout_pieces

log = logging.getLogger(__name__)
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


def drawn_pieces(clients: Clients, snapshot: Snapshot, rows: int, share: float) -> Iterator[pd.DataFrame]:
    """The unseen customers of a snapshot as `holdout_pieces` gives them, or this share of them.

    The same customers are drawn from each snapshot; with a smaller share, some of them.

    Raises:
        PartFault: a part of the snapshot is missing or has been changed.
    """
    pieces = holdout_pieces(clients.storage, snapshot, clients.contract, rows)
    if share >= 1:
        yield from pieces
        return
    with columnar.engine(clients.settings.duckdb_memory_limit) as connection:
        for piece in pieces:
            keys = pa.array(piece[clients.contract.key.name], from_pandas=True)
            drawn = columnar.draw_customers(connection, keys, clients.sampling.salt, _DRAW)
            chosen = piece[drawn < np.uint64(share * _ALL)]
            if len(chosen):
                yield chosen
