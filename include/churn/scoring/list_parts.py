"""The rows of a list, in parts: who, how likely, which rank, what a contact may bring, and which group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from churn.contract import Contract
from churn.foundation import columnar
from churn.foundation.parts import WrittenPart, part_name
from churn.foundation.progress import report_progress
from churn.foundation.scratch import given, writing
from churn.foundation.spread import Spread, by_threads
from churn.intake.judged_rows import typed_columns
from churn.scoring.listed_reasons import LISTED, REASONS, StoredReasons
from churn.scoring.ranking import shares_of_rank
from churn.scoring.scored_rows import load_part
from churn.scoring.treatments import CONTACT, CONTROL, FIRST, GROUP, REST, UNTREATED, Treatments

PROBABILITY, RANK, EXPECTED, EARLIER = "probability", "rank", "expected_value", "earlier"
TRAINED_ON, LIST = "trained_on", "list_id"
_OWN = (PROBABILITY, RANK, "percentile", "decile", EXPECTED, GROUP, *REASONS, TRAINED_ON, LIST, FIRST)
_ROWS = 65_536
_ALL = 2.0**64


@dataclass(frozen=True)
class ListJob:
    """What writing a part of a list needs: the list, its campaign, the share of the control group, and where the arrays are.

    `continues` are the lists that the codes of earlier treatments number.
    """

    name: str
    campaign: str
    control_share: float
    customers: int
    contract: Contract
    salt: bytes
    scratch: Path
    memory: str
    continues: tuple[str, ...] = ()


@dataclass(frozen=True)
class ListPart:
    """A written part, and how many of its customers are in the two groups."""

    written: WrittenPart
    contact: int
    control: int


def key_column(contract: Contract) -> str:
    """The name of the column with the key: that of the contract, unless the list has another column of that name."""
    return _listed_name(contract.key.name)


def find_treated(
    spread: Spread, files: Sequence[Path], treatments: Treatments, contract: Contract
) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Whether each customer is left out, and the code of how each was treated before; both have shape (customers,)."""
    if treatments.nobody:
        rows = sum(pq.read_metadata(given(file)).num_rows for file in files)
        return np.zeros(rows, bool), np.full(rows, UNTREATED, np.int32)
    work = by_threads(partial(_treated_part, treatments, contract.key.name))
    found = list(spread.each(work, list(files)))
    return np.concatenate([excluded for excluded, _ in found]), np.concatenate([earlier for _, earlier in found])


def write_parts(spread: Spread, files: Sequence[Path], job: ListJob) -> list[ListPart]:
    """Write a list, a part for each file of customers, in their order.

    The scratch folder has probability, rank, expected value, whether a customer is within the capacity, and the earlier treatment,
    as arrays of each part.

    Args:
        spread: where the work runs.
        files: Parquet files of customers.
        job: the list.
    """
    writing = spread.each(by_threads(partial(_write_part, job)), list(enumerate(files)))
    return list(
        report_progress(writing, "Writing the list", job.customers, "customers", size=lambda part: part.written.rows)
    )


def list_schema(contract: Contract) -> pa.Schema:
    """The columns of a list."""
    types = dict(typed_columns(contract.without_target()))
    keys = [(key_column(contract), types[contract.key.name])]
    dates = [(_listed_name(contract.as_of.name), types[contract.as_of.name])] if contract.as_of else []
    return pa.schema(
        [
            *keys,
            *dates,
            (PROBABILITY, pa.float64()),
            (RANK, pa.int64()),
            ("percentile", pa.int8()),
            ("decile", pa.int8()),
            (EXPECTED, pa.float64()),
            (GROUP, pa.string()),
            *((name, pa.string()) for name in REASONS),
            (TRAINED_ON, pa.bool_()),
            (LIST, pa.string()),
            (FIRST, pa.string()),
        ]
    )


def _listed_name(name: str) -> str:
    return f"customer_{name}" if name in _OWN else name


def _treated_part(treatments: Treatments, key: str, file: Path) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    return treatments.of(pq.read_table(given(file), columns=[key])[key].combine_chunks())


def _write_part(job: ListJob, numbered: tuple[int, Path]) -> ListPart:
    number, file = numbered
    arrays = {name: load_part(job.scratch, name, number) for name in (PROBABILITY, RANK, EXPECTED, LISTED, EARLIER)}
    schema, target, at = list_schema(job.contract), job.scratch / f"list-{part_name(number)}", 0
    source = pq.ParquetFile(given(file))
    has_mark = columnar.TRAINED in source.schema_arrow.names
    wanted = [column.name for column in (job.contract.key, job.contract.as_of) if column]
    counts = dict.fromkeys((CONTACT, CONTROL, REST), 0)
    reasons = StoredReasons(job.scratch, number, arrays[LISTED])
    with (
        columnar.engine(job.memory, threads=1) as connection,
        writing(target) as own,
        pq.ParquetWriter(own, schema, compression="zstd", use_dictionary=[GROUP, *REASONS, LIST, FIRST]) as writer,
    ):
        for batch in source.iter_batches(_ROWS, columns=[*wanted, *([columnar.TRAINED] if has_mark else [])]):
            here = {name: values[at : at + batch.num_rows] for name, values in arrays.items()}
            at += batch.num_rows
            control = _draw_control(job, batch[job.contract.key.name], here[LISTED], here[EARLIER], connection)
            groups = np.where(here[LISTED], np.where(control, CONTROL, CONTACT), REST)
            for group, count in zip(*np.unique(groups, return_counts=True), strict=True):
                counts[str(group)] += int(count)
            shown = reasons.of(at - batch.num_rows, groups == CONTACT)
            columns = [
                *(batch[name] for name in wanted),
                here[PROBABILITY],
                here[RANK],
                shares_of_rank(here[RANK], job.customers, 100),
                shares_of_rank(here[RANK], job.customers, 10),
                here[EXPECTED],
                groups,
                *shown,
                batch[columnar.TRAINED] if has_mark else pa.nulls(batch.num_rows, pa.bool_()),
                pa.repeat(pa.scalar(job.name), batch.num_rows),
                _began_with(job, here[EARLIER], here[LISTED]),
            ]
            arrow = [column if isinstance(column, pa.Array) else pa.array(column) for column in columns]
            writer.write_batch(pa.record_batch(arrow, schema.names).cast(schema))
    return ListPart(WrittenPart.of(target), counts[CONTACT], counts[CONTROL])


def _began_with(job: ListJob, earlier: NDArray[np.int32], listed: NDArray[np.bool_]) -> pa.Array:
    """The list that the treatment of each customer began with: an earlier one, or this one; null for those in neither group."""
    lists = pa.array([job.name, *job.continues])  # the code of an untreated customer is 0
    return lists.take(pa.array(np.abs(earlier), mask=~listed))


def _draw_control(
    job: ListJob,
    keys: pa.Array,
    listed: NDArray[np.bool_],
    earlier: NDArray[np.int32],
    connection: duckdb.DuckDBPyConnection,
) -> NDArray[np.bool_]:
    """Whether each customer is left alone for comparison: by the earlier treatment, otherwise by a draw of the campaign."""
    control: NDArray[np.bool_] = earlier < UNTREATED
    new = listed & (earlier == UNTREATED)
    if new.any():
        drawn = columnar.draw_customers(connection, keys.filter(pa.array(new)), job.salt, f"control:{job.campaign}")
        control[new] = drawn < np.uint64(min(job.control_share * _ALL, _ALL - 2048))
    return control
