"""Accepted rows as frames of at most a million rows each, in the form that Great Expectations processes fastest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from churn.contract import Column, Contract, Kind
from churn.foundation.parts import WrittenPart
from churn.foundation.scratch import given
from churn.foundation.spread import INTO
from churn.intake.judged_rows import accepted_schema

FRAME_ROWS = 1_000_000
"""Rows of a frame at most. A frame of the sample contract needs some 200 MB while it is checked."""


@dataclass(frozen=True)
class Slice:
    """Some rows of a Parquet file: the number of the first one, from 0, and how many they are."""

    file: Path
    first: int
    rows: int


@dataclass(frozen=True)
class Frame:
    """Rows that are checked together: small files as a whole, or a slice of a larger one."""

    slices: tuple[Slice, ...]

    @property
    def rows(self) -> int:
        """The rows of all slices."""
        return sum(piece.rows for piece in self.slices)


def cut_frames(parts: Sequence[WrittenPart]) -> list[Frame]:
    """Divide the rows of Parquet files into frames, in order. Files without rows are left out; no row at all makes no frame."""
    frames: list[Frame] = []
    pending: list[Slice] = []
    for piece in _slices(parts):
        if pending and sum(other.rows for other in pending) + piece.rows > FRAME_ROWS:
            frames.append(Frame(tuple(pending)))
            pending = []
        pending.append(piece)
    return [*frames, Frame(tuple(pending))] if pending else frames


def _slices(parts: Iterable[WrittenPart]) -> Iterator[Slice]:
    for part in parts:
        for first in range(0, part.rows, FRAME_ROWS):
            yield Slice(part.file, first, min(FRAME_ROWS, part.rows - first))


def read_frame(frame: Frame, columns: Sequence[Column]) -> pd.DataFrame:
    """Read columns of a frame: numpy numbers, texts as categories.

    They are read column by column, so that nothing is in memory twice.
    """
    with _opened(frame, columns) as pieces:
        values = {column.name: as_pandas(_read(pieces, column), column) for column in columns}
    return pd.DataFrame(values, copy=False)


def as_pandas(values: pa.ChunkedArray, column: Column) -> pd.Series[Any]:
    """The values of a column in pandas, in the type that the suite expects."""
    series: pd.Series[Any] = values.to_pandas(date_as_object=False)
    # An integer column with missing values would become a float column in pandas.
    return series.astype("Int64") if column.nullable and column.kind is Kind.INTEGER else series


@contextmanager
def _opened(frame: Frame, columns: Sequence[Column]) -> Iterator[list[tuple[pq.ParquetFile, Slice]]]:
    """Open the files of a frame, to read texts as dictionaries."""
    texts = [column.name for column in columns if column.kind is Kind.TEXT]
    with ExitStack() as stack:
        yield [
            (stack.enter_context(pq.ParquetFile(given(piece.file), read_dictionary=texts)), piece)
            for piece in frame.slices
        ]


def _read(pieces: Sequence[tuple[pq.ParquetFile, Slice]], column: Column) -> pa.ChunkedArray:
    """Read a column of slices, from the row groups that they are in."""
    chunks: list[pa.Array] = []
    for file, piece in pieces:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = np.cumsum(sizes)
        first = int(np.searchsorted(ends, piece.first, side="right"))
        last = int(np.searchsorted(ends, piece.first + piece.rows, side="left"))
        values = file.read_row_groups(range(first, last + 1), columns=[column.name], use_threads=False).column(0)
        chunks += values.slice(piece.first - int(ends[first]) + sizes[first], piece.rows).chunks
    return pa.chunked_array(chunks)


def spread_by_value(columns: Sequence[Column], into: int, frame: Frame) -> Iterator[pa.RecordBatch]:
    """Yield columns of a frame with the number of the receiver of each row: equal values of the first column have the same one.

    Args:
        columns: the columns.
        into: the number of receivers.
        frame: the rows.
    """
    column = columns[0]
    with _opened(frame, columns) as pieces:
        values = {each.name: _read(pieces, each) for each in columns}
    series = as_pandas(values[column.name], column)
    # 0.0 and -0.0 are equal, but only after 0.0 has been added do they have the same bytes.
    hashed = pd.util.hash_pandas_object(series + 0.0 if column.kind is Kind.NUMBER else series, index=False)
    receivers = (hashed.to_numpy() % np.uint64(into)).astype(np.int32)
    whole = {name: chunks.unify_dictionaries().combine_chunks() for name, chunks in values.items()}
    yield from pa.table({**whole, INTO: receivers}).to_batches()


def column_schema(contract: Contract, columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of some columns in a file of accepted rows."""
    schema = accepted_schema(contract)
    return pa.schema([schema.field(column.name) for column in columns])
