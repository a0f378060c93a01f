"""Rows set aside: raw text, line number, batch and every rule that the row broke."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from churn.foundation.storage import QUARANTINE, Storage

MOST_FREQUENT = 3
EXAMPLE_LINES = 5


def quarantined(batch: str) -> str:
    """Where the rows of a batch that were set aside are kept."""
    return f"{QUARANTINE}/{batch}.parquet"


def set_aside(storage: Storage, batch: str, judged: pa.Table) -> int:
    """Write the rows that broke a rule, or nothing if none did.

    Args:
        storage: the data root.
        batch: hash of the batch.
        judged: `_line`, `_raw` and `_failed`, rows of the batch.

    Returns:
        Number of rows set aside.
    """
    failed = judged.filter(pc.greater(pc.list_value_length(judged["_failed"]), 0)).select(["_line", "_raw", "_failed"])
    if failed.num_rows:
        name = pa.array([batch] * failed.num_rows, pa.string())
        storage.write_table(quarantined(batch), failed.append_column("_batch", name))
    return int(failed.num_rows)


def most_frequent(judged: pa.Table) -> str:
    """The most frequent failures with example lines, for a message: counts and lines, no values."""
    lines: dict[str, list[int]] = {}
    for line, rules in zip(judged["_line"].to_pylist(), judged["_failed"].to_pylist(), strict=True):
        for rule in rules:
            lines.setdefault(rule, []).append(line)
    counts = Counter({rule: len(found) for rule, found in lines.items()})
    return "; ".join(
        f"{rule}: {count} (line {', '.join(map(str, lines[rule][:EXAMPLE_LINES]))}{', ...' if count > EXAMPLE_LINES else ''})"
        for rule, count in counts.most_common(MOST_FREQUENT)
    )
