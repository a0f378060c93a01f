"""The judged rows of a batch: the files of each part, their columns, and the counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from churn.contract import Contract, Kind
from churn.foundation.parts import WrittenPart
from churn.foundation.scratch import given
from churn.intake.divided_file import DividedFile
from churn.intake.file_part import FilePart
from churn.intake.rule_words import EXAMPLE_LINES, BrokenRule

ASIDE = pa.schema(
    [("_line", pa.int64()), ("_raw", pa.string()), ("_failed", pa.list_(pa.string())), ("_batch", pa.string())]
)
EMPTY = ASIDE.empty_table()


@dataclass(frozen=True)
class TypedPart:
    """A part whose rows were judged one by one, before customers who appear more than once are quarantined.

    `rows` of them break no rule, and `unlabelled` wait for a label.
    """

    part: FilePart
    rows: int
    arrived: int
    unlabelled: int


@dataclass(frozen=True)
class JudgedPart:
    """The judged rows of one part: the files of good and quarantined rows, the counts, and the rules that rows broke."""

    part: FilePart
    good: WrittenPart
    aside: WrittenPart
    arrived: int
    unlabelled: int
    events: int
    rules: tuple[BrokenRule, ...]


@dataclass(frozen=True)
class Judged:
    """A batch whose rows have been judged: Parquet files for each part, and the counts.

    `unlabelled` of the quarantined rows wait for a label and break no other rule.
    """

    parts: tuple[JudgedPart, ...]

    @property
    def good(self) -> list[Path]:
        """The files of good rows on this machine, in the order of the parts."""
        return [given(part.good.file) for part in self.parts]

    @property
    def aside(self) -> list[Path]:
        """The files of quarantined rows on this machine, in the order of the parts."""
        return [given(part.aside.file) for part in self.parts]

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
    def rules(self) -> list[BrokenRule]:
        """The rules that rows broke, with their number and the first of their lines; the most frequent first."""
        counts, lines = Counter[str](), defaultdict[str, list[int]](list)
        for rule, count, first in (broken for part in self.parts for broken in part.rules):
            counts[rule] += count
            lines[rule] += first
        frequent = sorted(counts.items(), key=lambda counted: (-counted[1], counted[0]))
        return [(rule, count, sorted(lines[rule])[:EXAMPLE_LINES]) for rule, count in frequent]

    @property
    def rejected_share(self) -> float:
        """Share of faulty rows among those that have a label."""
        labelled = self.arrived - self.unlabelled
        return (self.set_aside - self.unlabelled) / labelled if labelled else 0.0


@dataclass(frozen=True)
class JudgingJob:
    """What judging a part of a batch needs; it can be sent to another process."""

    file: DividedFile
    batch: str
    contract: Contract
    scratch: Path
    memory: str

    def path(self, kind: str, part: FilePart) -> Path:
        """The scratch file of a part."""
        return self.scratch / f"{kind}-{part.number:04d}.parquet"

    def typed(self, part: FilePart) -> Path:
        """The scratch file with the rows of a part that break no rule, in Arrow's format, which is read without a copy."""
        return self.scratch / f"typed-{part.number:04d}.arrow"


def accepted_schema(contract: Contract) -> pa.Schema:
    """The columns of a file of accepted rows: those of the contract, the line, and the number of the batch."""
    return pa.schema([*typed_columns(contract), ("_line", pa.int64()), ("_batch", pa.int64())])


def typed_columns(contract: Contract) -> list[tuple[str, pa.DataType]]:
    """The columns of a contract with their types."""
    types = {Kind.INTEGER: pa.int64(), Kind.NUMBER: pa.float64(), Kind.TEXT: pa.string(), Kind.DATE: pa.date32()}
    return [(column.name, types[column.kind]) for column in contract.columns]


def batch_number(batch: str) -> int:
    """The hash of a batch as a number that fits into an integer column."""
    return int(batch[:15], 16)


def find_broken_rules(aside: Path) -> tuple[BrokenRule, ...]:
    """The rules that the quarantined rows of a file broke, with their number and the first of their lines."""
    rows = pq.read_table(aside, columns=["_line", "_failed"]).combine_chunks()
    failed = rows["_failed"]
    each = pa.table({"rule": pc.list_flatten(failed), "line": rows["_line"].take(pc.list_parent_indices(failed))})
    return tuple(
        (str(rule), found.num_rows, found["line"].sort()[:EXAMPLE_LINES].to_pylist())
        for rule in each["rule"].unique().to_pylist()
        for found in [each.filter(pc.equal(each["rule"], rule))]
    )


def count_events(rows: pa.Table | pa.RecordBatch, contract: Contract) -> int:
    """The number of good rows with the event; 0 under a contract without a target."""
    return int(pc.sum(rows[contract.target.name]).as_py() or 0) if contract.labelled else 0


def good_writer(file: Path, contract: Contract) -> pq.ParquetWriter:
    """Open a file of accepted rows for writing."""
    texts = [column.name for column in contract.columns if column.kind is Kind.TEXT]
    return pq.ParquetWriter(
        file,
        accepted_schema(contract),
        compression="snappy",
        use_dictionary=[*texts, "_batch"],
        write_statistics=["_line"],  # no other column is searched by range
    )


def quarantine_columns(rows: pa.Table, batch: str) -> pa.Table:
    """The columns of a file of quarantined rows, from `_line`, `_raw` and `_failed`."""
    name = pa.array([batch] * rows.num_rows, pa.string())
    return rows.select(["_line", "_raw", "_failed"]).append_column("_batch", name).cast(ASIDE)
