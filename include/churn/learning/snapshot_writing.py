"""The files of a snapshot: their columns, how they are written, and the hash of their rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from churn.contract import Column, Contract, Kind
from churn.foundation import columnar
from churn.foundation.parts import WrittenPart
from churn.foundation.scratch import writing
from churn.learning.content import ContentHash

BUCKET = "_bucket"
GROUP_ROWS = 131_072
"""Rows of a row group. All groups but the last have exactly this number, so that the same rows are always the same bytes."""
_FEW_VALUES = 65_536


@dataclass(frozen=True)
class ComputedPart:
    """A part of a snapshot in a scratch folder; the rows of each of its buckets, and of each column the rows without a value."""

    written: WrittenPart
    sizes: list[int]
    missing: dict[str, int]


def snapshot_schema(contract: Contract, panel: bool = False) -> pa.Schema:
    """The columns of a snapshot; of a panel, it also has labels whose rows have not arrived, and events."""
    if panel:
        return columnar.panel_schema(contract)
    added = [(BUCKET, pa.int32()), ("_customer", pa.uint64())]
    added += [("_arrived_at", pa.timestamp("us", "UTC")), ("_batch", pa.int64())]
    return pa.schema([*columnar.row_schema(contract), *(pa.field(name, kind) for name, kind in added)])


def open_content_hash(contract: Contract, panel: bool = False) -> ContentHash:
    """A hash of the rows of a part, to be fed with them. In a panel, it matters when a row and its label arrived."""
    times = [columnar.KIND, columnar.FIRST_AT, columnar.FIRST_LABELLED, columnar.LABELLED_AT] if panel else []
    return ContentHash([*contract.names, BUCKET, *times])


def write_rows(tables: Iterator[pa.Table], contract: Contract, file: Path, panel: bool = False) -> ComputedPart:
    """Write rows in groups of a fixed size, and hash their content on the way."""
    digest = open_content_hash(contract, panel)
    sizes = np.zeros(columnar.BUCKETS, np.int64)
    missing = dict.fromkeys(contract.names, 0)
    with (
        writing(file) as target,
        pq.ParquetWriter(target, snapshot_schema(contract, panel), **_encoding(contract, panel)) as writer,
    ):
        for table in _groups(tables):
            rows = table.combine_chunks()  # pages would otherwise depend on how the rows came
            digest.update(rows)
            sizes += np.bincount(rows[BUCKET].to_numpy(), minlength=columnar.BUCKETS)
            lines = rows.filter(pc.equal(rows[columnar.KIND], columnar.ROW)) if panel else rows
            for name in missing:
                missing[name] += lines[name].null_count
            writer.write_table(rows, GROUP_ROWS)
    return ComputedPart(WrittenPart.of(file, digest.hexdigest()), sizes.tolist(), missing)


def _encoding(contract: Contract, panel: bool) -> dict[str, Any]:
    """How a part is written: what is fastest to write and read, and about as small as with a compression.

    Numbers of few values become a dictionary of small codes, other integers differences; only texts are compressed.
    """
    whole = [column for column in contract.columns if column.kind is Kind.INTEGER]
    few = [column.name for column in whole if _has_few_values(column)]
    texts = [column.name for column in contract.columns if column.kind is Kind.TEXT]
    times = [columnar.KIND, columnar.FIRST_AT, columnar.LABEL_BATCH, columnar.LABELLED_AT] if panel else []
    return {
        "use_dictionary": [*few, *texts, BUCKET, "_arrived_at", "_batch", *times],
        "column_encoding": {column.name: "DELTA_BINARY_PACKED" for column in whole if column.name not in few},
        "compression": dict.fromkeys(contract.names, "none") | dict.fromkeys(texts, "zstd"),
        "compression_level": dict.fromkeys(texts, 1),
        "write_statistics": False,
    }


def _has_few_values(column: Column) -> bool:
    return column.minimum is not None and column.maximum is not None and column.maximum - column.minimum < _FEW_VALUES


def _groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    rows = 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        while rows >= GROUP_ROWS:
            together = pa.concat_tables(held)
            yield together.slice(0, GROUP_ROWS)
            held = [together.slice(GROUP_ROWS)]
            rows -= GROUP_ROWS
    if rows:
        yield pa.concat_tables(held)
