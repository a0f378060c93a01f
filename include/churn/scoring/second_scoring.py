"""Scores a sample of a list again, by the registered model in another process and by its image: a list that differs is not published."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from churn.contract import Contract
from churn.decision.scoring import Scorer, open_scorer
from churn.errors import ChurnError
from churn.foundation import columnar
from churn.foundation.clients import Clients
from churn.release.image_scoring import image_scorer
from churn.scoring.ranking import Numbers
from churn.scoring.scored_rows import Scored

TOLERANCE = 1e-12
"""Largest difference of two scores of a customer that still counts as equal."""
IN_ANOTHER_PROCESS, BY_IMAGE = "in another process", "in its image"
_EXTREMES, _RANDOM, _SEED = 20, 500, 18
_MOST_LEVELS = 50


class SecondScoringDiffers(ChurnError):  # noqa: N818 -- names the state
    """The registered model gives other scores in another process or in its image."""


@dataclass(frozen=True)
class Sample:
    """Some customers of a list: their places in it, their rows, and their scores."""

    positions: NDArray[np.int64]
    rows: pd.DataFrame
    scores: NDArray[np.float64]


def draw_sample(files: Sequence[Path], scored: Scored, contract: Contract, memory_limit: str) -> Sample:
    """Choose the customers with the most extreme scores, one for each category of each text, and 500 at random.

    Args:
        files: Parquet files of customers.
        scored: their scores.
        contract: names the features.
        memory_limit: of the columnar engine.
    """
    customers = len(scored.probability)
    drawn = np.random.default_rng(_SEED).choice(customers, min(_RANDOM, customers), replace=False)
    chosen = {*drawn.tolist(), *_extremes(scored.probability), *_extremes(-scored.probability)}
    texts = [column.name for column in contract.features if not column.numeric]
    starts = np.cumsum([0, *scored.sizes])
    chosen |= _one_of_each(files, texts, starts, memory_limit)
    positions = np.array(sorted(chosen), np.int64)
    tables = []
    for file, start, end in zip(files, starts, starts[1:], strict=False):
        here = positions[(positions >= start) & (positions < end)] - start
        if len(here):
            tables.append(pq.read_table(file, columns=contract.feature_names).take(pa.array(here)))
    return Sample(positions, pa.concat_tables(tables).to_pandas(), scored.probability[positions])


@dataclass(frozen=True)
class Other:
    """Another scorer of the same version, and who it is, as the end of a sentence."""

    by: str
    scorer: Scorer


@contextmanager
def other_scorers(version: int, clients: Clients) -> Iterator[Callable[[], list[Other]]]:
    """Start the registered model in another process, and the published image if it is on this machine, while this process goes on.

    Yields:
        A function that waits for both and returns them. It raises what `open_scorer` and `image_scorer` raise.
    """
    with ExitStack() as opened, ThreadPoolExecutor(2) as starter:
        apart = open_scorer(version, clients.ledger, clients.tracking, clients.environments, apart=True)
        scorers = [apart, image_scorer(version, clients)]
        starting = [starter.submit(opened.enter_context, scorer) for scorer in scorers]

        def wait() -> list[Other]:
            started = zip((IN_ANOTHER_PROCESS, BY_IMAGE), starting, strict=True)
            found = [(by, scorer.result()) for by, scorer in started]
            return [Other(by, scorer) for by, scorer in found if scorer is not None]

        yield wait


def compare_scores(sample: Sample, version: int, others: Sequence[Other]) -> dict[str, float]:
    """Compare the scores of a sample with those of other scorers; returns the largest difference of each.

    Raises:
        SecondScoringDiffers: one is too large.
    """
    return {other.by: require_equal(sample, version, other) for other in others}


def require_equal(sample: Sample, version: int, other: Other) -> float:
    """Compare the scores of a sample with those of another scorer; returns the largest difference.

    Raises:
        SecondScoringDiffers: it is too large.
    """
    again = np.asarray(other.scorer(sample.rows), np.float64)
    difference = float(np.abs(again - sample.scores).max()) if len(again) == len(sample.scores) else np.inf
    if not difference <= TOLERANCE:
        raise SecondScoringDiffers(
            f"Of {len(sample.scores)} customers that were scored again by the registered model of version {version} {other.by}, the "
            f"scores differ by up to {difference:.3g} (limit {TOLERANCE:g}). No list was published, and the current one is kept. Run the step again; "
            "if it fails again, roll back, and report it."
        )
    return difference


def _extremes(scores: Numbers) -> list[int]:
    """The places of the lowest scores."""
    count = min(_EXTREMES, len(scores))
    places: list[int] = np.argpartition(scores, count - 1)[:count].tolist()
    return places


def _one_of_each(files: Sequence[Path], texts: Sequence[str], starts: NDArray[np.int64], memory_limit: str) -> set[int]:
    """The place of the first customer with each value of each text, as far as there are few values."""
    found: dict[tuple[str, str | None], int] = {}
    with columnar.engine(memory_limit) as connection:
        for file, start in zip(files, starts, strict=False):
            for name in texts:
                for value, row in columnar.first_rows_of_values(connection, file, name, _MOST_LEVELS):
                    found.setdefault((name, value), int(start) + row)
    return set(found.values())
