"""Work that the tests give to executors, which import it by its name."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from churn.errors import ChurnError
from churn.foundation.scratch import given, writing
from churn.foundation.spread import INTO

SCHEMA = pa.schema([("row", pa.int64()), ("text", pa.string())])
ROWS = 12


def square(number: int) -> int:
    """The square of a number."""
    return number * number


def refuse_two(number: int) -> int:
    """Raise an error for the number 2."""
    if number == 2:
        raise ChurnError("The second part is damaged. Send it again.")
    return number


def make_large_rows(part: int) -> Iterator[pa.RecordBatch]:
    """Yield 4 MB of rows that cannot be compressed, for the receivers 0 to 3."""
    noise = np.random.default_rng(part)
    for number in range(20):
        texts = [noise.bytes(1000).hex() for _ in range(100)]
        receivers = pa.array([row % 4 for row in range(100)], pa.int32())
        yield pa.record_batch({"row": range(number * 100, number * 100 + 100), "text": texts, INTO: receivers})


def make_rows(part: int) -> Iterator[pa.RecordBatch]:
    """Yield rows for the receivers 0, 1 and 3."""
    for start in range(0, ROWS, 5):
        rows = list(range(part * ROWS + start, part * ROWS + min(start + 5, ROWS)))
        receivers = pa.array([(0, 1, 3)[row % 3] for row in rows], pa.int32())
        yield pa.record_batch({"row": rows, "text": [f"row {row}" for row in rows], INTO: receivers})


def make_damaged_rows(part: int) -> Iterator[pa.RecordBatch]:
    """Yield some rows, and raise an error in the part 2."""
    yield from make_rows(part)
    refuse_two(part)


def keep_rows(receiver: int, batches: Iterator[pa.RecordBatch]) -> tuple[int, list[int]]:
    """Return the rows that a receiver got, in their order."""
    return receiver, [row for batch in batches for row in batch["row"].to_pylist()]


def make_rows_slowly(part: int) -> Iterator[pa.RecordBatch]:
    """Yield rows after a while, in which other executors take other parts."""
    time.sleep(0.3)
    yield from make_rows(part)


def keep_rows_slowly(receiver: int, batches: Iterator[pa.RecordBatch]) -> tuple[int, list[int]]:
    """Return the rows of a receiver after a while."""
    time.sleep(0.3)
    return keep_rows(receiver, batches)


def end_executor() -> None:
    """End the executor that this process works for, as the kernel would: its Java, two processes above."""
    os.kill(_parent(_parent(os.getpid())), signal.SIGKILL)
    time.sleep(60)


def _parent(pid: int) -> int:
    return int(next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "PPid" in line).split()[1])


def first_attempt(mark: Path) -> bool:
    """Whether nobody has asked about this mark before."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def square_after_kill(marks: Path, number: int) -> int:
    """The square of a number; the first attempt at 2 ends its executor."""
    if number == 2 and first_attempt(marks / "each"):
        end_executor()
    return number * number


def make_rows_after_kill(marks: Path, part: int) -> Iterator[pa.RecordBatch]:
    """Yield rows; the first attempt at the part 1 ends its executor between two batches."""
    for batch in make_rows(part):
        yield batch
        if part == 1 and first_attempt(marks / "make"):
            end_executor()


def keep_rows_after_kill(marks: Path, receiver: int, batches: Iterator[pa.RecordBatch]) -> tuple[int, list[int]]:
    """Return the rows of a receiver; the first attempt at the receiver 3 ends its executor with its share of the shuffled rows."""
    if receiver == 3 and first_attempt(marks / "keep"):
        end_executor()
    return keep_rows(receiver, batches)


def write_slowly(scratch: Path, marks: Path, number: int) -> int:
    """Write a scratch file; the first attempt at the number 0 takes so long that a second one is started."""
    with writing(scratch / f"file-{number}") as file, file.open("w") as stream:
        stream.write(f"begin {number} ")
        stream.flush()
        time.sleep(25 if number == 0 and first_attempt(marks / "slow") else 0.3)
        stream.write("end")
    return number


def read_back(scratch: Path, number: int) -> str:
    """Read what another worker wrote."""
    return given(scratch / f"file-{number}").read_text()


def fill_disk_of(executor: str, marks: Path, number: int) -> str:
    """Say who works; in the executor whose folder is named so, the disk is full."""
    if executor in os.environ["TMPDIR"]:
        (marks / f"full-{number}").touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return os.environ["TMPDIR"]


def take_long(number: int) -> int:
    """Take some minutes."""
    time.sleep(240)
    return number


def started_by(_: int) -> str | None:
    """What started the Python of an executor, if it says so."""
    return os.environ.get("STARTED_BY")


class ByBalance:
    """A model whose score is the customer's balance."""

    def __call__(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """The score of each row, shape (rows,)."""
        return rows["Balance"].to_numpy(np.float64)
