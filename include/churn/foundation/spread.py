"""Spreads work over the cores of this machine, part by part. Where and on how many cores the work runs does not change its result.

A part is a unit of rows: a range of a file that begins and ends between records, or some buckets of customers.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import joblib
import numpy as np
import pyarrow as pa
from joblib.externals.loky.process_executor import TerminatedWorkerError
from pydantic import ByteSize, TypeAdapter

from churn.errors import Outage
from churn.foundation.progress import report_progress

P = TypeVar("P")
R = TypeVar("R")
W = TypeVar("W", bound=Callable[..., Any])

INTO = "_into"
"""The column of exchanged rows that says which receiver they are for."""
LEAST_MEMORY = 100_000_000
"""Bytes that the engine of a worker gets at least; with less, DuckDB fails on ordinary queries."""


_PARENT_CHECK = 1.0  # seconds between two looks whether the parent process still runs


class WorkerKilled(Outage):
    """A worker process was ended from outside, usually by the kernel for its memory."""


class Spread(Protocol):
    """Where work on parts runs.

    `work`, `make` and `keep` are importable functions, or `functools.partial` of one, and their arguments can be pickled. What
    they return to the caller is counts, digests and small tables, never keys or rows.
    """

    @property
    def memory_limit(self) -> str:
        """Memory limit of the columnar engine for work on a table as a whole."""

    @property
    def engine_memory(self) -> str:
        """Memory limit of the columnar engine in one worker."""

    def goes_apart(self, parts: int) -> bool:
        """Whether work on this number of parts goes to other machines, so that rows should not pass through this one."""

    def each(self, work: Callable[[P], R], parts: Sequence[P]) -> Iterator[R]:
        """Call `work` with each part. The results are in the order of the parts."""

    def exchange(
        self,
        make: Callable[[P], Iterator[pa.RecordBatch]],
        parts: Sequence[P],
        schema: pa.Schema,
        into: int,
        keep: Callable[[int, Iterator[pa.RecordBatch]], R],
    ) -> Iterator[R]:
        """Regroup rows: `make` yields those of a part with their receiver, and `keep` gets all rows of one receiver.

        Args:
            make: yields record batches of the schema with one more column, `_into`: the number of the receiver.
            parts: the parts.
            schema: the columns of the rows.
            into: the number of receivers.
            keep: called with the number of each receiver, from 0, and its rows in the order of the parts.

        Returns:
            The results of `keep`, in the order of the receivers.
        """


def by_threads(work: W) -> W:
    """Mark work that spends its time in DuckDB, Arrow or hashing, which release Python's lock: it needs no processes."""
    work.releases_lock = True  # type: ignore[attr-defined]
    return work


@dataclass(frozen=True)
class Here:
    """The cores of this machine: threads for work marked with `by_threads` and for few parts, processes for other work.

    Starting processes takes about a second, which few parts do not win back.

    Args:
        cores: the number of parts in work at once.
        memory_limit: of the columnar engine, such as `1GB`; it is divided among the workers.
        few: with fewer parts than this, no processes are started.
    """

    cores: int
    memory_limit: str
    few: int = 8

    @classmethod
    def of(cls, cores: int | None, memory_limit: str) -> Here:
        """Use this number of cores, or by default all that this process may use; container limits count."""
        return cls(cores or joblib.cpu_count(), memory_limit)

    @property
    def engine_memory(self) -> str:
        """Memory limit of the columnar engine in one worker."""
        limit = TypeAdapter(ByteSize).validate_python(self.memory_limit)
        return f"{max(int(limit) // self.cores, LEAST_MEMORY) // 1000}KB"

    def goes_apart(self, parts: int) -> bool:  # noqa: ARG002 -- the protocol has it
        """No work goes to other machines."""
        return False

    def each(self, work: Callable[[P], R], parts: Sequence[P]) -> Iterator[R]:
        """Call `work` with each part. The results are in the order of the parts.

        If `work` raises, threads finish the parts that they have begun before the error is raised here, so that they use none
        of the caller's files after that.

        Raises:
            WorkerKilled: a worker process was ended from outside.
        """
        workers = min(self.cores, len(parts))
        if workers <= 1:
            yield from map(work, parts)
            return
        if _releases_lock(work) or len(parts) < self.few:
            yield from _in_threads(work, parts, workers)
            return
        done = 0
        calls = joblib.Parallel(
            n_jobs=workers,
            backend="loky",
            return_as="generator",
            batch_size=1,
            pre_dispatch=2 * workers,
            initializer=_end_with_parent,
            initargs=(os.getpid(),),
        )(joblib.delayed(work)(part) for part in parts)
        try:
            for result in calls:
                done += 1
                yield result
        except TerminatedWorkerError as error:
            raise WorkerKilled(
                f"A worker process was killed after {done} of {len(parts)} parts were done, usually because the machine has too little "
                f"memory. Lower CHURN_CORES (now {self.cores}) or CHURN_DUCKDB_MEMORY_LIMIT (now {self.memory_limit}), or give the machine "
                "more memory, then run the step again; nothing was lost."
            ) from error
        finally:
            calls.close()

    def exchange(
        self,
        make: Callable[[P], Iterator[pa.RecordBatch]],
        parts: Sequence[P],
        schema: pa.Schema,
        into: int,
        keep: Callable[[int, Iterator[pa.RecordBatch]], R],
    ) -> Iterator[R]:
        """Regroup rows: `make` yields those of a part with their receiver, and `keep` gets all rows of one receiver."""
        with tempfile.TemporaryDirectory(prefix="churn-exchange-") as folder:
            send: Any = partial(_send, make, schema, Path(folder))
            receive: Any = partial(_receive, keep)
            if _releases_lock(make):
                send, receive = by_threads(send), by_threads(receive)
            sending = self.each(send, list(enumerate(parts)))
            sent = list(report_progress(sending, "Regrouping rows", len(parts)))
            slices = [[(file, receivers.get(receiver, [])) for file, receivers in sent] for receiver in range(into)]
            yield from self.each(receive, list(enumerate(slices)))


ONE_CORE = Here(1, f"{LEAST_MEMORY // 1000}KB")
"""This process alone."""


def _end_with_parent(parent: int) -> None:
    """End this worker process soon after its parent was killed, even if that was before it began; it would otherwise wait for minutes."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _in_threads(work: Callable[[P], R], parts: Sequence[P], workers: int) -> Iterator[R]:
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _releases_lock(work: Any) -> bool:
    while isinstance(work, partial) and not hasattr(work, "releases_lock"):
        work = work.func
    return getattr(work, "releases_lock", False)


def by_receiver(batch: pa.RecordBatch, schema: pa.Schema) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of a batch for each of their receivers, in their order.

    Args:
        batch: rows with their receiver.
        schema: of the rows without it.
    """
    receivers = batch[INTO].to_numpy()
    order = np.argsort(receivers, kind="stable")
    present, starts = np.unique(receivers[order], return_index=True)
    rows = batch.drop_columns([INTO]).take(pa.array(order)).cast(schema)
    for receiver, start, end in zip(present, starts, [*starts[1:], len(order)], strict=True):
        yield int(receiver), rows.slice(start, end - start)


def _send(
    make: Callable[[Any], Iterator[pa.RecordBatch]], schema: pa.Schema, folder: Path, numbered: tuple[int, Any]
) -> tuple[Path, dict[int, list[int]]]:
    """Write the rows of a part to a file, in slices of one receiver each; returns the slices of each receiver."""
    number, part = numbered
    file, written = folder / f"{number}.arrow", 0
    slices: dict[int, list[int]] = {}
    with pa.ipc.new_file(file, schema) as writer:
        for batch in make(part):
            for receiver, rows in by_receiver(batch, schema):
                writer.write_batch(rows)
                slices.setdefault(receiver, []).append(written)
                written += 1
    return file, slices


def _receive(
    keep: Callable[[int, Iterator[pa.RecordBatch]], R], numbered: tuple[int, list[tuple[Path, list[int]]]]
) -> R:
    receiver, files = numbered

    def batches() -> Iterator[pa.RecordBatch]:
        for file, slices in files:
            if slices:
                with pa.memory_map(str(file)) as mapped:
                    reader = pa.ipc.open_file(mapped)
                    yield from (reader.get_batch(position) for position in slices)

    return keep(receiver, batches())
