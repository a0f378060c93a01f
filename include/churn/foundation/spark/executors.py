"""What runs inside Spark's executors: the product's own work, on one part at a time.

This module is imported by executors. It uses nothing of Spark but the record batches that it is given.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import platform
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

import churn
from churn.errors import ChurnError
from churn.foundation import scratch
from churn.foundation.scratch import SharedFolder
from churn.foundation.spread import by_receiver

NUMBER = "number"
RESULTS = f"{NUMBER} int"
"""The schema of what a job returns to Spark; the results themselves come through the accumulator."""
PIECES = "receiver int, part int, place int, rows binary"
_PIECE_BYTES = 2_000_000
"""Bytes of the rows that are exchanged in one piece at most, so that the memory of an exchange does not grow with a part."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_OF_MODELS = ("scikit-learn", "pandas", "scipy", "lightgbm", "xgboost", "xgboost-cpu")
"""Libraries that models may use, as far as they are installed."""


class OtherCode(ChurnError):  # noqa: N818 -- it says what is wrong
    """An executor has other code or other libraries than the task."""


class WorkAborted(ChurnError):  # noqa: N818 -- it says what happened
    """Work on a part raised an error that cannot be sent to the task."""


@dataclass(frozen=True)
class Identity:
    """What decides the result of data work: the versions of Python and of the libraries, and a hash of the product's code."""

    python: str
    duckdb: str
    pyarrow: str
    numpy: str
    models: str
    code: str

    @classmethod
    def here(cls) -> Identity:
        """That of this process."""
        models = ", ".join(f"{name} {found}" for name in _OF_MODELS if (found := _version_of(name)))
        versions = (platform.python_version(), duckdb.__version__, pa.__version__, np.__version__, models)
        return cls(*versions, _code_digest())


@dataclass(frozen=True)
class Outcome:
    """The result of work on a part, or what it raised."""

    result: Any = None
    error: BaseException | None = None


@dataclass(frozen=True)
class Job:
    """What every part of a step shares, as bytes: they are unpickled only where the identity is that of the task.

    - `work`: the pickled function
    - `parts`: each part, pickled
    - `folders`: the pickled scratch folders that pass through the data root
    """

    identity: Identity
    work: bytes
    parts: tuple[bytes, ...]
    folders: bytes


Outcomes = list[tuple[int, Outcome]]


class OutcomeLists:
    """Tells Spark how to add up lists of outcomes: those of an attempt, once it has succeeded."""

    def zero(self, _: Outcomes) -> Outcomes:
        """The empty list."""
        return []

    def addInPlace(self, outcomes: Outcomes, more: Outcomes) -> Outcomes:  # noqa: N802 -- Spark's name
        """One list followed by another one."""
        outcomes.extend(more)
        return outcomes


@dataclass(frozen=True)
class Reporting:
    """How a part's outcome reaches the task: through an accumulator of Spark, as soon as its attempt has succeeded."""

    accumulator: Any

    def add(self, number: int, outcome: Outcome) -> None:
        """Report the outcome of a part."""
        self.accumulator.add([(number, outcome)])


def run_parts(job: Any, reporting: Reporting, batches: Any) -> Iterator[pa.RecordBatch]:
    """Call the work with each part whose number is in the batches.

    Args:
        job: Spark's broadcast of the `Job`.
        reporting: takes the outcome of each part.
        batches: record batches with the column `id`.
    """
    for number in _ids(batches):
        with _outcome_of(number, reporting), _opened(job.value, number) as (work, part):
            reporting.add(number, Outcome(work(part)))
        yield _numbers(number)


def send_rows(job: Any, schema: bytes, reporting: Reporting, batches: Any) -> Iterator[pa.RecordBatch]:
    """Call `make` with each part whose number is in the batches, and yield its rows in pieces for one receiver each.

    Args:
        job: Spark's broadcast of the `Job`.
        schema: of the rows, serialised.
        reporting: takes the fault of a part, or nothing.
        batches: record batches with the column `id`.
    """
    wanted = pa.ipc.read_schema(pa.py_buffer(schema))
    for number in _ids(batches):
        place = 0
        with _outcome_of(number, reporting), _opened(job.value, number) as (make, part):
            for batch in make(part):
                for receiver, rows in by_receiver(batch, wanted):
                    for piece in _cut(rows):
                        yield _piece(receiver, number, place, piece)
                        place += 1


def receive_rows(job: Any, schema: bytes, reporting: Reporting, batches: Any) -> Iterator[pa.RecordBatch]:
    """Call `keep` with the rows of the receiver whose partition this is; it may have got none.

    Args:
        job: Spark's broadcast of the `Job`.
        schema: of the rows, serialised.
        reporting: takes the outcome of each receiver.
        batches: pieces in the order of parts and places.
    """
    from pyspark import TaskContext

    context = TaskContext.get()
    number = context.partitionId() if context else 0
    wanted = pa.ipc.read_schema(pa.py_buffer(schema))

    def rows() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for receiver, piece in zip(batch["receiver"].to_pylist(), batch["rows"], strict=True):
                if receiver != number:
                    raise RuntimeError(f"Rows for receiver {receiver} came to {number}. This is a defect.")
                yield pa.ipc.read_record_batch(piece.as_buffer(), wanted)

    with _outcome_of(number, reporting), _opened(job.value, None) as (keep, _):
        reporting.add(number, Outcome(keep(number, rows())))
    yield _numbers(number)


def _ids(batches: Any) -> Iterator[int]:
    for batch in batches:
        yield from batch["id"].to_pylist()


@contextmanager
def _outcome_of(number: int, reporting: Reporting) -> Iterator[None]:
    """Report what the work raises. Only a full disk is left to Spark, which tries again, perhaps on another machine."""
    try:
        yield
    except Exception as error:
        if _is_of_full_disk(error):
            raise
        reporting.add(number, Outcome(error=_sendable(error)))


@contextmanager
def _opened(job: Job, number: int | None) -> Iterator[tuple[Callable[..., Any], Any]]:
    """The work of a job and one of its parts, with the scratch files that the executors share.

    Raises:
        OtherCode: this executor has other code or libraries than the task.
    """
    require_identity(job.identity)
    folders: Mapping[Path, SharedFolder] = _unpickled(job.folders)
    part = None if number is None else pickle.loads(job.parts[number])  # noqa: S301 -- from the task
    root = _local_root()
    if "SPARK_LOCAL_DIRS" in os.environ:  # what engines spill goes with the executor too
        root.mkdir(parents=True, exist_ok=True)
        tempfile.tempdir = str(root)
    with scratch.joining(folders, root):
        yield _unpickled(job.work), part


def require_identity(wanted: Identity) -> None:
    """Check that this process gives the same results as the one of the task.

    Raises:
        OtherCode: it has other code or libraries.
    """
    ours, theirs = asdict(Identity.here()), asdict(wanted)
    differing = [f"{name} {ours[name]} instead of {theirs[name]}" for name in ours if ours[name] != theirs[name]]
    if differing:
        raise OtherCode(
            f"An executor on {socket.gethostname()} has {', '.join(differing)}, so its results could differ. Nothing was changed. "
            "Give all executors the image of the task, or the environment that `make spark-env` packs, and run the step again."
        )


def _cut(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    each = max(1, int(rows.num_rows * _PIECE_BYTES / max(rows.nbytes, 1)))
    for start in range(0, rows.num_rows, each):
        yield rows.slice(start, each)


def _piece(receiver: int, part: int, place: int, rows: pa.RecordBatch) -> pa.RecordBatch:
    numbers = [pa.array([value], pa.int32()) for value in (receiver, part, place)]
    whole = pa.array([rows.serialize().to_pybytes()], pa.binary())
    return pa.record_batch([*numbers, whole], ["receiver", "part", "place", "rows"])


def _numbers(number: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array([number], pa.int32())], [NUMBER])


def _sendable(error: Exception) -> Exception:
    """The error, or one with its words if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own
    except Exception:  # an error of any library, which may fail in any way
        return WorkAborted(f"{type(error).__name__}: {error}")
    return error


@lru_cache(maxsize=4)
def _unpickled(content: bytes) -> Any:
    """What the bytes hold; the last ones are kept, since an executor gets the same work with each part."""
    return pickle.loads(content)  # noqa: S301 -- from the task, through Spark's authenticated connection


@cache
def _version_of(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


@cache
def _code_digest() -> str:
    """A hash of the source files of the product, as this process has them."""
    digest, root = hashlib.sha256(), Path(churn.__file__).parent
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _is_of_full_disk(error: BaseException | None) -> bool:
    """Whether a full disk is what caused an error: of Python, or of DuckDB, which has no number for it."""
    if error is None:
        return False
    full = getattr(error, "errno", None) in _NO_SPACE or "No space left on device" in str(error)
    return full or _is_of_full_disk(error.__cause__)


@cache
def _local_root() -> Path:
    """A folder of this executor alone, which Spark deletes with its application, whatever ends it. Its working directory would stay for a week."""
    given = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0]
    return Path(given or tempfile.gettempdir()) / f"python-{sys.version_info.major}{sys.version_info.minor}"
