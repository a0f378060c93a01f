"""Opens a file in the format that its first bytes show, whatever its name."""

from __future__ import annotations

import zlib
from typing import IO

from churn.intake.batch_file import BatchFile
from churn.intake.csv_reading import CsvBatch
from churn.intake.file_kind import HEAD, OtherFile, recognise
from churn.intake.parquet_reading import ParquetBatch

_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31  # zlib's largest window, with the header of gzip


def open_file(stream: IO[bytes]) -> BatchFile:
    """Open a CSV file, plain or gzipped, or a Parquet file. The stream must be seekable.

    A file that is neither is opened as one whose check says what it is.
    """
    stream.seek(0)
    head = stream.read(HEAD)
    stream.seek(0)
    if head[:4] == b"PAR1":
        return ParquetBatch(stream)
    zipped = head[:2] == _GZIP
    fault = recognise(_unpacked(head) if zipped else head, stream, zipped=zipped)
    stream.seek(0)
    return OtherFile(fault) if fault else CsvBatch(stream, zipped=zipped)


def _unpacked(head: bytes) -> bytes:
    """The beginning of a gzipped file; nothing if it is damaged, which reading it reports."""
    try:
        return zlib.decompressobj(wbits=_GZIP_WINDOW).decompress(head, HEAD)
    except zlib.error:
        return b""
