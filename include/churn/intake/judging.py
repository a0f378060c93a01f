"""Judges the rows of a file, piece by piece: good rows go to one Parquet file, the others to another.

Both files are written to a scratch folder. The memory needed depends neither on the size of the file nor on the number of
earlier batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

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
from churn.intake.batch_file import BatchFile, FileFault, Piece
from churn.intake.csv_reading import split_lines

T = TypeVar("T")
R = TypeVar("R")

ASIDE = pa.schema(
    [("_line", pa.int64()), ("_raw", pa.string()), ("_failed", pa.list_(pa.string())), ("_batch", pa.string())]
)
EMPTY = ASIDE.empty_table()
WORKERS = 2
REJECTED = "batch.rejected"


class RowsLost(ChurnError):  # noqa: N818 -- it says what happened
    """Rows that arrived are neither accepted nor quarantined. This is a defect, and nothing of the batch is accepted."""


@dataclass(frozen=True)
class Judged:
    """A batch whose rows have been judged: two Parquet files and the counts.

    `unlabelled` of the quarantined rows wait for a label and break no other rule.
    """

    good: Path
    aside: Path
    arrived: int
    accepted: int
    unlabelled: int
    events: int

    @property
    def set_aside(self) -> int:
        """Number of rows that are not accepted."""
        return self.arrived - self.accepted

    @property
    def rejected_share(self) -> float:
        """Share of faulty rows among those that have a label."""
        labelled = self.arrived - self.unlabelled
        return (self.set_aside - self.unlabelled) / labelled if labelled else 0.0


def judge_rows(
    connection: duckdb.DuckDBPyConnection, file: BatchFile, batch: str, contract: Contract, scratch: Path
) -> Judged:
    """Judge every row of a file whose columns have been checked.

    Raises:
        FileFault: it has no rows, or is damaged.
        RowsLost: the counts do not add up.
    """
    lines = columnar.plain_lines(contract, file.header)

    def judge(piece: Piece) -> _JudgedPiece:
        return _judge_piece(connection.cursor(), piece, lines, file, contract)

    with _Output(scratch, batch, contract) as output:
        for piece in _in_order(judge, file.pieces(contract)):
            output.write(piece)
    if not output.arrived:
        raise FileFault("no_rows", "The file has a header but no rows. Ask the sender for a complete file.")
    repeated = output.repeated_keys()
    if len(repeated):
        _set_repeats_aside(connection, file, output, pa.table({"_key": repeated}), contract)
    good, aside = (pq.read_metadata(path).num_rows for path in (output.good, output.aside))
    _require_all(batch, output.arrived, good, aside)
    events = pc.sum(pq.read_table(output.good, columns=[contract.target.name])[contract.target.name]).as_py() or 0
    return Judged(output.good, output.aside, output.arrived, good, output.unlabelled, events)


def reject_rows(
    connection: duckdb.DuckDBPyConnection, file: BatchFile, batch: str, scratch: Path, judged: Judged | None, rule: str
) -> tuple[Path, int]:
    """Quarantine every row of a rejected batch, with the rule of the batch after its own.

    Returns:
        The Parquet file of quarantined rows, and their number.

    Raises:
        RowsLost: not all judged rows are among them.
    """
    path, rows = scratch / "rejected.parquet", 0
    with pq.ParquetWriter(path, ASIDE, compression="zstd") as writer:
        for raw in file.raw():
            rows += raw.num_rows
            writer.write_table(
                _aside(columnar.append_rule(connection, raw, judged.aside if judged else None, rule), batch)
            )
    if judged:
        _require_all(batch, judged.arrived, 0, rows)
    return path, rows


def _require_all(batch: str, arrived: int, good: int, aside: int) -> None:
    if arrived != good + aside:
        raise RowsLost(
            f"Batch {batch[:12]}: {arrived} rows arrived, but {good} are good and {aside} quarantined. "
            "This is a defect of the pipeline, so nothing of the batch is accepted. Please report it."
        )


@dataclass(frozen=True)
class _JudgedPiece:
    good: pa.Table
    keys: NDArray[np.uint64]
    aside: pa.Table
    arrived: int


@dataclass
class _Output:
    """The two files while they are written."""

    scratch: Path
    batch: str
    contract: Contract
    arrived: int = 0
    unlabelled: int = 0
    _keys: list[NDArray[np.uint64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.good, self.aside = self.scratch / "good.parquet", self.scratch / "aside.parquet"
        self.schema = accepted_schema(self.contract)
        texts = [column.name for column in self.contract.columns if column.kind is Kind.TEXT]
        self._good = pq.ParquetWriter(
            self.good,
            self.schema,
            compression="snappy",
            use_dictionary=[*texts, "_batch"],
            write_statistics=["_line"],  # no other column is searched by range
        )
        self._aside = pq.ParquetWriter(self.aside, ASIDE, compression="zstd")

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, *_: object) -> None:
        self._good.close()
        self._aside.close()

    def write(self, piece: _JudgedPiece) -> None:
        self.arrived += piece.arrived
        self._keys.append(piece.keys)
        if piece.good.num_rows:
            name = pa.array(np.full(piece.good.num_rows, batch_number(self.batch)))
            self._good.write_table(piece.good.append_column("_batch", name).cast(self.schema))
        if piece.aside.num_rows:
            failed = piece.aside["_failed"]
            waiting = pc.and_(
                pc.equal(pc.list_value_length(failed), 1), pc.equal(pc.list_element(failed, 0), UNLABELLED)
            )
            self.unlabelled += pc.sum(waiting).as_py()
            self._aside.write_table(_aside(piece.aside, self.batch))

    def repeated_keys(self) -> NDArray[np.uint64]:
        """The hashes of keys that appear in more than one row."""
        keys = np.concatenate(self._keys)
        self._keys.clear()
        keys.sort(kind="stable")  # merges runs that are already sorted
        return np.unique(keys[1:][keys[1:] == keys[:-1]])


def accepted_schema(contract: Contract) -> pa.Schema:
    """The columns of a file of accepted rows: those of the contract, the line, and the number of the batch."""
    types = {Kind.INTEGER: pa.int64(), Kind.NUMBER: pa.float64(), Kind.TEXT: pa.string(), Kind.DATE: pa.date32()}
    columns = [(column.name, types[column.kind]) for column in contract.columns]
    return pa.schema([*columns, ("_line", pa.int64()), ("_batch", pa.int64())])


def batch_number(batch: str) -> int:
    """The hash of a batch as a number that fits into an integer column."""
    return int(batch[:15], 16)


def _judge_piece(
    cursor: duckdb.DuckDBPyConnection, piece: Piece, lines: PlainLines, file: BatchFile, contract: Contract
) -> _JudgedPiece:
    columns = [*contract.names, "_line", "_key"]
    good, records = [], piece.records
    if piece.plain is not None and piece.lines is not None:
        typed = lines.type(cursor, piece.plain)
        odd = typed["_odd"]
        if pc.any(odd).as_py():
            numbers = typed["_line"].filter(odd).to_numpy()
            looked_at = split_lines(piece.lines.at(piece.lines.positions(numbers)), file.header, contract)
            records = pa.concat_tables([records, looked_at])
            typed = typed.filter(pc.invert(odd))
        good.append(typed.select(columns))
    aside = EMPTY
    if records.num_rows:
        aside = columnar.apply_row_rules(cursor, records, contract)
        broken = pc.greater(pc.list_value_length(aside["_failed"]), 0)
        good.append(aside.filter(pc.invert(broken)).select(columns))
        aside = aside.filter(broken)
    rows = pa.concat_tables(good)
    if len(good) > 1 and good[-1].num_rows:
        rows = rows.sort_by("_line")
    keys = np.sort(rows["_key"].to_numpy())  # a copy: a view would keep the whole result in memory
    return _JudgedPiece(rows.drop_columns(["_key"]), keys, aside, piece.arrived)


def _set_repeats_aside(
    connection: duckdb.DuckDBPyConnection, file: BatchFile, output: _Output, keys: pa.Table, contract: Contract
) -> None:
    """Move the rows of customers who appear more than once from one file to the other."""
    repeats = columnar.resolve_repeats(connection, output.good, keys, contract)
    if not repeats.num_rows:
        return
    lines = repeats["_line"].to_numpy()
    raw = pa.concat_tables(file.raw(only=lines)).sort_by("_line")
    rules = pa.array([[rule] for rule in repeats["_rule"].to_pylist()], pa.list_(pa.string()))
    moved = _aside(raw.append_column("_failed", rules), output.batch)
    more, both, kept = (output.scratch / name for name in ("more.parquet", "both.parquet", "kept.parquet"))
    pq.write_table(moved, more)
    columnar.merge_by_line(connection, [output.aside, more], both)
    columnar.leave_out(connection, output.good, repeats, kept)
    both.replace(output.aside)
    kept.replace(output.good)


def _aside(rows: pa.Table, batch: str) -> pa.Table:
    name = pa.array([batch] * rows.num_rows, pa.string())
    return rows.select(["_line", "_raw", "_failed"]).append_column("_batch", name).cast(ASIDE)


def _in_order(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Map work over items, with a few items in progress at a time; results are in the order of the items."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > WORKERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
