"""Why customers are on a list: up to three columns that add most to the score of each, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from churn.contract import Contract
from churn.decision.scoring import LoadedScorer, Scorer
from churn.foundation.clients import Clients
from churn.foundation.parts import part_name
from churn.foundation.progress import report_progress
from churn.foundation.records import Snapshot
from churn.foundation.scratch import given, writing
from churn.foundation.spread import by_threads
from churn.scoring.contributions import EXACT, Contributions, explain_scores
from churn.scoring.observed_rates import ColumnGroups, in_words, observe_rates, read_training_rows
from churn.scoring.ranking import Flags
from churn.scoring.scored_rows import load_part

REASONS = ("reason_1", "reason_2", "reason_3")
LISTED = "listed"
_ROWS = 20_000
_SMALLEST = 1e-9
_ORDER = ("estimated", "rescaled", "trees", EXACT)  # the least exact first


@dataclass(frozen=True)
class ReasonSummary:
    """How the reasons of a list were found, their error, and which columns are the first reason of how many customers."""

    method: str
    error: float
    first: list[tuple[str, int]]

    def to_json(self) -> dict[str, Any]:
        """The summary as plain JSON."""
        return {"method": self.method, "error": self.error, "first": [list(pair) for pair in self.first]}


@dataclass(frozen=True)
class _Job:
    scorer: Scorer
    features: list[str]
    others: pd.DataFrame
    rates: dict[str, ColumnGroups]
    average: float
    event: str
    scratch: Path


def find_reasons(
    clients: Clients, scorer: Scorer, trained: Snapshot, files: Sequence[Path], listed: Flags, scratch: Path
) -> ReasonSummary | None:
    """Write the reasons of the customers within the capacity to the scratch folder, a file for each part; None if nobody is listed.

    The scratch folder has whether a customer is within the capacity, as an array of each part.

    Args:
        clients: data root, contract and limits.
        scorer: the version, opened.
        trained: the snapshot that it was trained on.
        files: Parquet files of customers.
        listed: whether a customer is within the capacity, shape (customers,).
        scratch: the folder.

    Raises:
        PartFault: a part of the snapshot is missing or has been changed.
    """
    if not listed.any():
        return None
    contract, rows = clients.contract, read_training_rows(clients, trained)
    features = _features_of(scorer, contract)
    rates = observe_rates(rows, contract, features)
    average = float(rows[contract.target.name].mean())
    job = _Job(scorer, features, _as_read(scorer, rows[features]), rates, average, contract.event, scratch)
    work = by_threads(partial(_explain_part, job))
    explaining = clients.spread.each(work, list(enumerate(files)))
    total = int(listed.sum())
    found = list(
        report_progress(explaining, "Finding reasons", total, "customers", size=lambda part: sum(part[0].values()))
    )
    first: Counter[str] = sum((counts for counts, _, _ in found), Counter())
    first.pop("", None)
    method = _least_exact({method for _, method, _ in found if method})
    return ReasonSummary(method, max(error for _, _, error in found), first.most_common())


class StoredReasons:
    """The reasons of a part, as `find_reasons` wrote them.

    Args:
        scratch: the folder that they were written to.
        number: of the part.
        listed: whether each customer of the part is within the capacity, shape (customers,).
    """

    def __init__(self, scratch: Path, number: int, listed: Flags) -> None:
        self._table = pq.read_table(given(_file(scratch, number))).combine_chunks() if listed.any() else None
        self._places = np.cumsum(listed) - 1

    def of(self, start: int, shown: Flags) -> list[pa.Array]:
        """The columns of reasons of the customers from `start` on; null for those who are not shown any.

        Args:
            start: the place of the first customer in the part.
            shown: whether each of these customers has reasons in the list; only those within the capacity may.
        """
        if self._table is None:
            return [pa.nulls(len(shown), pa.string()) for _ in REASONS]
        places = pa.array(self._places[start : start + len(shown)], mask=~shown)
        return [self._table[name].combine_chunks().take(places) for name in REASONS]


def _features_of(scorer: Scorer, contract: Contract) -> list[str]:
    known = list(scorer.inputs) if isinstance(scorer, LoadedScorer) else contract.feature_names
    return [name for name in known if name in contract.feature_names]


def _as_read(scorer: Scorer, rows: pd.DataFrame) -> pd.DataFrame:
    return scorer.read(rows) if isinstance(scorer, LoadedScorer) else rows


def _least_exact(methods: set[str]) -> str:
    return min(methods, key=_ORDER.index, default="")


def _explain_part(job: _Job, numbered: tuple[int, Path]) -> tuple[Counter[str], str, float]:
    """Write the reasons of a part.

    Returns:
        The number of customers by the column that is their first reason, and method and error; no method if nobody is listed.
    """
    number, file = numbered
    listed, at = load_part(job.scratch, LISTED, number), 0
    tables: list[pa.Table] = []
    first: Counter[str] = Counter()
    methods: set[str] = set()
    error = 0.0
    model = job.scorer.model if isinstance(job.scorer, LoadedScorer) else None
    for batch in pq.ParquetFile(given(file)).iter_batches(_ROWS, columns=job.features):
        here = listed[at : at + batch.num_rows]
        at += batch.num_rows
        if not here.any():
            continue
        rows = batch.filter(pa.array(here)).to_pandas()
        read = _as_read(job.scorer, rows)
        found = explain_scores(job.scorer, model, read, job.features, job.others)
        table, columns = _say(found, rows, job)
        tables.append(table)
        first.update(columns)
        methods.add(found.method)
        error = max(error, found.error)
    if tables:
        with writing(_file(job.scratch, number)) as target:
            pq.write_table(pa.concat_tables(tables), target)
    return first, _least_exact(methods), error


def _say(found: Contributions, rows: pd.DataFrame, job: _Job) -> tuple[pa.Table, list[str]]:
    """The reasons of some customers in words, and the column of the first reason of each, or nothing."""
    names = [name for name in job.features if name in job.rates]
    if not names:
        return pa.table({reason: pa.nulls(len(rows), pa.string()) for reason in REASONS}), [""] * len(rows)
    values = found.values[:, [job.features.index(name) for name in names]]
    order = np.argsort(-values, axis=1, kind="stable")[:, : len(REASONS)]
    counts = np.take_along_axis(values, order, axis=1) > _SMALLEST
    words = np.column_stack([_words(job.rates[name], rows[name], job) for name in names])
    said = np.take_along_axis(words, order, axis=1)
    said[~counts] = None
    columns = {
        reason: pa.array(said[:, place] if place < said.shape[1] else [None] * len(rows), pa.string())
        for place, reason in enumerate(REASONS)
    }
    firsts = [names[place] if counts[row, 0] else "" for row, place in enumerate(order[:, 0])]
    return pa.table(columns), firsts


def _words(groups: ColumnGroups, values: pd.Series, job: _Job) -> np.ndarray:
    phrases = [in_words(group, job.average, job.event) for group in groups.groups]
    unseen = f"{groups.column.name} has a value that no training customer had"
    return np.array([*phrases, unseen], object)[groups.group_of(values)]


def _file(scratch: Path, number: int) -> Path:
    return scratch / f"reasons-{part_name(number)}"
