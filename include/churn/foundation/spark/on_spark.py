"""Spreads work over the executors of a Spark cluster, part by part. The result is that of one machine."""

from __future__ import annotations

import logging
import pickle
import re
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
from pydantic import ByteSize, TypeAdapter

from churn.foundation.scratch import shared_folders
from churn.foundation.spark.executors import (
    NUMBER,
    PIECES,
    RESULTS,
    Identity,
    Job,
    OtherCode,
    Outcome,
    OutcomeLists,
    Reporting,
    receive_rows,
    run_parts,
    send_rows,
)
from churn.foundation.spark.session import (
    SparkPlace,
    SparkUnavailable,
    count_executors,
    has_stopped,
    java_errors,
    open_session,
    require_master,
)
from churn.foundation.spread import LEAST_MEMORY, Here, WorkerKilled

if TYPE_CHECKING:
    from pyspark import Accumulator
    from pyspark.sql import DataFrame, SparkSession

P = TypeVar("P")
R = TypeVar("R")

log = logging.getLogger(__name__)
_LOOK_EVERY = 0.2  # seconds between two looks at a running job
_CHECK_EVERY = 5.0  # seconds between two looks at the cluster
_OTHER_CODE = re.compile(r"PYTHON_VERSION_MISMATCH|No module named 'churn'")
"""What executors say before any of our code can compare versions."""
_OF_JAVA, _OF_PYTHON = 250_000_000, 250_000_000
"""Bytes that Java needs beside its heap, and that a Python process needs beside the columnar engine."""
_GIVE_UP = 45.0  # seconds without a master, or after its executors were lost, after which a job is given up
_PATIENCE = 900.0  # seconds for which a job waits for a first executor: other applications may use all cores
_SAY_EVERY = 60.0
_NO_EXECUTOR = "no executor has been connected, because no worker is running, or none has enough free cores or memory"


@dataclass(frozen=True)
class OnSpark:
    """The executors of a cluster.

    Args:
        place: the cluster.
        here: this machine, for work on few parts, for which a session would take longer than it saves, and for work that holds
            something of this process.
        least: the number of parts from which the work goes to the cluster.
    """

    place: SparkPlace
    here: Here
    least: int = 2

    @property
    def memory_limit(self) -> str:
        """Memory limit of the columnar engine for work on a table as a whole, which this machine does."""
        return self.here.memory_limit

    @property
    def engine_memory(self) -> str:
        """Memory limit of the columnar engine in one worker: what an executor has beside Java's heap and what each process needs anyway, divided among its cores."""
        limit = int(TypeAdapter(ByteSize).validate_python(self.here.memory_limit))
        cores = self.place.local_cores
        if cores is None:
            cores = self.place.executor_cores
            limit = min(limit, self.place.memory_beside_heap - _OF_JAVA - cores * _OF_PYTHON)
        return f"{max(limit // cores, LEAST_MEMORY) // 1000}KB"

    def goes_apart(self, parts: int) -> bool:
        """Whether there are enough parts for the cluster."""
        return parts >= self.least

    def each(self, work: Callable[[P], R], parts: Sequence[P]) -> Iterator[R]:
        """Call `work` with each part. The results are in the order of the parts.

        Raises:
            SparkUnavailable: the cluster does not answer, or loses its executors.
            WorkerKilled: a part could not be worked on, however often another executor tried.
        """
        job = _job(work, parts) if len(parts) >= self.least else None
        if job is None:
            yield from self.here.each(work, parts)
            return
        session = open_session(self.place)

        def plan(broadcast: Any, reporting: Reporting) -> DataFrame:
            numbers = session.range(0, len(parts), 1, len(parts))
            return numbers.mapInArrow(partial(run_parts, broadcast, reporting), RESULTS)

        with _Running(session, self.place) as running:
            yield from running.results(job, plan, len(parts))

    def exchange(
        self,
        make: Callable[[P], Iterator[pa.RecordBatch]],
        parts: Sequence[P],
        schema: pa.Schema,
        into: int,
        keep: Callable[[int, Iterator[pa.RecordBatch]], R],
    ) -> Iterator[R]:
        """Regroup rows: `make` yields those of a part with their receiver, and `keep` gets all rows of one receiver.

        Raises:
            SparkUnavailable, WorkerKilled: as for `each`.
        """
        sending = _job(make, parts) if len(parts) >= self.least else None
        receiving = _job(keep, ())
        if sending is None or receiving is None:
            yield from self.here.exchange(make, parts, schema, into, keep)
            return
        session, described = open_session(self.place), schema.serialize().to_pybytes()

        def plan(broadcast: Any, reporting: Reporting) -> DataFrame:
            numbers = session.range(0, len(parts), 1, len(parts))
            send: Any = partial(send_rows, running.share(sending), described, running.faults)
            receive: Any = partial(receive_rows, broadcast, described, reporting)
            pieces = numbers.mapInArrow(send, PIECES).repartitionById(into, "receiver")
            return pieces.sortWithinPartitions("part", "place").mapInArrow(receive, RESULTS)

        with _Running(session, self.place) as running:
            yield from running.results(receiving, plan, into)


def _job(work: Callable[..., Any], parts: Sequence[Any]) -> Job | None:
    """The work and its parts as bytes; None if it holds something that cannot leave this process, such as another process."""
    try:
        content = pickle.dumps(work)
        pickled = tuple(pickle.dumps(part) for part in parts)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        log.warning(
            "This work is done on the machine of the task, because it cannot leave it: %s.", str(error).rstrip(".")
        )
        return None
    return Job(Identity.here(), content, pickled, pickle.dumps(shared_folders()))


class _Running:
    """A job of Spark, which is cancelled if its results are not wanted any more.

    `faults` takes what the senders of an exchange raise.
    """

    def __init__(self, session: SparkSession, place: SparkPlace) -> None:
        self._session, self._place = session, place
        self._group = f"churn-{uuid.uuid4().hex}"
        self._outcomes: Accumulator = session.sparkContext.accumulator([], OutcomeLists())
        self._faults: Accumulator = session.sparkContext.accumulator([], OutcomeLists())
        self.faults = Reporting(self._faults)
        self._shared: list[Any] = []
        self._alone_since: float | None = None
        self._had_executors = False
        self._checked = self._said = 0.0
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> _Running:
        return self

    def __exit__(self, *_: object) -> None:
        if has_stopped(self._session):
            self._pool.shutdown(wait=False)
            return
        self._session.sparkContext.cancelJobGroup(self._group)
        self._pool.shutdown(wait=True)
        for broadcast in self._shared:
            broadcast.unpersist(blocking=False)

    def share(self, job: Job) -> Any:
        """Spark's broadcast of a job."""
        self._shared.append(self._session.sparkContext.broadcast(job))
        return self._shared[-1]

    def results(self, job: Job, plan: Callable[[Any, Reporting], DataFrame], count: int) -> Iterator[Any]:
        """Run the job, and yield the results of its parts in their order, as soon as they are there."""
        frame = plan(self.share(job), Reporting(self._outcomes))
        running: Future[list[Any]] = self._pool.submit(self._collect, frame)
        found: dict[int, Any] = {}
        seen = given = 0
        while given < count:
            done = running.done()
            for number, outcome in self._outcomes.value[seen:]:
                seen += 1
                found.setdefault(number, _result(outcome))
            for _, outcome in self._faults.value:
                _result(outcome)
            if done and running.exception() and has_stopped(self._session):
                raise self._ended() from running.exception()
            if done:
                require_results(running, {*range(given), *found}, count)
            while given in found:
                yield found.pop(given)
                given += 1
            if given < count and not done:
                self._require_cluster()
                time.sleep(_LOOK_EVERY)

    def _collect(self, frame: DataFrame) -> list[Any]:
        self._session.sparkContext.setJobGroup(self._group, "churn", interruptOnCancel=True)
        return [row[NUMBER] for row in frame.collect()]

    def _require_cluster(self) -> None:
        """Check from time to time that the cluster can still do the work.

        Raises:
            SparkUnavailable: for most of a minute, it has had no master or no executor.
        """
        now = time.monotonic()
        if now - self._checked < _CHECK_EVERY:
            return
        self._checked = now
        missing = self._missing()
        if missing is None:
            self._alone_since = None
            return
        self._alone_since = self._alone_since or now
        waits = missing == _NO_EXECUTOR and not self._had_executors
        patience = _PATIENCE if waits else _GIVE_UP
        if now - self._alone_since >= patience:
            raise SparkUnavailable(
                f"{self._place.master}: for {patience:.0f} s, {missing}. Start it again, and run the step again; nothing was lost. Without a "
                "cluster, set CHURN_SPREAD=here."
            )
        if waits and now - self._said >= _SAY_EVERY:
            self._said = now
            log.info(
                "Waiting for an executor of %s: other applications use all cores, or no worker runs.",
                self._place.master,
            )

    def _missing(self) -> str | None:
        try:
            require_master(self._place)
        except SparkUnavailable:
            return "the Spark master has not answered"
        try:
            connected = count_executors(self._session)
        except java_errors() as error:
            raise self._ended() from error
        self._had_executors = self._had_executors or connected > 0
        return None if connected else _NO_EXECUTOR

    def _ended(self) -> SparkUnavailable:
        return SparkUnavailable(
            f"The Spark application on {self._place.master} has ended: its Java was killed, or someone ended it. Run the step again; nothing "
            "was lost."
        )


def require_results(ended: Future[list[Any]], found: Collection[int], count: int) -> None:
    """Check that a job that has ended worked on every part, and that the result of each is there.

    Raises:
        WorkerKilled: a part failed too often, or has no result.
    """
    error = ended.exception()
    if error is not None and _OTHER_CODE.search(str(error)):
        raise OtherCode(
            f"An executor has another Python than the task, or not the product's code: {_last_words(error)} Nothing was changed. Give all "
            "executors the image of the task, or the environment that `make spark-env` packs, and run the step again."
        ) from error
    if error is not None:
        raise WorkerKilled(
            f"Spark gave a step up after several attempts: {_last_words(error)} Usually an executor has too little memory or disk. Raise "
            "spark.executor.memoryOverhead, lower CHURN_DUCKDB_MEMORY_LIMIT, or see the log of the executor, then run the step again; "
            "nothing was lost."
        ) from error
    if sorted(ended.result()) != list(range(count)) or len(found) != count:
        raise WorkerKilled(
            f"Spark worked on {len(ended.result())} of {count} parts, and {len(found)} results came back. Run the step again; nothing was lost."
        )


def _result(outcome: Outcome) -> Any:
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


def _last_words(error: BaseException) -> str:
    """What made Spark give up: the error of Python if there is one, without the places in its code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    python = [line for line in lines if re.match(r"(?!org\.|java\.|py4j)[A-Za-z_][\w.]*(Error|Exception): ", line)]
    java = [line.rpartition("Exception: ")[2] for line in lines if "Exception: " in line]
    text = (
        python[-1:] or [line for line in java if not line.endswith(":")][-1:] or lines[:1] or [type(error).__name__]
    )[0]
    return re.split(r"\. ", text)[0][:300].rstrip(".") + "."
