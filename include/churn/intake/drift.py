"""Measures how far the columns of a batch are from the accepted history. Drift is reported and never rejects a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from markupsafe import Markup
from numpy.typing import NDArray
from scipy import stats
from scipy.stats.contingency import association

from churn.contract import MAX_LEVELS, Column, Contract, Kind
from churn.foundation.records import Drift
from churn.foundation.svg import Mark, draw_intervals
from churn.intake.history import History

SAMPLE = 50_000
BINS = 10
BY_CHANCE = 0.001
_ABSENT, _OTHER = "(absent)", "(other)"

Counts = NDArray[np.int64]


def drifting_columns(contract: Contract) -> tuple[str, ...]:
    """The columns of which drift is measured: the features and the target; with a horizon, the features, since labels come later."""
    compared = contract.attributes if contract.horizon_days is not None else (*contract.attributes, contract.target)
    return tuple(column.name for column in compared if column.kind is not Kind.DATE)


def measure_drift(history: History, contract: Contract, limit: float) -> list[Drift]:
    """Compare samples of a batch and of the accepted history, of about `SAMPLE` rows each, which are always the same ones.

    Args:
        history: the accepted history, and its comparison with the batch.
        contract: the data contract.
        limit: the population stability index above which a column has drifted. In small batches, the value that chance alone
            may reach applies if it is larger.
    """
    names = set(drifting_columns(contract)) & set(history.compared.columns)
    columns = [column for column in (*contract.attributes, contract.target) if column.name in names]
    return compare_columns(columns, history.compared.before, history.compared.now, limit)


def compare_columns(columns: Sequence[Column], before: pa.Table, now: pa.Table, limit: float) -> list[Drift]:
    """Compare two samples of rows, column by column; empty if one of them has no rows.

    Args:
        columns: the columns to compare, which both samples have.
        before: the earlier rows.
        now: the later ones.
        limit: as in `measure_drift`.
    """
    if not now.num_rows or not before.num_rows:
        return []
    return [_compare(column, before[column.name], now[column.name], limit) for column in columns]


def stability_index(before: Counts, now: Counts) -> float:
    """Population stability index of two histograms over the same bins, each of shape (bins,).

    sum((q - p) ln(q / p)); half a row is added to every bin, so that an empty one is not infinite.
    """
    p = (before + 0.5) / (before.sum() + 0.5 * len(before))
    q = (now + 0.5) / (now.sum() + 0.5 * len(now))
    return float(((q - p) * np.log(q / p)).sum())


def index_by_chance(before: int, now: int, bins: int) -> float:
    """The index that is exceeded once in a thousand times if nothing has changed.

    It is then distributed as chi-squared(bins - 1) times (1/n + 1/m): Yurdakul, Statistical Properties
    of Population Stability Index (2018).
    """
    return float(stats.chi2.isf(BY_CHANCE, max(bins - 1, 1)) * (1 / before + 1 / now))


def draw_drift(drift: Sequence[Drift], name: str = "drift") -> Markup:
    """Draw the population stability index of each column, with its limit as a dashed tick.

    Args:
        drift: the columns.
        name: distinguishes several charts on one page.
    """
    marks = [
        Mark(
            column.column, f"{column.psi:.3f}", "worse" if column.drifted else "better", column.psi, margin=column.bound
        )
        for column in drift
    ]
    reading = (
        "Population stability index of each column, compared with the accepted history. The dashed tick is its limit."
    )
    return draw_intervals(name, "Drift", reading, marks)


def _compare(column: Column, before: pa.ChunkedArray, now: pa.ChunkedArray, limit: float) -> Drift:
    if column.numeric:
        old, new = (part.to_numpy(zero_copy_only=False).astype("float64") for part in (before, now))
        counts = _histograms(old, new)
        measure, value = "kolmogorov_smirnov", _distance(old[~np.isnan(old)], new[~np.isnan(new)])
        new_categories: list[str] = []
    else:
        levels = None if column.categories else column.max_levels or MAX_LEVELS
        counts, categories = _frequencies(before, now, levels)
        measure, value = "cramers_v", float(association(counts, method="cramer")) if counts.shape[1] > 1 else 0.0
        fresh = [name for name, (was, came) in zip(categories, counts.T, strict=True) if came and not was]
        new_categories = fresh if column.categories else []  # any other text may be a person's
    psi = stability_index(*counts)
    bound = max(limit, index_by_chance(len(before), len(now), counts.shape[1]))
    return Drift(column.name, psi, bound, measure, value, psi > bound, new_categories, len(before))


def _distance(before: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    return float(stats.ks_2samp(before, now, method="asymp").statistic) if len(before) and len(now) else 0.0


def _histograms(before: NDArray[np.float64], now: NDArray[np.float64]) -> Counts:
    """Count rows in the deciles of `before`, and missing ones; shape (2, bins), without bins that are empty in both."""
    present = before[~np.isnan(before)]
    edges = np.unique(np.quantile(present, np.arange(1, BINS) / BINS)) if len(present) else np.array([])
    bins = len(edges) + 2

    def counts(values: NDArray[np.float64]) -> Counts:
        at = np.where(np.isnan(values), bins - 1, np.searchsorted(edges, values))
        return np.bincount(at.astype(np.int64), minlength=bins)

    both = np.stack([counts(before), counts(now)])
    return both[:, both.any(axis=0)]


def _frequencies(before: pa.ChunkedArray, now: pa.ChunkedArray, levels: int | None) -> tuple[Counts, list[str]]:
    """Count the rows of each text; of a text without a list of categories, only the most frequent ones are told apart."""
    counts = [_count(part) for part in (before, now)]
    if levels is not None:
        kept = set(sorted(counts[0], key=lambda text: (-counts[0][text], text))[:levels])
        counts = [_merged(part, kept) for part in counts]
    categories = sorted(set().union(*counts))
    return np.array([[part.get(name, 0) for name in categories] for part in counts]), categories


def _count(values: pa.ChunkedArray) -> dict[str, int]:
    return {pair["values"] or _ABSENT: pair["counts"] for pair in values.value_counts().to_pylist()}


def _merged(counts: dict[str, int], kept: set[str]) -> dict[str, int]:
    merged = {text: count for text, count in counts.items() if text in kept}
    rest = sum(counts.values()) - sum(merged.values())
    return merged | ({_OTHER: rest} if rest else {})
