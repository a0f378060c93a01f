"""Work for the tests of spreading: importable, so that worker processes find it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from churn.foundation.spread import INTO, by_threads

NUMBERS = pa.schema([("number", pa.int64())])


def square(part: int) -> int:
    return part * part


@by_threads
def process_of(part: int) -> int:
    return os.getpid() + 0 * part


def process_id(part: int) -> int:
    return os.getpid() + 0 * part


def fail_at_seven(part: int) -> int:
    if part == 7:
        raise ValueError("part 7 fails")
    return part


def die_at_three(part: int) -> int:
    """End as the kernel ends a process that takes too much memory."""
    if part == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return part


def write_process_id(folder: Path, part: int) -> None:
    """Say which process works on the part, and be long at it."""
    (folder / f"{os.getpid()}.worker").touch()
    time.sleep(0.5)


def die_while_judging(job: object, part: object) -> None:
    """End as the kernel ends a process that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def numbers(part: int) -> Iterator[pa.RecordBatch]:
    """A hundred numbers in two batches, each sent to the receiver of its remainder by three."""
    for start in (100 * part, 100 * part + 50):
        values = np.arange(start, start + 50)
        yield pa.record_batch([pa.array(values), pa.array((values % 3).astype(np.int32))], ["number", INTO])


@by_threads
def numbers_by_threads(part: int) -> Iterator[pa.RecordBatch]:
    return numbers(part)


def summed(receiver: int, batches: Iterator[pa.RecordBatch]) -> tuple[int, int, list[int]]:
    """The receiver, the number of its rows, and its first five."""
    values = [number for batch in batches for number in batch["number"].to_pylist()]
    assert all(value % 3 == receiver for value in values)
    return receiver, len(values), values[:5]
