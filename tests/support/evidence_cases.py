"""Contests for tests: scored customers of two or three models, and what the policy knows besides."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from churn.decision.comparison import Case, Comparison, Evidence, History, compare
from churn.decision.policy_file import Policy
from churn.decision.slices import Slicing
from support.basics import ROOT

NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)
TEXT = (ROOT / "include/churn/promotion_policy.yaml").read_text()
POLICY = Policy.read(TEXT, "promotion_policy.yaml")
COUNTRY = Slicing("Geography", ("France", "Germany", "Spain"))


def draw_scores(
    rows: int = 3000, quality: float = 1.8, noise: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and scores on the scale of the truth: noise in the logit makes them worse."""
    rng = np.random.default_rng(seed)
    signal = quality * rng.normal(size=rows) - 1.8
    y = (rng.random(rows) < 1 / (1 + np.exp(-signal))).astype(np.int64)
    shrunk = 1 / (1 + noise**2 / quality**2)
    noisy = (signal + 1.8 + noise * np.random.default_rng(seed + 1_000_003).normal(size=rows)) * shrunk - 1.8
    return y, 1 / (1 + np.exp(-noisy))


def make_evidence(
    y: np.ndarray, challenger: np.ndarray, champion: np.ndarray | None = None, **changes: Any
) -> Evidence:
    """All rows count, none is from a suspect batch, nobody is in a group; the anchor is the champion."""
    rows = len(y)
    made = Evidence(
        customers=np.arange(rows, dtype=np.uint64),
        labels=y,
        batches=np.ones(rows, np.int64),
        codes={},
        used=np.ones(rows, bool),
        current=np.ones(rows, bool),
        undisputed=np.ones(rows, bool),
        challenger=challenger,
        champion=champion,
        anchor=champion,
    )
    return replace(made, **changes)


def make_case(champion: int | None = 1, days: float = 5, history: dict[str, Any] | None = None, **changes: Any) -> Case:
    """Version 2 against version 1, which is also the anchor."""
    past = History(NOW, champion_days=days if champion else None)
    return replace(Case(2, champion, champion, "snapshot", replace(past, **(history or {}))), **changes)


def make_comparison(
    champion_noise: float | None = None,
    rows: int = 3000,
    challenger_noise: float = 0.0,
    quality: float = 1.8,
    case: Case | None = None,
    **changes: Any,
) -> Comparison:
    """A comparison of two models that differ by noise; without a champion where that has none."""
    y, mine = draw_scores(rows, quality, challenger_noise)
    theirs = None if champion_noise is None else draw_scores(rows, quality, champion_noise, 0)[1]
    if theirs is not None and challenger_noise and champion_noise:
        theirs = draw_scores(rows, quality, champion_noise)[1]
    case = case or make_case(None if theirs is None else 1)
    return compare(case, make_evidence(y, mine, theirs, **changes), (), 50)


class ByRows:
    """A model of which the score tells which row it saw; it fails on customers of a higher number."""

    def __init__(self, fails_above: int = 10**9) -> None:
        self.fails_above = fails_above

    def __call__(self, rows: pd.DataFrame) -> np.ndarray:
        numbers = rows["CustomerId"].to_numpy()
        if (numbers > self.fails_above).any():
            raise ZeroDivisionError
        return np.asarray(numbers / 1e9)
