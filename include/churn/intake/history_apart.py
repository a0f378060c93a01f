"""Compares a batch with the accepted history on other machines: the rows of both are regrouped by the customer's buckets.

Each worker gets the rows of the customers of one part of the snapshot, so accepted rows do not pass through the machine of the task.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from churn.foundation import columnar
from churn.foundation.parts import RESTORE, PartFault
from churn.foundation.progress import report_progress
from churn.foundation.sampling import Sampling
from churn.foundation.scratch import given
from churn.foundation.spread import INTO, by_threads
from churn.intake.accepted_parts import AcceptedPart, columns_of, read_accepted_part
from churn.intake.history import VIEWS, Compared, Known, Question, Sampled, compare
from churn.intake.judged_rows import Judged, JudgedPart
from churn.intake.label_files import ROWS

_SOURCE = "_source"
_GOOD = "good"
_SOURCES = (_GOOD, *VIEWS)
"""Where a row comes from: the batch, or the accepted files of a kind."""
_ROWS = 65_536


@dataclass(frozen=True)
class _Job:
    """What all workers share. `columns` are those of the contract that the accepted files of a kind have."""

    known: Known
    question: Question
    salt: bytes
    memory: str
    scratch: Path
    kind: str
    columns: dict[str, list[str]]
    sampled: Sampled


def can_compare_apart(known: Known, judged: Judged, sampling: Sampling) -> bool:
    """Whether the work goes to other machines, and the snapshot has the parts into which rows would be regrouped."""
    divided = not known.base or (len(known.base) == columnar.PARTS and known.base_salt == sampling.fingerprint)
    return divided and sampling.spread.goes_apart(len(judged.parts))


def compare_apart(
    known: Known, judged: Judged, question: Question, kind: str, sampling: Sampling, scratch: Path, sample: int
) -> Compared:
    """Compare a batch with the history, as `history.compare_here`, on other machines.

    Args:
        known: where the history is.
        judged: the batch.
        question: what is compared.
        kind: of the batch.
        sampling: assigns customers to buckets, and says where the work runs.
        scratch: folder for copies.
        sample: about this number of rows is sampled of each side.

    Raises:
        PartFault: a file of the history is missing or has been changed.
        ChurnError: it was accepted under another contract.
    """
    spread, whole = sampling.spread, question.whole
    columns = {kind: _columns(known, kind, question) for kind in VIEWS}
    if known.files(ROWS):
        columnar.require_own_rows(columns[ROWS], whole)
    counting = spread.each(by_threads(partial(_count_rows, known)), known.base)
    rows = sum(counting) + sum(part.rows for part in known.fresh if part.kind == ROWS)
    job = _Job(
        known,
        question,
        sampling.salt,
        spread.engine_memory,
        scratch,
        kind,
        columns,
        Sampled(sample, judged.accepted, rows),
    )
    schema = columnar.bucketed_schema(whole).append(pa.field(_SOURCE, pa.int8()))
    parts: list[JudgedPart | AcceptedPart] = [*judged.parts, *known.fresh]
    comparing = spread.exchange(
        by_threads(partial(_send, job)), parts, schema, columnar.PARTS, by_threads(partial(_compare_part, job))
    )
    return reduce(add, report_progress(comparing, "Comparing with the history", columnar.PARTS))


def _columns(known: Known, kind: str, question: Question) -> list[str]:
    """The columns of the contract that at least one accepted file of a kind has."""
    named = columns_of(kind, question.whole) or {}
    found: set[str] = set()
    for name in known.files(kind):
        with _opened(known, name) as file:
            found |= set(file.schema_arrow.names)
    return [column.name for column in question.whole.columns if named.get(column.name, column.name) in found]


@contextmanager
def _opened(known: Known, name: str) -> Iterator[pq.ParquetFile]:
    with known.storage.reading(name) as stream:
        try:
            yield pq.ParquetFile(stream)
        except pa.ArrowException as error:
            raise PartFault(f"{known.storage.url(name)} is damaged. {RESTORE}") from error


def _count_rows(known: Known, name: str) -> int:
    """The rows of a part of the snapshot; of a panel, only those that are rows."""
    with _opened(known, name) as file:
        if columnar.KIND not in file.schema_arrow.names:
            return int(file.metadata.num_rows)
        kinds = file.read(columns=[columnar.KIND])[columnar.KIND]
        return int(pc.sum(pc.equal(kinds, columnar.ROW)).as_py() or 0)


def _send(job: _Job, part: JudgedPart | AcceptedPart) -> Iterator[pa.RecordBatch]:
    """The rows of a part with where they come from, each for the worker that has the part of the snapshot with its customer."""
    whole = job.question.whole
    with columnar.engine(job.memory, threads=1) as connection:
        if isinstance(part, AcceptedPart):
            source = part.kind
            rows = read_accepted_part(connection, job.known.storage, part, whole, job.salt, _ROWS, job.scratch)
        else:
            source, file, named = _GOOD, given(part.good.file), columns_of(job.kind, whole)
            rows = columnar.read_bucketed_rows(connection, file, 0, whole, job.salt, _ROWS, named)
        for batch in rows:
            sources = pa.repeat(pa.scalar(_SOURCES.index(source), pa.int8()), batch.num_rows)
            into = pc.divide(batch["_bucket"], columnar.BUCKETS_OF_PART)
            yield batch.append_column(_SOURCE, sources).append_column(INTO, into)


def _compare_part(job: _Job, number: int, batches: Iterator[pa.RecordBatch]) -> Compared:
    """Compare the rows of the customers of one part."""
    known = job.known
    with (
        tempfile.TemporaryDirectory(prefix="churn-history-") as folder,
        columnar.engine(job.memory, threads=1) as connection,
    ):
        files = _write_sources(job, batches, Path(folder))
        if known.base:
            columnar.scan(connection, "latest", known.storage, [known.base[number]])
        views: dict[str, str | None] = dict.fromkeys(VIEWS)
        for kind, view in VIEWS.items():
            if kind in files:
                columnar.scan_files(connection, view, [files[kind]])
                views[kind] = view
        latest = "latest" if known.base else None
        return compare(connection, latest, views, known, [files[_GOOD]], job.question, job.sampled)


def _write_sources(job: _Job, batches: Iterator[pa.RecordBatch], folder: Path) -> dict[str, Path]:
    """Write the rows of each source to a file of its own: those of the batch, and those of each kind that the history has."""
    names: dict[str, Sequence[str]] = {_GOOD: job.question.whole.names}
    names |= {kind: columns for kind, columns in job.columns.items() if columns}
    files = {source: folder / f"{source}.parquet" for source in names}
    types, schemas = columnar.row_schema(job.question.whole), {}
    for source, columns in names.items():
        stored = columns_of(job.kind if source == _GOOD else source, job.question.whole) or {}
        own = [types.field(name).with_name(stored.get(name, name)) for name in columns]
        schemas[source] = pa.schema([*own, ("_line", pa.int64()), ("_batch", pa.int64())])
    numbers = job.known.arrivals["_batch"].combine_chunks()
    with ExitStack() as stack:
        writers = {
            source: stack.enter_context(pq.ParquetWriter(file, schemas[source], compression="zstd"))
            for source, file in files.items()
        }
        for batch in batches:
            for source, writer in writers.items():
                rows = batch.filter(pc.equal(batch[_SOURCE], _SOURCES.index(source)))
                if rows.num_rows:
                    ranks = columnar.rank_of(rows["_order"])
                    batches_of = pa.nulls(rows.num_rows, pa.int64()) if source == _GOOD else numbers.take(ranks)
                    arrays = [*(rows[name] for name in names[source]), columnar.line_of(rows["_order"]), batches_of]
                    writer.write_batch(pa.record_batch(arrays, schema=schemas[source]))
    return files
