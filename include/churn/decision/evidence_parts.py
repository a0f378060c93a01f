"""Unseen customers of a snapshot, read and scored part by part; what the parts give is put together in their order."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from churn.contract import Contract
from churn.decision.comparison import Flags
from churn.decision.evidence_draw import draw_rows
from churn.decision.inference import Scores
from churn.decision.scoring import Scorer
from churn.decision.slices import slice_codes
from churn.errors import ChurnError
from churn.foundation import columnar
from churn.foundation.clients import Clients
from churn.foundation.progress import report_progress
from churn.foundation.records import Snapshot
from churn.foundation.scratch import discard, given, save_array, writing
from churn.foundation.spread import Spread, by_threads
from churn.learning.snapshot import CustomerPart
from churn.learning.unseen import Unseen, as_frame

log = logging.getLogger(__name__)
_ROWS = 200_000


class CannotScore(Exception):  # noqa: N818 -- it says what happened
    """A version raised an error when it scored rows; `what` is the name of the error."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass(frozen=True)
class DrawnCustomers:
    """The unseen customers of a snapshot that a comparison uses.

    - `share`: of them, see `evidence_draw`
    - `memory`: limit of the columnar engine of a worker
    - `scratch`: folder for what the parts give
    """

    unseen: Unseen
    salt: bytes
    share: float
    memory: str
    scratch: Path

    @classmethod
    def of(cls, clients: Clients, snapshot: Snapshot, share: float, scratch: Path) -> DrawnCustomers:
        """Find the customers.

        Raises:
            PartFault: a part of the snapshot is missing or has been changed.
        """
        spread = clients.spread
        unseen = Unseen.of(clients.storage, snapshot, clients.contract, scratch, spread)
        return cls(unseen, clients.sampling.salt, share, spread.engine_memory, scratch)

    @property
    def parts(self) -> list[tuple[int, CustomerPart]]:
        """The files with them, numbered."""
        return list(enumerate(self.unseen.parts))

    def pieces(self, part: CustomerPart) -> Iterator[pd.DataFrame]:
        """Those of a part, in frames of at most 200,000 rows."""
        batches = self.unseen.batches(part, self.scratch, _ROWS)
        if self.share >= 1:
            yield from (as_frame([batch]) for batch in batches)
            return
        with columnar.engine(self.memory, threads=1) as connection:
            for batch in batches:
                drawn = draw_rows(connection, batch, self.unseen.contract, self.salt, self.share)
                if drawn.num_rows:
                    yield as_frame([drawn])

    def file(self, what: str, number: int) -> Path:
        """The scratch file of what a part gives."""
        return self.scratch / f"{self.unseen.snapshot.snapshot[:12]}-{what}-{number:04d}"


def read_facts(customers: DrawnCustomers, treated: pa.Table | None, spread: Spread) -> list[pd.DataFrame]:
    """A few numbers of each customer: all that a comparison keeps of them besides their scores.

    Args:
        customers: the customers.
        treated: whom lists have contacted or left alone, as for `gather_evidence`.
        spread: where the parts are read.

    Returns:
        A frame for each part: `_customer`, `_label`, `_batch`, `_told` (the batch that said the label), `_arrived` (microseconds since 1970), `_weight` (see
        `contact_weights`), and the codes of each slice.
    """
    work = by_threads(partial(_facts_of_part, customers, treated))
    reading = spread.each(work, customers.parts)
    written = report_progress(reading, "Reading unseen customers", len(customers.parts), rows=lambda part: part.rows)
    return [_read_frame(part.file) for part in written]


def read_sample(customers: DrawnCustomers, sizes: list[int], chosen: Flags, spread: Spread) -> pd.DataFrame:
    """Some of the customers, with all columns.

    Args:
        customers: the customers.
        sizes: the number of customers of each part.
        chosen: which of them, shape (customers,).
        spread: where the parts are read.
    """
    flags = np.split(chosen, np.cumsum(sizes)[:-1])
    parts = [(number, part, flags[number]) for number, part in customers.parts if flags[number].any()]
    written = spread.each(by_threads(partial(_sample_of_part, customers)), parts)
    frames = [_read_frame(file) for file in written]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def score_customers(
    customers: DrawnCustomers, scorer: Scorer, only: NDArray[np.uint64] | None, spread: Spread, what: str
) -> Scores:
    """The scores of a version.

    Args:
        customers: the customers.
        scorer: the version.
        only: the hashes of some customers, or None for all.
        spread: where the parts are scored.
        what: the step, for the report of progress.

    Returns:
        Shape (customers,), in the order of `read_facts`.

    Raises:
        CannotScore: the version raised an error.
    """
    work = by_threads(partial(_scores_of_part, customers, scorer, only))
    scoring = spread.each(work, customers.parts)
    found = [np.zeros(0)]
    for part in report_progress(scoring, what, len(customers.parts), rows=lambda part: part.rows):
        if part.error:
            raise CannotScore(part.error)
        with given(part.file).open("rb") as stream:
            found.append(np.load(stream))
        discard(part.file)
    return np.concatenate(found)


@dataclass(frozen=True)
class _Given:
    """What a part gives: a scratch file and its rows, or the name of the error that the version raised."""

    file: Path
    rows: int
    error: str | None = None


def _facts_of_part(customers: DrawnCustomers, treated: pa.Table | None, numbered: tuple[int, CustomerPart]) -> _Given:
    number, part = numbered
    contract = customers.unseen.contract
    pieces = [_row_facts(piece, contract, treated) for piece in customers.pieces(part)]
    facts = pd.concat(pieces) if pieces else _no_facts(contract)
    return _Given(_write_frame(facts, customers.file("facts", number)), len(facts))


def _sample_of_part(customers: DrawnCustomers, chosen: tuple[int, CustomerPart, Flags]) -> Path:
    number, part, flags = chosen
    frames, at = [], 0
    for piece in customers.pieces(part):
        frames.append(piece[flags[at : at + len(piece)]])
        at += len(piece)
    return _write_frame(pd.concat(frames), customers.file("sample", number))


def _scores_of_part(
    customers: DrawnCustomers, scorer: Scorer, only: NDArray[np.uint64] | None, numbered: tuple[int, CustomerPart]
) -> _Given:
    number, part = numbered
    file, scores = customers.file("scores", number), [np.zeros(0)]
    for piece in customers.pieces(part):
        rows = piece if only is None else piece[piece["_customer"].isin(only)]
        if not len(rows):
            continue
        try:
            scores.append(np.asarray(scorer(rows), np.float64))
        except ChurnError:
            raise
        except Exception as error:  # a model can fail in any way; the reason is recorded, and the policy holds
            log.exception("A version cannot score the unseen customers.")
            return _Given(file, 0, type(error).__name__)
    with writing(file) as own:
        save_array(own, np.concatenate(scores))
    return _Given(file, sum(map(len, scores)))


def _write_frame(frame: pd.DataFrame, file: Path) -> Path:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with writing(file) as own, pa.ipc.new_file(own, table.schema) as writer:
        writer.write_table(table)
    return file


def _read_frame(file: Path) -> pd.DataFrame:
    with pa.ipc.open_file(given(file).read_bytes()) as reader:
        frame: pd.DataFrame = reader.read_all().to_pandas(date_as_object=False)
    discard(file)
    return frame


def _row_facts(piece: pd.DataFrame, contract: Contract, treated: pa.Table | None) -> pd.DataFrame:
    """A few numbers per row: all that is kept of it."""
    batches = piece["_batch"].to_numpy(np.int64)
    told = piece[columnar.LABEL_BATCH].fillna(0) if columnar.LABEL_BATCH in piece else batches
    arrived = piece["_arrived_at"].dt.tz_convert(None).to_numpy().astype("datetime64[us]").astype(np.int64)
    return pd.DataFrame(
        {
            "_customer": piece["_customer"].to_numpy(np.uint64),
            "_label": piece[contract.target.name].to_numpy(np.int64),
            "_batch": batches,
            "_told": np.asarray(told, np.int64),
            "_arrived": arrived,
            "_weight": contact_weights(piece, contract, treated),
            **slice_codes(piece, contract),
        }
    )


def contact_weights(piece: pd.DataFrame, contract: Contract, treated: pa.Table | None) -> Scores:
    """How many customers each row stands for: none if a list had contacted this one before it was known whether it would leave.

    That is so from the as-of date to the end of the horizon; without a horizon, on the day on which the row arrived.

    Args:
        piece: rows with `_customer` and `_arrived_at`, and the as-of column if the contract has one.
        contract: the data contract.
        treated: as for `gather_evidence`.

    Returns:
        Shape (rows,): 0 for a customer whom a list had contacted, the weight of one of a control group, and 1 for the others.
    """
    weights = np.ones(len(piece))
    if treated is None or not treated.num_rows:
        return weights
    begins = piece["_arrived_at"].dt.tz_convert(None).dt.normalize()
    if contract.as_of is not None and contract.horizon_days is not None:
        begins = pd.to_datetime(piece[contract.as_of.name])
    ends = begins + pd.Timedelta(days=contract.horizon_days or 0)
    customers = piece["_customer"].to_numpy()
    rows = pd.DataFrame(
        {"row": np.arange(len(piece)), "customer": customers, "begins": begins.to_numpy(), "ends": ends.to_numpy()}
    )
    touched = rows.merge(treated.to_pandas(), on="customer")
    within = (pd.to_datetime(touched["since"]) <= touched["ends"]) & (
        pd.to_datetime(touched["until"]) >= touched["begins"]
    )
    touched = touched[within].groupby("row").agg(contacted=("contacted", "any"), weight=("weight", "max"))
    weights[touched.index] = np.where(touched["contacted"], 0.0, np.maximum(touched["weight"], 1.0))
    return weights


def _no_facts(contract: Contract) -> pd.DataFrame:
    numbers = {name: pd.Series(dtype=np.int64) for name in ("_label", "_batch", "_told", "_arrived")}
    codes = {by.column: pd.Series(dtype=np.int8) for by in contract.slices}
    customers, weights = pd.Series(dtype=np.uint64), pd.Series(dtype=np.float64)
    return pd.DataFrame({"_customer": customers, **numbers, "_weight": weights, **codes})
