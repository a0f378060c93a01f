"""Repeated customers of a batch, in whatever parts they are: of identical rows the first is kept, of conflicting ones none.

First the hashes of all keys are searched for repeats, range by range. Usually there are none. Otherwise the rows of the
repeated keys are regrouped by customer and compared. This happens before the good rows of any part are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from churn.foundation import columnar
from churn.foundation.scratch import given, save_array, writing
from churn.foundation.spread import INTO, Spread
from churn.intake.file_part import FilePart
from churn.intake.judged_rows import JudgingJob, TypedPart, typed_columns

_KEYS_AT_ONCE = 4_000_000
"""Keys that are searched for repeats in one go: 32 MB."""
_ROWS_AT_ONCE = 1_000_000
"""Rows that are compared in one go at most."""
_ROWS = 262_144


def keep_keys(job: JudgingJob, part: FilePart, keys: Sequence[NDArray[np.uint64]]) -> None:
    """Keep the hashes of the keys of a part, which come in sorted runs, to be searched for repeats."""
    merged = np.concatenate([np.zeros(0, np.uint64), *keys])
    merged.sort(kind="stable")  # merges runs that are already sorted
    with writing(_keys_file(job, part)) as target:
        save_array(target, merged)


def find_repeats(spread: Spread, job: JudgingJob, parts: Sequence[TypedPart]) -> list[Path]:
    """Find the rows of customers who appear more than once; returns files with their lines, for `repeats_of`, or none."""
    keys = _find_repeated_keys(spread, job, parts)
    return _resolve_repeats(spread, job, parts, keys) if keys else []


def repeats_of(found: Sequence[Path], part: FilePart, end: int | None) -> pa.Table:
    """`_line` and `_rule` of the rows of a part that are quarantined because their customer appears more than once.

    Args:
        found: what `find_repeats` found in all parts.
        part: the part.
        end: the first line of the next part; None behind the last.
    """
    repeats = pa.concat_tables(pq.read_table(given(file)) for file in found)
    here = pc.greater_equal(repeats["_line"], part.first)
    here = here if end is None else pc.and_(here, pc.less(repeats["_line"], end))
    return repeats.filter(here).sort_by("_line")


def _keys_file(job: JudgingJob, part: FilePart) -> Path:
    return job.path("keys", part).with_suffix(".npy")


def _ranges(rows: int) -> list[tuple[int, int]]:
    """The ranges of key hashes that are searched one by one, so that the memory does not grow with the rows."""
    count = max(1, -(-rows // _KEYS_AT_ONCE))
    borders = [place * (1 << 64) // count for place in range(count + 1)]
    return list(pairwise(borders))


def _find_repeated_keys(spread: Spread, job: JudgingJob, parts: Sequence[TypedPart]) -> list[Path]:
    """Write the hashes of keys that appear in more than one row, in any parts; returns the files that have some."""
    work = partial(_repeated_keys, [_keys_file(job, part.part) for part in parts], job.scratch)
    ranges = _ranges(sum(part.rows for part in parts))
    counts = spread.each(work, ranges)
    return [_repeated_file(job.scratch, bounds) for bounds, count in zip(ranges, counts, strict=True) if count]


def _repeated_file(scratch: Path, bounds: tuple[int, int]) -> Path:
    return scratch / f"repeated-{bounds[0]}.parquet"


def _repeated_keys(files: Sequence[Path], scratch: Path, bounds: tuple[int, int]) -> int:
    slices = []
    for file in files:
        keys = np.load(given(file), mmap_mode="r")
        first = np.searchsorted(keys, np.uint64(bounds[0]))
        last = len(keys) if bounds[1] == 1 << 64 else np.searchsorted(keys, np.uint64(bounds[1]))
        slices.append(np.array(keys[first:last]))
    merged = np.concatenate(slices)
    merged.sort(kind="stable")
    repeated = np.unique(merged[1:][merged[1:] == merged[:-1]])
    with writing(_repeated_file(scratch, bounds)) as target:
        pq.write_table(pa.table({"_key": repeated}), target)
    return len(repeated)


def _resolve_repeats(spread: Spread, job: JudgingJob, parts: Sequence[TypedPart], keys: Sequence[Path]) -> list[Path]:
    """Write the lines to quarantine: the rows that may repeat a customer are regrouped by customer, so that all of one meet."""
    receivers = max(1, -(-sum(part.rows for part in parts) // _ROWS_AT_ONCE))
    candidates = partial(_repeat_candidates, job, keys, receivers)
    files, resolve = [job.typed(part.part) for part in parts if part.rows], partial(_write_repeats, job)
    list(spread.exchange(candidates, files, _candidate_schema(job), receivers, resolve))
    return [_moved_file(job, number) for number in range(receivers)]


def _moved_file(job: JudgingJob, number: int) -> Path:
    return job.scratch / f"moved-{number}.parquet"


def _candidate_schema(job: JudgingJob) -> pa.Schema:
    return pa.schema([("_key", pa.uint64()), ("_line", pa.int64()), *typed_columns(job.contract)])


def _repeat_candidates(job: JudgingJob, keys: Sequence[Path], receivers: int, typed: Path) -> Iterator[pa.RecordBatch]:
    with columnar.engine(job.memory, threads=1) as connection, pa.memory_map(str(given(typed))) as mapped:
        source = pa.ipc.open_file(mapped).read_all()
        rows = columnar.rows_of_keys(connection, source, [given(file) for file in keys], job.contract)
        for batch in rows:
            upper = batch["_key"].to_numpy() >> np.uint64(32)
            yield batch.append_column(INTO, pa.array((upper * np.uint64(receivers) >> np.uint64(32)).astype(np.int32)))


def _write_repeats(job: JudgingJob, number: int, batches: Iterator[pa.RecordBatch]) -> int:
    """Write the lines to quarantine among the rows of some customers, and why."""
    rows = pa.Table.from_batches(batches, _candidate_schema(job))
    with columnar.engine(job.memory, threads=1) as connection:
        repeats = columnar.resolve_repeats(connection, rows, job.contract)
    with writing(_moved_file(job, number)) as target:
        pq.write_table(repeats, target)
    return int(repeats.num_rows)
