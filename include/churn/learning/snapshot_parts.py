"""The parts of a snapshot: the latest row of every customer, in 20 files of 5 buckets each, ordered by key.

A part is computed from accepted rows alone, or from the same part of an earlier snapshot and the rows accepted since. Both ways
give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ByteSize, TypeAdapter

from churn.contract import Column, Contract, Kind
from churn.errors import ChurnError
from churn.foundation import columnar
from churn.foundation.digests import json_digest
from churn.foundation.parts import (
    RESTORE,
    Manifest,
    PartFault,
    WrittenPart,
    check_part,
    part_name,
    read_manifest,
    single_file,
)
from churn.foundation.paths import accepted
from churn.foundation.records import Batch
from churn.foundation.sampling import Sampling
from churn.foundation.spread import INTO, by_threads
from churn.foundation.storage import Storage
from churn.intake.judged_rows import batch_number
from churn.learning.content import ContentHash

FORMAT = 2
PARTS = 20
BUCKETS_OF_PART = columnar.BUCKETS // PARTS
BUCKET = "_bucket"
_READ_ROWS = 65_536
_GROUP_ROWS = 131_072
"""Rows of a row group. All groups but the last have exactly this number, so that the same rows are always the same bytes."""
_FEW_VALUES = 65_536
_BYTES_OF_ROW = 1000
"""Of the memory of a worker, this is reserved for each row that is sorted in memory; more rows are sorted by DuckDB, on disk if need be."""


class BaseFault(PartFault):
    """A part of an earlier snapshot is missing or has been changed, so nothing can be computed from it."""


@dataclass(frozen=True)
class AcceptedPart:
    """A file of accepted rows: its name, its sha256 (None if it is from before hashes were kept), its rows, its batch, and the batch's rank."""

    name: str
    sha256: str | None
    rows: int
    batch: str
    rank: int


@dataclass(frozen=True)
class Base:
    """The folder of an earlier snapshot, and its manifest."""

    folder: str
    manifest: Manifest


@dataclass(frozen=True)
class ComputedPart:
    """A part of a snapshot in a scratch folder; the rows of each of its buckets, and of each column the rows without a value."""

    written: WrittenPart
    sizes: list[int]
    missing: dict[str, int]


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
    sorted_in_memory: int


def _schema(contract: Contract) -> pa.Schema:
    added = [(BUCKET, pa.int32()), ("_customer", pa.uint64())]
    added += [("_arrived_at", pa.timestamp("us", "UTC")), ("_batch", pa.int64())]
    return pa.schema([*columnar.row_schema(contract), *(pa.field(name, kind) for name, kind in added)])


def _content_of(contract: Contract) -> ContentHash:
    return ContentHash([*contract.names, BUCKET])


def snapshot_name(contents: Sequence[str | None]) -> str:
    """The name of a snapshot: a hash of its format and the content hashes of its parts, in order."""
    return json_digest({"format": FORMAT, "parts": list(contents)})


def compute_parts(
    storage: Storage,
    batches: Sequence[Batch],
    contract: Contract,
    sampling: Sampling,
    scratch: Path,
    base: tuple[Base, frozenset[str]] | None = None,
    sorted_in_memory: int | None = None,
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

    Raises:
        BaseFault: the earlier snapshot is not the one that was written.
        PartFault: accepted rows are missing or have been changed.
        ChurnError: rows of an earlier contract do not fit today's.
    """
    known = base[1] if base else frozenset()
    memory = sampling.spread.engine_memory
    job = _Job(
        storage,
        contract,
        np.array([batch_number(batch.batch) for batch in batches], np.int64),
        np.array([np.datetime64(batch.arrived_at.replace(tzinfo=None), "us") for batch in batches]).astype(np.int64),
        base[0] if base else None,
        scratch,
        memory,
        sorted_in_memory or TypeAdapter(ByteSize).validate_python(memory) // _BYTES_OF_ROW,
    )
    lacking = [
        part
        for rank, batch in enumerate(batches)
        if batch.batch not in known
        for part in _accepted_parts(storage, batch, rank)
    ]
    return list(
        sampling.spread.exchange(
            partial(_make, job, sampling.salt),
            _grouped(lacking),
            columnar.bucketed_schema(contract),
            PARTS,
            partial(_keep, job),
        )
    )


@by_threads
def check_base_part(storage: Storage, base: Base, contract: Contract, scratch: Path, number: int) -> None:
    """Check the bytes and the rows of a part of an earlier snapshot.

    Raises:
        BaseFault: it is missing, or has been changed since it was written.
    """
    for _ in _base_rows(storage, base, contract, scratch, number):
        pass


def _accepted_parts(storage: Storage, batch: Batch, rank: int) -> list[AcceptedPart]:
    folder = accepted(batch.batch)
    manifest = read_manifest(storage, folder)
    if manifest is None:
        return [AcceptedPart(single_file(folder), batch.accepted_sha256, batch.accepted_rows or 0, batch.batch, rank)]
    if batch.accepted_sha256 and manifest.digest != batch.accepted_sha256:
        raise PartFault(
            f"The manifest of {storage.url(folder)} has been changed since the batch was accepted. {_restore(batch.batch)}"
        )
    return [AcceptedPart(f"{folder}/{part.name}", part.sha256, part.rows, batch.batch, rank) for part in manifest.parts]


def _grouped(parts: Sequence[AcceptedPart]) -> list[list[AcceptedPart]]:
    """Small files together, so that many of them do not cost an engine each."""
    groups: list[list[AcceptedPart]] = []
    rows = _GROUP_ROWS
    for part in parts:
        if rows >= _GROUP_ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(part)
        rows += part.rows
    return groups


@by_threads
def _make(job: _Job, salt: bytes, parts: Sequence[AcceptedPart]) -> Iterator[pa.RecordBatch]:
    with columnar.engine(job.memory_limit, threads=1) as connection:
        for part in parts:
            yield from _bucketed(connection, job, salt, part)


def _bucketed(
    connection: duckdb.DuckDBPyConnection, job: _Job, salt: bytes, part: AcceptedPart
) -> Iterator[pa.RecordBatch]:
    file = check_part(job.storage, part.name, part.sha256, job.scratch, _restore(part.batch))
    short = part.batch[:12]
    try:
        if not {job.contract.key.name, "_line"} <= set(pq.read_schema(file).names):
            raise ChurnError(
                f"The accepted rows of batch {short} have no column {job.contract.key.name}, because they were accepted under another contract. "
                f"Restore that contract, or run `churn batches withdraw {short} --reason ...`."
            )
        for batch in columnar.read_bucketed_rows(connection, file, part.rank, job.contract, salt, _GROUP_ROWS):
            yield batch.append_column(INTO, pc.divide(batch[BUCKET], BUCKETS_OF_PART))
    except columnar.OtherKind as error:
        raise ChurnError(
            f"The accepted rows of batch {short} have values of another kind than the contract {job.contract.name} asks for, because they were "
            f"accepted under another one. Restore that contract, or run `churn batches withdraw {short} --reason ...`."
        ) from error
    except (duckdb.InvalidInputException, duckdb.SerializationException, pa.ArrowException) as error:
        raise PartFault(f"{job.storage.url(part.name)} cannot be read. {_restore(part.batch)}") from error
    finally:
        if not job.storage.local:
            file.unlink()


def _restore(batch: str) -> str:
    return f"{RESTORE} Or withdraw its batch: `churn batches withdraw {batch[:12]} --reason ...`."


def _keep(job: _Job, number: int, batches: Iterator[pa.RecordBatch]) -> ComputedPart:
    fresh = _Fresh(_described(_latest(_sorted(job, batches), job.contract), job), job.contract)
    rows = fresh.rest()
    if job.base:
        rows = _merged(_base_rows(job.storage, job.base, job.contract, job.scratch, number), fresh, job)
    return _write(rows, job, job.scratch / part_name(number))


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


def _latest(rows: Iterator[pa.RecordBatch | pa.Table], contract: Contract) -> Iterator[pa.Table]:
    """The last of the rows of each customer."""
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
            .cast(_schema(job.contract))
            .append_column("_rank", pa.array(ranks))
        )


class _Fresh:
    """The new rows, by key, read as far as they are needed."""

    def __init__(self, rows: Iterator[pa.Table], contract: Contract) -> None:
        self._rows, self._key = rows, contract.key.name
        self._waiting: pa.Table | None = next(rows, None)

    def up_to(self, key: pa.Scalar[Any]) -> pa.Table | None:
        """The next rows whose key is at most this one; None if there are none."""
        taken = []
        while self._waiting is not None:
            count = pc.sum(pc.less_equal(self._waiting[self._key], key)).as_py() or 0
            taken.append(self._waiting.slice(0, count))
            if count < self._waiting.num_rows:
                self._waiting = self._waiting.slice(count)
                break
            self._waiting = next(self._rows, None)
        table = pa.concat_tables(taken) if taken else None
        return table if table is not None and table.num_rows else None

    def rest(self) -> Iterator[pa.Table]:
        """All rows that have not been read."""
        while self._waiting is not None:
            yield self._waiting.drop_columns(["_rank"])
            self._waiting = next(self._rows, None)


def _base_rows(storage: Storage, base: Base, contract: Contract, scratch: Path, number: int) -> Iterator[pa.Table]:
    """The rows of a part of an earlier snapshot. Its bytes are checked first, and at the end its rows against the snapshot's name.

    So a snapshot that has been changed together with its manifest is not used either.
    """
    part = base.manifest.parts[number]
    name, schema, digest = f"{base.folder}/{part.name}", _schema(contract), _content_of(contract)
    try:
        file = check_part(storage, name, part.sha256, scratch, RESTORE)
    except PartFault as fault:
        raise BaseFault(str(fault)) from fault
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


def _merged(base: Iterator[pa.Table], fresh: _Fresh, job: _Job) -> Iterator[pa.Table]:
    """The rows of the earlier snapshot with the new ones, by key; of two rows of a customer, the later one."""
    key = job.contract.key.name
    for piece in base:
        chosen = fresh.up_to(piece[key][-1])
        yield piece if chosen is None else _with_fresh(piece, chosen, job)
    yield from fresh.rest()


def _with_fresh(piece: pa.Table, chosen: pa.Table, job: _Job) -> pa.Table:
    key, rows = job.contract.key.name, piece.num_rows
    old, new = _comparable(piece[key]), _comparable(chosen[key])
    places = np.searchsorted(old, new)  # at most the last one, because the piece ends with a key that is as large
    known = old[places] == new
    wins = ~known
    wins[known] = _is_later(chosen.filter(pa.array(known)), piece.take(pa.array(places[known])), job)
    order = np.arange(rows)
    replaced = known & wins
    numbers = rows + np.arange(chosen.num_rows)
    order[places[replaced]] = numbers[replaced]
    order = np.insert(order, places[~known], numbers[~known])
    return pa.concat_tables([piece, chosen.drop_columns(["_rank"])]).combine_chunks().take(pa.array(order))


def _is_later(new: pa.Table, old: pa.Table, job: _Job) -> NDArray[np.bool_]:
    """Whether the new row of a customer counts: by the as-of column if there is one, then by the arrival of the batch."""
    sorter = np.argsort(job.batches)
    numbers = old["_batch"].to_numpy()
    found = sorter[np.minimum(np.searchsorted(job.batches, numbers, sorter=sorter), len(sorter) - 1)]
    if not np.array_equal(job.batches[found], numbers):
        raise BaseFault(
            f"The earlier snapshot {job.base.folder if job.base else ''} has rows of batches that it should not contain."
        )
    later: NDArray[np.bool_] = new["_rank"].to_numpy() > found
    if job.contract.as_of is None:
        return later
    ours, theirs = (table[job.contract.as_of.name] for table in (new, old))
    absent, missing = pc.is_null(ours).to_numpy(), pc.is_null(theirs).to_numpy()  # a missing value is the latest
    newer = pc.fill_null(pc.greater(ours, theirs), False).to_numpy() | (absent & ~missing)
    same = pc.fill_null(pc.equal(ours, theirs), False).to_numpy() | (absent & missing)
    return np.asarray(newer | (same & later), np.bool_)


def _comparable(keys: pa.ChunkedArray) -> NDArray[Any]:
    """Keys as an array that numpy orders like DuckDB: texts by their UTF-8 bytes."""
    if pa.types.is_string(keys.type):
        keys = keys.cast(pa.binary())
    return np.asarray(keys.combine_chunks().to_numpy(zero_copy_only=False))


def _write(tables: Iterator[pa.Table], job: _Job, file: Path) -> ComputedPart:
    """Write rows in groups of a fixed size, and hash their content on the way."""
    contract, digest = job.contract, _content_of(job.contract)
    sizes = np.zeros(columnar.BUCKETS, np.int64)
    missing = dict.fromkeys(contract.names, 0)
    with pq.ParquetWriter(file, _schema(job.contract), **_encoding(contract)) as writer:
        for table in _groups(tables):
            rows = table.combine_chunks()  # pages would otherwise depend on how the rows came
            digest.update(rows)
            sizes += np.bincount(rows[BUCKET].to_numpy(), minlength=columnar.BUCKETS)
            for name in missing:
                missing[name] += rows[name].null_count
            writer.write_table(rows, _GROUP_ROWS)
    return ComputedPart(WrittenPart.of(file, digest.hexdigest()), sizes.tolist(), missing)


def _encoding(contract: Contract) -> dict[str, Any]:
    """How a part is written: what is fastest to write and read, and about as small as with a compression.

    Numbers of few values become a dictionary of small codes, other integers differences; only texts are compressed.
    """
    whole = [column for column in contract.columns if column.kind is Kind.INTEGER]
    few = [column.name for column in whole if _has_few_values(column)]
    texts = [column.name for column in contract.columns if column.kind is Kind.TEXT]
    return {
        "use_dictionary": [*few, *texts, BUCKET, "_arrived_at", "_batch"],
        "column_encoding": {column.name: "DELTA_BINARY_PACKED" for column in whole if column.name not in few},
        "compression": dict.fromkeys(contract.names, "none") | dict.fromkeys(texts, "zstd"),
        "compression_level": dict.fromkeys(texts, 1),
        "write_statistics": False,
    }


def _has_few_values(column: Column) -> bool:
    return column.minimum is not None and column.maximum is not None and column.maximum - column.minimum < _FEW_VALUES


def _groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    rows = 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        while rows >= _GROUP_ROWS:
            together = pa.concat_tables(held)
            yield together.slice(0, _GROUP_ROWS)
            held = [together.slice(_GROUP_ROWS)]
            rows -= _GROUP_ROWS
    if rows:
        yield pa.concat_tables(held)
