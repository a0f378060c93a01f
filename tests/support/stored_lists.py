"""Lists of scores that were written without a model: every customer has a score, and the first ones are to be contacted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from churn.contracts.bank import BANK_CHURN
from churn.foundation.ledger import Ledger
from churn.foundation.parts import WrittenPart, store_parts
from churn.foundation.paths import list_rows
from churn.foundation.records import ScoreList
from churn.foundation.storage import Storage
from churn.scoring.list_parts import list_schema
from churn.scoring.listed_reasons import REASONS
from support.score_lists import published


def store_list(
    storage: Storage, ledger: Ledger, number: int, folder: Path, rows: int = 500, campaign: str = "retention"
) -> ScoreList:
    """Store and publish a list with this number in its id and in the first digits of its keys, in two parts."""
    name = f"{number:064x}"[::-1]
    parts = []
    for place, ranks in enumerate(np.array_split(np.arange(1, rows + 1), 2)):
        columns = {
            "CustomerId": ranks + number * 1_000_000,
            "probability": 1 / ranks,
            "rank": ranks,
            "percentile": -(-ranks * 100 // rows),
            "decile": -(-ranks * 10 // rows),
            "expected_value": 100.0 / ranks,
            "group": np.where(ranks <= rows // 10, "contact", "rest"),
            **{reason: ["Balance is at most 0"] * len(ranks) for reason in REASONS},
            "trained_on": np.zeros(len(ranks), bool),
            "list_id": [name] * len(ranks),
            "first_list": np.where(ranks <= rows // 10, name, None),
        }
        file = folder / f"{number}-{place}.parquet"
        pq.write_table(pa.table(columns).cast(list_schema(BANK_CHURN)), file)
        parts.append(WrittenPart.of(file))
    manifest = store_parts(storage, list_rows(name), parts)
    now = datetime.now(UTC)
    row = replace(published(name, campaign, 0, 0, now), rows=rows, arrived_rows=rows, manifest=manifest.digest)
    return ledger.publish_list(row)
