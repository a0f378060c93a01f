"""The name of a snapshot: a hash of the content of its rows, not of the bytes of its file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_ROWS = 262_144
_THREADS = 2


def content_hash(file: Path, columns: Sequence[str]) -> str:
    """sha256 over the sha256 of the values of each column, in the order of the rows.

    Row group size, compression and version of the writer do not change the hash; the order of the rows does.

    Args:
        file: Parquet file.
        columns: the columns that count, in order.
    """
    with ThreadPoolExecutor(_THREADS) as pool:  # hashing releases the lock
        digests = pool.map(lambda column: _column_digest(file, column), columns)
        return hashlib.sha256(
            "".join(f"{name}\x1f{digest}\x1e" for name, digest in zip(columns, digests, strict=True)).encode()
        ).hexdigest()


def _column_digest(file: Path, column: str) -> str:
    digests = [hashlib.sha256() for _ in range(3)]  # values, lengths of texts, which are missing
    for batch in pq.ParquetFile(file).iter_batches(_ROWS, columns=[column], use_threads=False):
        for digest, part in zip(digests, _parts(batch.column(0)), strict=False):
            digest.update(part)
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()


def _parts(values: pa.Array) -> Iterator[memoryview | bytes]:
    """The bytes of the values with missing ones as zero or empty, the lengths of texts, and which are missing."""
    present = pc.is_valid(values)
    if pa.types.is_string(values.type):
        binary = pc.fill_null(values, "").cast(pa.binary())
        yield b"".join(binary.to_pylist())
        yield pc.binary_length(binary).to_numpy(zero_copy_only=False).astype("<i4").tobytes()
    else:
        zero = pa.scalar(0, pa.int32()).cast(values.type)
        yield np.ascontiguousarray(pc.fill_null(values, zero).to_numpy(zero_copy_only=False)).tobytes()
        yield b""
    yield present.to_numpy(zero_copy_only=False).tobytes() if values.null_count else bytes([1]) * len(values)
