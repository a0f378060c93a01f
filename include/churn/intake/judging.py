"""Judges the rows of a file, part by part: the good rows of a part go to one Parquet file, the others to another.

Both files are written to a scratch folder. The memory needed depends neither on the size of the file nor on the number of
earlier batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from churn.contract import UNLABELLED, Contract, Kind
from churn.errors import ChurnError
from churn.foundation import columnar
from churn.foundation.columnar import PlainLines
from churn.foundation.parts import WrittenPart
from churn.foundation.progress import report_progress
from churn.foundation.spread import INTO, Spread
from churn.intake.batch_file import FileFault, Piece
from churn.intake.csv_reading import split_lines
from churn.intake.divided_file import DividedFile
from churn.intake.file_part import FilePart

ASIDE = pa.schema(
    [("_line", pa.int64()), ("_raw", pa.string()), ("_failed", pa.list_(pa.string())), ("_batch", pa.string())]
)
EMPTY = ASIDE.empty_table()
REJECTED = "batch.rejected"
_KEYS_AT_ONCE = 4_000_000
"""Keys that are searched for repeats in one go: 32 MB."""


class RowsLost(ChurnError):  # noqa: N818 -- it says what happened
    """Rows that arrived are neither accepted nor quarantined. This is a defect, and nothing of the batch is accepted."""


@dataclass(frozen=True)
class JudgedPart:
    """The judged rows of one part: the files of good and quarantined rows, and the counts."""

    part: FilePart
    good: WrittenPart
    aside: WrittenPart
    arrived: int
    unlabelled: int
    events: int


@dataclass(frozen=True)
class Judged:
    """A batch whose rows have been judged: Parquet files for each part, and the counts.

    `unlabelled` of the quarantined rows wait for a label and break no other rule.
    """

    parts: tuple[JudgedPart, ...]

    @property
    def good(self) -> list[Path]:
        """The files of good rows, in the order of the parts."""
        return [part.good.file for part in self.parts]

    @property
    def aside(self) -> list[Path]:
        """The files of quarantined rows, in the order of the parts."""
        return [part.aside.file for part in self.parts]

    @property
    def arrived(self) -> int:
        """Number of rows in the file."""
        return sum(part.arrived for part in self.parts)

    @property
    def accepted(self) -> int:
        """Number of good rows."""
        return sum(part.good.rows for part in self.parts)

    @property
    def unlabelled(self) -> int:
        """Number of rows that wait for a label."""
        return sum(part.unlabelled for part in self.parts)

    @property
    def events(self) -> int:
        """Number of good rows with the event."""
        return sum(part.events for part in self.parts)

    @property
    def set_aside(self) -> int:
        """Number of rows that are not accepted."""
        return self.arrived - self.accepted

    @property
    def rejected_share(self) -> float:
        """Share of faulty rows among those that have a label."""
        labelled = self.arrived - self.unlabelled
        return (self.set_aside - self.unlabelled) / labelled if labelled else 0.0


@dataclass(frozen=True)
class _Job:
    """What judging a part of a batch needs; it can be sent to another process."""

    file: DividedFile
    batch: str
    contract: Contract
    scratch: Path
    memory: str

    def path(self, kind: str, part: FilePart) -> Path:
        """The scratch file of a part."""
        return self.scratch / f"{kind}-{part.number:04d}.parquet"


def judge_rows(spread: Spread, file: DividedFile, batch: str, contract: Contract, scratch: Path) -> Judged:
    """Judge every row of a file whose columns have been checked.

    Args:
        spread: where the work on parts runs.
        file: the file with its parts.
        batch: its hash.
        contract: the data contract, with the columns of this file.
        scratch: folder for the judged rows.

    Raises:
        FileFault: it has no rows, or is damaged.
        RowsLost: the counts do not add up.
    """
    job = _Job(file, batch, contract, scratch, spread.engine_memory)
    judging = spread.each(partial(_judge_part, job), file.parts)
    parts = list(report_progress(judging, "Judging rows", len(file.parts), rows=lambda part: part.arrived))
    if not sum(part.arrived for part in parts):
        raise FileFault("no_rows", "The file has a header but no rows. Ask the sender for a complete file.")
    if _find_repeated_keys(spread, job, parts):
        _resolve_repeats(spread, job, parts)
        moving = spread.each(partial(_move_repeats, job), _with_next(parts))
        parts = list(report_progress(moving, "Setting repeated rows aside", len(parts), rows=lambda part: part.arrived))
    judged = Judged(tuple(parts))
    aside = sum(part.aside.rows for part in parts)
    _require_all(batch, judged.arrived, judged.accepted, aside)
    return judged


def reject_rows(
    spread: Spread, file: DividedFile, batch: str, scratch: Path, judged: Judged | None, rule: str
) -> list[WrittenPart]:
    """Quarantine every row of a rejected batch, with the rule of the batch after its own.

    Returns:
        The files of quarantined rows, a part each.

    Raises:
        RowsLost: not all judged rows are among them.
    """
    own = judged.aside if judged else [None] * len(file.parts)
    work = partial(_reject_part, file, batch, scratch, rule, spread.engine_memory)
    rejecting = spread.each(work, list(zip(file.parts, own, strict=True)))
    parts = list(report_progress(rejecting, "Quarantining rows", len(file.parts), rows=lambda part: part.rows))
    if judged:
        _require_all(batch, judged.arrived, 0, sum(part.rows for part in parts))
    return parts


def _require_all(batch: str, arrived: int, good: int, aside: int) -> None:
    if arrived != good + aside:
        raise RowsLost(
            f"Batch {batch[:12]}: {arrived} rows arrived, but {good} are good and {aside} quarantined. "
            "This is a defect of the pipeline, so nothing of the batch is accepted. Please report it."
        )


def _judge_part(job: _Job, part: FilePart) -> JudgedPart:
    """Write the good rows, the quarantined rows and the sorted keys of a part; repeated customers are still among the good ones."""
    good, aside = job.path("good", part), job.path("aside", part)
    contract, arrived, unlabelled, events = job.contract, 0, 0, 0
    keys: list[NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    with (
        job.file.opened(part) as file,
        columnar.engine(job.memory, threads=1) as connection,
        _good_writer(good, contract) as good_rows,
        pq.ParquetWriter(aside, ASIDE, compression="zstd") as aside_rows,
    ):
        lines = columnar.plain_lines(contract, file.header)
        for piece in file.pieces(contract):
            judged = _judge_piece(connection, piece, lines, file.header, contract)
            arrived += piece.arrived
            keys.append(judged.keys)
            if judged.good.num_rows:
                rows = _numbered(judged.good, job.batch, good_rows.schema)
                events += pc.sum(rows[contract.target.name]).as_py() or 0
                good_rows.write_table(rows)
            if judged.aside.num_rows:
                unlabelled += _count_unlabelled(judged.aside)
                aside_rows.write_table(_aside(judged.aside, job.batch))
    merged = np.concatenate(keys)
    merged.sort(kind="stable")  # merges runs that are already sorted
    np.save(_keys_file(job, part), merged)
    return JudgedPart(part, WrittenPart.of(good), WrittenPart.of(aside), arrived, unlabelled, events)


def _good_writer(file: Path, contract: Contract) -> pq.ParquetWriter:
    texts = [column.name for column in contract.columns if column.kind is Kind.TEXT]
    return pq.ParquetWriter(
        file,
        accepted_schema(contract),
        compression="snappy",
        use_dictionary=[*texts, "_batch"],
        write_statistics=["_line"],  # no other column is searched by range
    )


def _numbered(rows: pa.Table, batch: str, schema: pa.Schema) -> pa.Table:
    return rows.append_column("_batch", pa.array(np.full(rows.num_rows, batch_number(batch)))).cast(schema)


def _count_unlabelled(aside: pa.Table) -> int:
    failed = aside["_failed"]
    waiting = pc.and_(pc.equal(pc.list_value_length(failed), 1), pc.equal(pc.list_element(failed, 0), UNLABELLED))
    return int(pc.sum(waiting).as_py() or 0)


def accepted_schema(contract: Contract) -> pa.Schema:
    """The columns of a file of accepted rows: those of the contract, the line, and the number of the batch."""
    return pa.schema([*_typed_columns(contract), ("_line", pa.int64()), ("_batch", pa.int64())])


def _typed_columns(contract: Contract) -> list[tuple[str, pa.DataType]]:
    types = {Kind.INTEGER: pa.int64(), Kind.NUMBER: pa.float64(), Kind.TEXT: pa.string(), Kind.DATE: pa.date32()}
    return [(column.name, types[column.kind]) for column in contract.columns]


def batch_number(batch: str) -> int:
    """The hash of a batch as a number that fits into an integer column."""
    return int(batch[:15], 16)


@dataclass(frozen=True)
class _JudgedPiece:
    good: pa.Table
    keys: NDArray[np.uint64]
    aside: pa.Table


def _judge_piece(
    connection: duckdb.DuckDBPyConnection, piece: Piece, lines: PlainLines, header: Sequence[str], contract: Contract
) -> _JudgedPiece:
    columns = [*contract.names, "_line", "_key"]
    good, records = [], piece.records
    if piece.plain is not None and piece.lines is not None:
        typed = lines.type(connection, piece.plain)
        odd = typed["_odd"]
        if pc.any(odd).as_py():
            numbers = typed["_line"].filter(odd).to_numpy()
            looked_at = split_lines(piece.lines.at(piece.lines.positions(numbers)), header, contract)
            records = pa.concat_tables([records, looked_at])
            typed = typed.filter(pc.invert(odd))
        good.append(typed.select(columns))
    aside = EMPTY
    if records.num_rows:
        aside = columnar.apply_row_rules(connection, records, contract)
        broken = pc.greater(pc.list_value_length(aside["_failed"]), 0)
        good.append(aside.filter(pc.invert(broken)).select(columns))
        aside = aside.filter(broken)
    rows = pa.concat_tables(good)
    if len(good) > 1 and good[-1].num_rows:
        rows = rows.sort_by("_line")
    keys = np.sort(rows["_key"].to_numpy())  # a copy: a view would keep the whole result in memory
    return _JudgedPiece(rows.drop_columns(["_key"]), keys, aside)


def _aside(rows: pa.Table, batch: str) -> pa.Table:
    name = pa.array([batch] * rows.num_rows, pa.string())
    return rows.select(["_line", "_raw", "_failed"]).append_column("_batch", name).cast(ASIDE)


def _keys_file(job: _Job, part: FilePart) -> Path:
    return job.path("keys", part).with_suffix(".npy")


def _ranges(rows: int) -> list[tuple[int, int]]:
    """The ranges of key hashes that are searched one by one, so that the memory does not grow with the rows."""
    count = max(1, -(-rows // _KEYS_AT_ONCE))
    borders = [place * (1 << 64) // count for place in range(count + 1)]
    return list(pairwise(borders))


def _find_repeated_keys(spread: Spread, job: _Job, parts: Sequence[JudgedPart]) -> int:
    """Write the hashes of keys that appear in more than one row, in any parts; returns their number."""
    work = partial(_repeated_keys, [_keys_file(job, part.part) for part in parts], job.scratch)
    return sum(spread.each(work, _ranges(sum(part.good.rows for part in parts))))


def _repeated_keys(files: Sequence[Path], scratch: Path, bounds: tuple[int, int]) -> int:
    slices = []
    for file in files:
        keys = np.load(file, mmap_mode="r")
        first = np.searchsorted(keys, np.uint64(bounds[0]))
        last = len(keys) if bounds[1] == 1 << 64 else np.searchsorted(keys, np.uint64(bounds[1]))
        slices.append(np.array(keys[first:last]))
    merged = np.concatenate(slices)
    merged.sort(kind="stable")
    repeated = np.unique(merged[1:][merged[1:] == merged[:-1]])
    pq.write_table(pa.table({"_key": repeated}), scratch / f"repeated-{bounds[0]}.parquet")
    return len(repeated)


def _resolve_repeats(spread: Spread, job: _Job, parts: Sequence[JudgedPart]) -> None:
    """Write the lines to quarantine: the rows that may repeat a customer are regrouped by customer, so that all of one meet."""
    ranges = _ranges(sum(part.good.rows for part in parts))
    schema = pa.schema([("_key", pa.uint64()), ("_line", pa.int64()), *_typed_columns(job.contract)])
    candidates = partial(_repeat_candidates, job, len(ranges))
    list(
        spread.exchange(
            candidates, [part.good.file for part in parts], schema, len(ranges), partial(_write_repeats, job)
        )
    )


def _repeat_candidates(job: _Job, ranges: int, good: Path) -> Iterator[pa.RecordBatch]:
    with columnar.engine(job.memory, threads=1) as connection:
        rows = columnar.rows_of_keys(connection, good, sorted(job.scratch.glob("repeated-*.parquet")), job.contract)
        for batch in rows:
            place = pa.array([key * ranges >> 64 for key in batch["_key"].to_pylist()], pa.int32())
            yield batch.append_column(INTO, place)


def _write_repeats(job: _Job, number: int, batches: Iterator[pa.RecordBatch]) -> int:
    """Write the lines to quarantine among the rows of some customers, and why."""
    schema = pa.schema([("_key", pa.uint64()), ("_line", pa.int64()), *_typed_columns(job.contract)])
    rows = pa.Table.from_batches(batches, schema)
    with columnar.engine(job.memory, threads=1) as connection:
        repeats = columnar.resolve_repeats(connection, rows, job.contract)
    pq.write_table(repeats, job.scratch / f"moved-{number}.parquet")
    return int(repeats.num_rows)


def _with_next(parts: Sequence[JudgedPart]) -> list[tuple[JudgedPart, int | None]]:
    """Each part with the first line of the next one; None behind the last."""
    firsts: list[int | None] = [part.part.first for part in parts[1:]]
    return list(zip(parts, [*firsts, None], strict=True))


def _move_repeats(job: _Job, judged: tuple[JudgedPart, int | None]) -> JudgedPart:
    """Move the rows of customers who appear more than once from one file of a part to the other."""
    before, end = judged
    part = before.part
    repeats = pa.concat_tables(pq.read_table(file) for file in sorted(job.scratch.glob("moved-*.parquet")))
    here = pc.greater_equal(repeats["_line"], part.first)
    here = here if end is None else pc.and_(here, pc.less(repeats["_line"], end))
    repeats = repeats.filter(here).sort_by("_line")
    if not repeats.num_rows:
        return before
    with job.file.opened(part) as file:
        raw = pa.concat_tables(file.raw(only=repeats["_line"].to_numpy())).sort_by("_line")
    rules = pa.array([[rule] for rule in repeats["_rule"].to_pylist()], pa.list_(pa.string()))
    moved = _aside(raw.append_column("_failed", rules), job.batch)
    good, aside = job.path("kept", part), job.path("both", part)
    pq.write_table(
        pa.concat_tables([pq.read_table(before.aside.file), moved]).sort_by("_line"), aside, compression="zstd"
    )
    events = 0
    with _good_writer(good, job.contract) as writer:
        for batch in pq.ParquetFile(before.good.file).iter_batches(_ROWS):
            kept = batch.filter(pc.invert(pc.is_in(batch["_line"], repeats["_line"].combine_chunks())))
            events += pc.sum(kept[job.contract.target.name]).as_py() or 0
            writer.write_batch(kept.cast(writer.schema))
    before.good.file.unlink()
    return replace(before, good=WrittenPart.of(good), aside=WrittenPart.of(aside), events=events)


_ROWS = 262_144


def _reject_part(
    file: DividedFile, batch: str, scratch: Path, rule: str, memory: str, judged: tuple[FilePart, Path | None]
) -> WrittenPart:
    part, own = judged
    path = scratch / f"rejected-{part.number:04d}.parquet"
    with (
        file.opened(part) as reader,
        columnar.engine(memory, threads=1) as connection,
        pq.ParquetWriter(path, ASIDE, compression="zstd") as writer,
    ):
        for raw in reader.raw():
            writer.write_table(_aside(columnar.append_rule(connection, raw, own, rule), batch))
    return WrittenPart.of(path)
