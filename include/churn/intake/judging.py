"""Judges the rows of a file, part by part: the good rows of a part go to one Parquet file, the others to another.

Both files are written to a scratch folder. The memory needed depends neither on the size of the file nor on the number of
earlier batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from churn.contract import UNLABELLED, Contract
from churn.errors import ChurnError
from churn.foundation import columnar
from churn.foundation.columnar import PlainLines, RowRules
from churn.foundation.parts import WrittenPart
from churn.foundation.progress import report_progress
from churn.foundation.scratch import discard, given, writing
from churn.foundation.spread import Spread, by_threads
from churn.intake.batch_file import FileFault, Piece
from churn.intake.csv_reading import split_lines
from churn.intake.divided_file import DividedFile
from churn.intake.file_part import FilePart
from churn.intake.judged_rows import (
    ASIDE,
    EMPTY,
    Judged,
    JudgedPart,
    JudgingJob,
    TypedPart,
    accepted_schema,
    batch_number,
    count_events,
    find_broken_rules,
    good_writer,
    quarantine_columns,
)
from churn.intake.repeats import find_repeats, keep_keys, repeats_of

REJECTED = "batch.rejected"


class RowsLost(ChurnError):  # noqa: N818 -- it says what happened
    """Rows that arrived are neither accepted nor quarantined. This is a defect, and nothing of the batch is accepted."""


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
    job = JudgingJob(file, batch, contract, scratch, spread.engine_memory)
    judging = spread.each(partial(_judge_part, job), file.parts)
    typed = list(report_progress(judging, "Judging rows", len(file.parts), rows=lambda part: part.arrived))
    if not sum(part.arrived for part in typed):
        raise FileFault("no_rows", "The file has a header but no rows. Ask the sender for a complete file.")
    repeats = find_repeats(spread, job, typed)
    ends: list[int | None] = [part.first for part in file.parts[1:]]
    separating = spread.each(
        by_threads(partial(_write_part, job, repeats)), list(zip(typed, [*ends, None], strict=True))
    )
    parts = []
    for part in report_progress(separating, "Writing rows", len(typed), rows=lambda part: part.arrived):
        discard(job.typed(part.part))  # here and not by the worker, whose work may be done a second time
        parts.append(part)
    judged = Judged(tuple(parts))
    _require_all(batch, judged.arrived, judged.accepted, sum(part.aside.rows for part in judged.parts))
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
    own = [part.aside.file for part in judged.parts] if judged else [None] * len(file.parts)
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


def _judge_part(job: JudgingJob, part: FilePart) -> TypedPart:
    """Judge the rows of a part one by one: those that break no rule, with the sorted hashes of their keys, and the others."""
    arrived, rows, unlabelled = 0, 0, 0
    schema = accepted_schema(job.contract)
    keys: list[NDArray[np.uint64]] = []
    with (
        job.file.opened(part) as file,
        columnar.engine(job.memory, threads=1) as connection,
        writing(job.typed(part)) as typed,
        writing(job.path("aside", part)) as aside,
        pa.ipc.new_file(typed, schema) as good_rows,
        pq.ParquetWriter(aside, ASIDE, compression="zstd") as aside_rows,
    ):
        lines = columnar.prepare_plain_lines(connection, job.contract, file.header)
        rules = columnar.prepare_row_rules(connection, job.contract)
        for piece in file.pieces(job.contract):
            judged = _judge_piece(piece, lines, rules, file.header, job.contract)
            arrived, rows = arrived + piece.arrived, rows + judged.good.num_rows
            keys.append(judged.keys)
            if judged.good.num_rows:
                good_rows.write_table(_numbered(judged.good, job.batch, schema).combine_chunks())
            if judged.aside.num_rows:
                unlabelled += _count_unlabelled(judged.aside)
                aside_rows.write_table(quarantine_columns(judged.aside, job.batch))
    keep_keys(job, part, keys)
    return TypedPart(part, rows, arrived, unlabelled)


def _write_part(job: JudgingJob, found: Sequence[Path], judged: tuple[TypedPart, int | None]) -> JudgedPart:
    """Write the good rows of a part, once, and the quarantined ones, with those of customers who appear more than once."""
    typed, end = judged
    part, aside, events = typed.part, job.path("aside", typed.part), 0
    repeats = repeats_of(found, part, end) if found else None
    again = repeats["_line"].combine_chunks() if repeats is not None and repeats.num_rows else None
    good = job.path("good", part)
    with (
        pa.memory_map(str(given(job.typed(part)))) as mapped,
        writing(good) as target,
        good_writer(target, job.contract) as writer,
    ):
        source = pa.ipc.open_file(mapped)
        for number in range(source.num_record_batches):
            rows = source.get_batch(number)
            kept = rows if again is None else rows.filter(pc.invert(pc.is_in(rows["_line"], again)))
            events += count_events(kept, job.contract)
            writer.write_batch(kept)
    if repeats is not None and again is not None:
        before, aside = aside, job.path("both", part)
        _write_aside(job, part, before, repeats, aside)
    quarantined = WrittenPart.of(aside)
    rules = find_broken_rules(given(aside)) if quarantined.rows else ()
    return JudgedPart(part, WrittenPart.of(good), quarantined, typed.arrived, typed.unlabelled, events, rules)


def _write_aside(job: JudgingJob, part: FilePart, before: Path, repeats: pa.Table, target: Path) -> None:
    """Write the quarantined rows of a part together with those of customers who appear more than once, by line."""
    with job.file.opened(part) as source:
        raw = pa.concat_tables(source.raw(only=repeats["_line"].to_numpy())).sort_by("_line")
    rules = pa.array([[rule] for rule in repeats["_rule"].to_pylist()], pa.list_(pa.string()))
    moved = quarantine_columns(raw.append_column("_failed", rules), job.batch)
    rows = pa.concat_tables([pq.read_table(given(before)), moved]).sort_by("_line")
    with writing(target) as file:
        pq.write_table(rows, file, compression="zstd")


def _numbered(rows: pa.Table, batch: str, schema: pa.Schema) -> pa.Table:
    return rows.append_column("_batch", pa.array(np.full(rows.num_rows, batch_number(batch)))).cast(schema)


def _count_unlabelled(aside: pa.Table) -> int:
    failed = aside["_failed"]
    waiting = pc.and_(pc.equal(pc.list_value_length(failed), 1), pc.equal(pc.list_element(failed, 0), UNLABELLED))
    return int(pc.sum(waiting).as_py() or 0)


@dataclass(frozen=True)
class _JudgedPiece:
    good: pa.Table
    keys: NDArray[np.uint64]
    aside: pa.Table


def _judge_piece(
    piece: Piece, lines: PlainLines, rules: RowRules, header: Sequence[str], contract: Contract
) -> _JudgedPiece:
    columns = [*contract.names, "_line", "_key"]
    records, aside = piece.records, EMPTY
    good: list[pa.Table] = []
    if piece.plain is not None and piece.lines is not None:
        typed = lines.type(piece.plain)
        good.append(typed.select(columns))
        if typed.num_rows + records.num_rows < piece.plain.num_rows:
            read = np.concatenate([typed["_line"], records["_line"]])
            odd = np.setdiff1d(piece.plain["_line"], read, assume_unique=True)
            looked_at = split_lines(piece.lines.at(piece.lines.positions(odd)), header, contract)
            records = pa.concat_tables([records, looked_at])
    if records.num_rows:
        judged = rules.apply(records)
        broken = pc.greater(pc.list_value_length(judged["_failed"]), 0)
        good.append(judged.filter(pc.invert(broken)).select(columns))
        aside = judged.filter(broken)
    rows = pa.concat_tables(good)
    if len(good) > 1 and good[-1].num_rows:
        rows = rows.sort_by("_line")
    keys = np.sort(rows["_key"].to_numpy())  # a copy: a view would keep the whole result in memory
    return _JudgedPiece(rows.drop_columns(["_key"]), keys, aside)


def _reject_part(
    file: DividedFile, batch: str, scratch: Path, rule: str, memory: str, judged: tuple[FilePart, Path | None]
) -> WrittenPart:
    part, own = judged
    path = scratch / f"rejected-{part.number:04d}.parquet"
    with (
        file.opened(part) as reader,
        columnar.engine(memory, threads=1) as connection,
        writing(path) as target,
        pq.ParquetWriter(target, ASIDE, compression="zstd") as writer,
    ):
        judged_rows = given(own) if own else None
        for raw in reader.raw():
            writer.write_table(quarantine_columns(columnar.append_rule(connection, raw, judged_rows, rule), batch))
    return WrittenPart.of(path)
