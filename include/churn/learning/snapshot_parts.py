"""The parts of a snapshot: the latest row of every customer, in a panel of every customer and time, in 20 files of 5 buckets each, ordered by key.

A part is computed from accepted rows alone, or from the same part of an earlier snapshot and the rows accepted since. Both ways
give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ByteSize, TypeAdapter

from churn.contract import Contract
from churn.foundation import columnar
from churn.foundation.digests import json_digest
from churn.foundation.parts import (
    RESTORE,
    Manifest,
    PartFault,
    check_part,
    part_name,
)
from churn.foundation.progress import report_progress
from churn.foundation.records import Batch
from churn.foundation.sampling import Sampling
from churn.foundation.spread import INTO, by_threads
from churn.foundation.storage import Storage
from churn.intake.accepted_parts import AcceptedPart, accepted_parts, read_accepted_part
from churn.intake.judged_rows import batch_number
from churn.intake.label_files import LABELS, LEAVERS, ROWS
from churn.learning.snapshot_merging import BaseFault, FreshRows, merge_rows
from churn.learning.snapshot_writing import (
    BUCKET,
    GROUP_ROWS,
    ComputedPart,
    open_content_hash,
    snapshot_schema,
    write_rows,
)

FORMAT, PANEL_FORMAT = 2, 3
PARTS = columnar.PARTS
_READ_ROWS = 65_536
_KINDS = {ROWS: columnar.ROW, LABELS: columnar.LABEL, LEAVERS: columnar.EVENT}
_BYTES_OF_ROW = 1000
"""Of the memory of a worker, this is reserved for each row that is sorted in memory; more rows are sorted by DuckDB, on disk if need be."""


@dataclass(frozen=True)
class Base:
    """The folder of an earlier snapshot, and its manifest."""

    folder: str
    manifest: Manifest


@dataclass(frozen=True)
class _Job:
    """What all parts of one computation share. `batches` and `arrived_at` (microseconds since 1970) are in the order of arrival."""

    storage: Storage
    contract: Contract
    batches: NDArray[np.int64]
    arrived_at: NDArray[np.int64]
    base: Base | None
    scratch: Path
    memory_limit: str
    panel: bool
    sorted_in_memory: int


def format_of(contract: Contract) -> int:
    """The format of a snapshot of a contract."""
    return PANEL_FORMAT if contract.as_of else FORMAT


def snapshot_name(contents: Sequence[str | None], complete: Sequence[str] | None = None) -> str:
    """The name of a snapshot: a hash of its format and the content hashes of its parts, in order.

    Args:
        contents: the content hashes.
        complete: of a panel, the as-of dates of which every label is final: they decide which rows count. None for a snapshot that is not a panel.
    """
    if complete is None:
        return json_digest({"format": FORMAT, "parts": list(contents)})
    return json_digest({"format": PANEL_FORMAT, "parts": list(contents), "complete": list(complete)})


def compute_parts(
    storage: Storage,
    batches: Sequence[Batch],
    contract: Contract,
    sampling: Sampling,
    scratch: Path,
    base: tuple[Base, frozenset[str]] | None = None,
    sorted_in_memory: int | None = None,
    panel: bool | None = None,
) -> list[ComputedPart]:
    """Compute the parts of a snapshot, spread over cores.

    Args:
        storage: the data root.
        batches: all batches of the snapshot, in the order of arrival.
        contract: the data contract.
        sampling: assigns customers to buckets, and says where the work runs.
        scratch: the folder for the parts.
        base: an earlier snapshot of the same contract and salt, and the hashes of its batches. Only the others are read.
        sorted_in_memory: a part with more new rows than this is sorted by DuckDB; by default, as many as fit into the memory of a worker.
        panel: whether every time of a customer is kept; by default, if the contract has an as-of column. Snapshots of earlier versions
            have the latest one.

    Raises:
        BaseFault: the earlier snapshot is not the one that was written.
        PartFault: accepted rows are missing or have been changed.
        ChurnError: rows of an earlier contract do not fit today's.
    """
    known = base[1] if base else frozenset()
    panel = contract.as_of is not None if panel is None else panel
    memory = sampling.spread.engine_memory
    job = _Job(
        storage,
        contract,
        np.array([batch_number(batch.batch) for batch in batches], np.int64),
        np.array([np.datetime64(batch.arrived_at.replace(tzinfo=None), "us") for batch in batches]).astype(np.int64),
        base[0] if base else None,
        scratch,
        memory,
        panel,
        sorted_in_memory or TypeAdapter(ByteSize).validate_python(memory) // _BYTES_OF_ROW,
    )
    lacking = [
        part
        for rank, batch in enumerate(batches)
        if batch.batch not in known
        for part in accepted_parts(storage, batch, rank)
    ]
    computing = sampling.spread.exchange(
        partial(_make, job, sampling.salt),
        _grouped(lacking),
        columnar.statement_schema(contract) if panel else columnar.bucketed_schema(contract),
        PARTS,
        partial(_keep_panel if panel else _keep, job),
    )
    what = "Computing the parts of a snapshot"
    return list(report_progress(computing, what, PARTS, rows=lambda part: part.written.rows))


@by_threads
def check_base_part(storage: Storage, base: Base, contract: Contract, scratch: Path, number: int) -> None:
    """Check the bytes and the rows of a part of an earlier snapshot.

    Raises:
        BaseFault: it is missing, or has been changed since it was written.
    """
    for _ in _base_rows(storage, base, contract, scratch, number):
        pass


def _grouped(parts: Sequence[AcceptedPart]) -> list[list[AcceptedPart]]:
    """Small files together, so that many of them do not cost an engine each."""
    groups: list[list[AcceptedPart]] = []
    rows = GROUP_ROWS
    for part in parts:
        if rows >= GROUP_ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(part)
        rows += part.rows
    return groups


@by_threads
def _make(job: _Job, salt: bytes, parts: Sequence[AcceptedPart]) -> Iterator[pa.RecordBatch]:
    with columnar.engine(job.memory_limit, threads=1) as connection:
        for part in parts:
            for batch in read_accepted_part(connection, job.storage, part, job.contract, salt, GROUP_ROWS, job.scratch):
                if job.panel:
                    kinds = pa.repeat(pa.scalar(_KINDS[part.kind], pa.int8()), batch.num_rows)
                    batch = batch.append_column(columnar.KIND, kinds)  # noqa: PLW2901 -- the same rows
                yield batch.append_column(INTO, pc.divide(batch[BUCKET], columnar.BUCKETS_OF_PART))


def _keep(job: _Job, number: int, batches: Iterator[pa.RecordBatch]) -> ComputedPart:
    fresh = FreshRows(_described(latest_rows(_sorted(job, batches), job.contract), job), job.contract)
    rows = fresh.rest()
    if job.base:
        base = _base_rows(job.storage, job.base, job.contract, job.scratch, number)
        rows = merge_rows(base, fresh, job.contract, job.batches)
    return write_rows(rows, job.contract, job.scratch / part_name(number))


def _keep_panel(job: _Job, number: int, batches: Iterator[pa.RecordBatch]) -> ComputedPart:
    file, base = job.scratch / part_name(number), None
    if job.base:
        for _ in _base_rows(job.storage, job.base, job.contract, job.scratch, number):
            pass  # checks the rows
        base = _base_file(job.storage, job.base, job.scratch, number)
    arrivals = pa.table(
        {
            "_rank": np.arange(len(job.batches)),
            "_number": job.batches,
            "_at": pa.array(job.arrived_at, pa.int64()).cast(pa.timestamp("us", "UTC")),
        }
    )
    with columnar.engine(job.memory_limit, threads=1) as connection:
        merged = columnar.merge_statements(connection, batches, base, arrivals, job.contract, _READ_ROWS)
        computed = write_rows((pa.Table.from_batches([batch]) for batch in merged), job.contract, file, panel=True)
    if base and not job.storage.local:
        base.unlink()
    return computed


def _sorted(job: _Job, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch | pa.Table]:
    """Rows by key, and those of a customer from the oldest to the latest."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if rows > job.sorted_in_memory:
            everything = chain(_emptied(held), batches)
            with columnar.engine(job.memory_limit, threads=1) as connection:
                yield from columnar.sort_bucketed_rows(connection, everything, job.contract, _READ_ROWS)
            return
    table = pa.Table.from_batches(held, columnar.bucketed_schema(job.contract)).combine_chunks()
    held.clear()
    order = pc.sort_indices(table, [(name, "ascending") for name in columnar.sort_columns(job.contract)])
    for start in range(0, table.num_rows, _READ_ROWS):
        yield table.take(order.slice(start, _READ_ROWS))


def _emptied(held: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    while held:
        yield held.pop(0)


def latest_rows(rows: Iterator[pa.RecordBatch | pa.Table], contract: Contract) -> Iterator[pa.Table]:
    """The last of the rows of each customer, which come after one another."""
    key, waiting = contract.key.name, None
    for piece in rows:
        table = pa.Table.from_batches([piece]) if isinstance(piece, pa.RecordBatch) else piece
        if not table.num_rows:
            continue
        if waiting is not None:
            table = pa.concat_tables([waiting, table])
        keys = table[key].combine_chunks()
        last = pc.not_equal(keys.slice(0, len(keys) - 1), keys.slice(1))
        waiting = table.slice(len(keys) - 1)
        yield table.slice(0, len(keys) - 1).filter(last)
    if waiting is not None:
        yield waiting


def _described(rows: Iterator[pa.Table], job: _Job) -> Iterator[pa.Table]:
    """Rows of the schema of a snapshot, and `_rank`: that of their batch."""
    for table in rows:
        ranks = columnar.rank_of(table["_order"]).to_numpy()
        arrived = pa.array(job.arrived_at[ranks], pa.int64()).cast(pa.timestamp("us", "UTC"))
        whole = table.drop_columns(["_order"]).append_column("_arrived_at", arrived)
        yield (
            whole.append_column("_batch", pa.array(job.batches[ranks]))
            .cast(snapshot_schema(job.contract))
            .append_column("_rank", pa.array(ranks))
        )


def _base_rows(storage: Storage, base: Base, contract: Contract, scratch: Path, number: int) -> Iterator[pa.Table]:
    """The rows of a part of an earlier snapshot. Its bytes are checked first, and at the end its rows against the snapshot's name.

    So a snapshot that has been changed together with its manifest is not used either.
    """
    part = base.manifest.parts[number]
    name, schema, digest = (
        f"{base.folder}/{part.name}",
        _schema(contract),
        open_content_hash(contract, contract.as_of is not None),
    )
    file = _base_file(storage, base, scratch, number)
    try:
        for batch in pq.ParquetFile(file).iter_batches(_READ_ROWS):
            digest.update(batch)
            yield pa.Table.from_batches([batch]).cast(schema)
    except (pa.ArrowException, KeyError) as error:
        raise BaseFault(f"{name} cannot be read. {RESTORE}") from error
    finally:
        if not storage.local:
            file.unlink()
    if digest.hexdigest() != part.content:
        raise BaseFault(f"{name} has other rows than when it was written. {RESTORE}")


def _schema(contract: Contract) -> pa.Schema:
    """The columns of a snapshot that can be a base: of the newest format."""
    return snapshot_schema(contract, contract.as_of is not None)


def _base_file(storage: Storage, base: Base, scratch: Path, number: int) -> Path:
    """A local file with a part of an earlier snapshot, after a check of its bytes."""
    part = base.manifest.parts[number]
    try:
        return check_part(storage, f"{base.folder}/{part.name}", part.sha256, scratch, RESTORE)
    except PartFault as fault:
        raise BaseFault(str(fault)) from fault
