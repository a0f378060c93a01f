"""Scores customers part by part: probabilities and values go to scratch files, which later steps read by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from churn.contract import Contract
from churn.decision.comparison import find_invalid_scores
from churn.decision.scoring import Scorer, Unscorable
from churn.errors import ChurnError
from churn.foundation.progress import report_progress
from churn.foundation.scratch import given, save_array, writing
from churn.foundation.spread import Spread, by_threads
from churn.scoring.ranking import Numbers
from churn.scoring.scoring_policy import Value

_ROWS = 65_536
_FEW = 100
"""So few customers may all have one score, such as that of one leaf of a tree."""


class ValueUnusable(ChurnError):  # noqa: N818 -- names the state
    """The column that says what customers are worth cannot be used."""


@dataclass(frozen=True)
class Scored:
    """What is known of each customer, in the order of the files.

    - `probability`: that the customer leaves, shape (customers,)
    - `value`: of a kept customer, shape (customers,), or one number for all
    - `sizes`: the customers of each file
    """

    probability: Numbers
    value: Numbers | float
    sizes: tuple[int, ...]


def score_customers(
    spread: Spread,
    files: Sequence[Path],
    version: int,
    scorer: Scorer,
    contract: Contract,
    value: Value,
    scratch: Path,
) -> Scored:
    """Score every customer.

    Args:
        spread: where the work runs.
        files: Parquet files of customers.
        version: the number of the version, for messages.
        scorer: the version, opened.
        contract: the data contract.
        value: what a kept customer is worth.
        scratch: the folder for scores.

    Raises:
        Unscorable: the version gives scores that are not probabilities.
        ValueUnusable: a customer has no value, or one that is negative or not a number.
    """
    wanted = list(dict.fromkeys([*contract.feature_names, *([value.column] if value.column else [])]))
    work = by_threads(partial(_score_part, scorer, wanted, value, scratch))
    scoring = spread.each(work, list(enumerate(files)))
    rows = sum(pq.read_metadata(given(file)).num_rows for file in files)
    what = f"Scoring customers with version {version}"
    sizes = tuple(report_progress(scoring, what, rows, "customers", rows=lambda size: size, size=lambda size: size))
    probability = _joined(scratch, "probability", len(files))
    invalid = find_invalid_scores(version, probability, rows, constant=rows <= _FEW)
    if invalid:
        raise Unscorable(invalid)
    if value.column is None:
        return Scored(probability, float(value.amount or 0.0), sizes)
    values = _joined(scratch, "value", len(files))
    unusable = ~np.isfinite(values) | (values < 0)
    if unusable.any():
        raise ValueUnusable(
            f"{int(unusable.sum()):,} of {rows:,} customers have no {value.column}, or one that is negative or not a number, so it cannot say "
            "what they are worth. No list was made, and the current one is kept. Fix the file, or choose another column or an amount in the "
            "scoring policy."
        )
    return Scored(probability, values, sizes)


def part_file(scratch: Path, kind: str, number: int) -> Path:
    """The scratch file with an array of the customers of a part."""
    return scratch / f"{kind}-{number:04d}.npy"


def save_by_part(scratch: Path, kind: str, values: np.ndarray, sizes: Sequence[int]) -> None:
    """Save an array over all customers as one file for each part."""
    for number, part in enumerate(np.split(values, np.cumsum(sizes)[:-1])):
        _save(part_file(scratch, kind, number), part)


def _joined(scratch: Path, kind: str, parts: int) -> Numbers:
    return np.concatenate([np.zeros(0), *(load_part(scratch, kind, number) for number in range(parts))])


def load_part(scratch: Path, kind: str, number: int) -> np.ndarray:
    """An array of the customers of a part."""
    loaded: np.ndarray = np.load(given(part_file(scratch, kind, number)))
    return loaded


def _save(file: Path, values: np.ndarray) -> None:
    with writing(file) as target:
        save_array(target, values)


def _score_part(scorer: Scorer, wanted: Sequence[str], value: Value, scratch: Path, numbered: tuple[int, Path]) -> int:
    """Score the customers of a file; returns their number."""
    number, file = numbered
    scores: list[Numbers] = [np.zeros(0)]
    values: list[Numbers] = [np.zeros(0)]
    for batch in pq.ParquetFile(given(file)).iter_batches(_ROWS, columns=list(wanted)):
        if not batch.num_rows:
            continue
        scores.append(np.asarray(scorer(batch.to_pandas()), np.float64))
        if value.column:
            column = batch[value.column].cast(pa.float64()).to_numpy(zero_copy_only=False)
            values.append(column * value.rate)
    _save(part_file(scratch, "probability", number), np.concatenate(scores))
    if value.column:
        _save(part_file(scratch, "value", number), np.concatenate(values))
    return sum(map(len, scores))
