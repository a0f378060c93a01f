"""Repeated customers of a batch, in whatever parts they are: of identical rows the first is kept, of conflicting ones none.

First the hashes of all keys are searched for repeats, range by range. Usually there are none. Otherwise the rows of the
repeated keys are regrouped by customer and compared, and only the parts that hold rows to quarantine are written again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from churn.foundation import columnar
from churn.foundation.parts import WrittenPart
from churn.foundation.progress import report_progress
from churn.foundation.spread import INTO, Spread
from churn.intake.file_part import FilePart
from churn.intake.judged_rows import (
    JudgedPart,
    JudgingJob,
    count_events,
    good_writer,
    quarantine_columns,
    typed_columns,
)

_KEYS_AT_ONCE = 4_000_000
"""Keys that are searched for repeats in one go: 32 MB."""
_ROWS_AT_ONCE = 1_000_000
"""Rows that are compared in one go at most."""
_ROWS = 262_144


def keep_keys(job: JudgingJob, part: FilePart, keys: Sequence[NDArray[np.uint64]]) -> None:
    """Keep the hashes of the keys of a part, which come in sorted runs, to be searched for repeats."""
    merged = np.concatenate([np.zeros(0, np.uint64), *keys])
    merged.sort(kind="stable")  # merges runs that are already sorted
    np.save(_keys_file(job, part), merged)


def set_repeats_aside(spread: Spread, job: JudgingJob, parts: list[JudgedPart]) -> list[JudgedPart]:
    """Move the rows of customers who appear more than once to the quarantined ones.

    Returns:
        The parts with their new files and counts.
    """
    if not _find_repeated_keys(spread, job, parts):
        return parts
    _resolve_repeats(spread, job, parts)
    moving = spread.each(partial(_move_repeats, job), _with_next(parts))
    return list(report_progress(moving, "Setting repeated rows aside", len(parts), rows=lambda part: part.arrived))


def _keys_file(job: JudgingJob, part: FilePart) -> Path:
    return job.path("keys", part).with_suffix(".npy")


def _ranges(rows: int) -> list[tuple[int, int]]:
    """The ranges of key hashes that are searched one by one, so that the memory does not grow with the rows."""
    count = max(1, -(-rows // _KEYS_AT_ONCE))
    borders = [place * (1 << 64) // count for place in range(count + 1)]
    return list(pairwise(borders))


def _find_repeated_keys(spread: Spread, job: JudgingJob, parts: Sequence[JudgedPart]) -> int:
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


def _resolve_repeats(spread: Spread, job: JudgingJob, parts: Sequence[JudgedPart]) -> None:
    """Write the lines to quarantine: the rows that may repeat a customer are regrouped by customer, so that all of one meet."""
    receivers = max(1, -(-sum(part.good.rows for part in parts) // _ROWS_AT_ONCE))
    candidates = partial(_repeat_candidates, job, receivers)
    files, resolve = [part.good.file for part in parts], partial(_write_repeats, job)
    list(spread.exchange(candidates, files, _candidate_schema(job), receivers, resolve))


def _candidate_schema(job: JudgingJob) -> pa.Schema:
    return pa.schema([("_key", pa.uint64()), ("_line", pa.int64()), *typed_columns(job.contract)])


def _repeat_candidates(job: JudgingJob, receivers: int, good: Path) -> Iterator[pa.RecordBatch]:
    with columnar.engine(job.memory, threads=1) as connection:
        rows = columnar.rows_of_keys(connection, good, sorted(job.scratch.glob("repeated-*.parquet")), job.contract)
        for batch in rows:
            upper = batch["_key"].to_numpy() >> np.uint64(32)
            yield batch.append_column(INTO, pa.array((upper * np.uint64(receivers) >> np.uint64(32)).astype(np.int32)))


def _write_repeats(job: JudgingJob, number: int, batches: Iterator[pa.RecordBatch]) -> int:
    """Write the lines to quarantine among the rows of some customers, and why."""
    rows = pa.Table.from_batches(batches, _candidate_schema(job))
    with columnar.engine(job.memory, threads=1) as connection:
        repeats = columnar.resolve_repeats(connection, rows, job.contract)
    pq.write_table(repeats, job.scratch / f"moved-{number}.parquet")
    return int(repeats.num_rows)


def _with_next(parts: Sequence[JudgedPart]) -> list[tuple[JudgedPart, int | None]]:
    """Each part with the first line of the next one; None behind the last."""
    firsts: list[int | None] = [part.part.first for part in parts[1:]]
    return list(zip(parts, [*firsts, None], strict=True))


def _move_repeats(job: JudgingJob, judged: tuple[JudgedPart, int | None]) -> JudgedPart:
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
    moved = quarantine_columns(raw.append_column("_failed", rules), job.batch)
    good, aside = job.path("kept", part), job.path("both", part)
    pq.write_table(
        pa.concat_tables([pq.read_table(before.aside.file), moved]).sort_by("_line"), aside, compression="zstd"
    )
    events = 0
    with good_writer(good, job.contract) as writer:
        for batch in pq.ParquetFile(before.good.file).iter_batches(_ROWS):
            kept = batch.filter(pc.invert(pc.is_in(batch["_line"], repeats["_line"].combine_chunks())))
            events += count_events(kept, job.contract)
            writer.write_batch(kept.cast(writer.schema))
    before.good.file.unlink()
    return replace(before, good=WrittenPart.of(good), aside=WrittenPart.of(aside), events=events)
