"""Hashes the content of rows, not the bytes of the files that they are in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_ROWS = 262_144


class ContentHash:
    """sha256 over the sha256 of the values of each column, in the order of the rows.

    How the rows are divided into batches does not change the hash; their order does.

    Args:
        columns: the names of the columns that count, in order.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        # Three of each column: values, lengths of texts, which are missing.
        self._digests = {column: tuple(hashlib.sha256() for _ in range(3)) for column in columns}

    def update(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Add rows, which have at least the columns that count."""
        for column, digests in self._digests.items():
            values = rows[column]
            for chunk in values.chunks if isinstance(values, pa.ChunkedArray) else [values]:
                for digest, content in zip(digests, _contents(chunk), strict=True):
                    digest.update(content)

    def hexdigest(self) -> str:
        """The hash of the rows so far."""
        columns = (
            f"{column}\x1f{hashlib.sha256(b''.join(digest.digest() for digest in digests)).hexdigest()}\x1e"
            for column, digests in self._digests.items()
        )
        return hashlib.sha256("".join(columns).encode()).hexdigest()


def content_hash(file: Path, columns: Sequence[str]) -> str:
    """The content hash of the rows of a Parquet file.

    Row group size, compression and version of the writer do not change the hash; the order of the rows does.

    Args:
        file: Parquet file.
        columns: the columns that count, in order.
    """
    digest = ContentHash(columns)
    for batch in pq.ParquetFile(file).iter_batches(_ROWS, columns=list(columns)):
        digest.update(batch)
    return digest.hexdigest()


def _contents(values: pa.Array) -> Iterator[memoryview | bytes]:
    """The bytes of the values with missing ones as zero or empty, the lengths of texts, and which are missing."""
    present, some_missing = pc.is_valid(values), values.null_count > 0
    if pa.types.is_string(values.type):
        texts = pc.fill_null(values, "") if values.null_count else values
        lengths = pc.binary_length(texts.cast(pa.binary())).to_numpy(zero_copy_only=False).astype("<i4")
        yield _text_bytes(texts, int(lengths.sum(dtype=np.int64)))
        yield lengths.tobytes()
    else:
        if values.null_count:
            number = pa.int64() if pa.types.is_timestamp(values.type) else pa.int32()
            values = pc.fill_null(values, pa.scalar(0, number).cast(values.type))
        numbers = np.ascontiguousarray(values.to_numpy(zero_copy_only=False))
        yield numbers.view(np.uint8).data
        yield b""
    yield present.to_numpy(zero_copy_only=False).tobytes() if some_missing else bytes([1]) * len(values)


def _text_bytes(texts: pa.Array, length: int) -> memoryview | bytes:
    """The bytes of texts without missing ones, one after the other."""
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return b""
    first = int(np.frombuffer(offsets, np.int32, 1, 4 * texts.offset)[0])
    return memoryview(data)[first : first + length]
