"""Opens a file in the format that its first bytes show."""

from __future__ import annotations

from typing import IO

from churn.intake.batch_file import BatchFile
from churn.intake.csv_reading import CsvBatch
from churn.intake.parquet_reading import ParquetBatch


def open_file(stream: IO[bytes]) -> BatchFile:
    """Open a CSV file, plain or gzipped, or a Parquet file, as its first bytes say. The stream must be seekable."""
    stream.seek(0)
    magic = stream.read(4)
    stream.seek(0)
    return ParquetBatch(stream) if magic == b"PAR1" else CsvBatch(stream, zipped=magic[:2] == b"\x1f\x8b")
