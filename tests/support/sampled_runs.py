"""Nights like those of the sample, from any seed, decided without a server: the generator, the training, the policy."""

from __future__ import annotations

import hashlib
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from churn.contracts.bank import BANK_CHURN
from churn.decision.comparison import compare
from churn.decision.policy import Decision, decide
from churn.decision.slices import slice_codes, slicings
from churn.foundation.examples import model_input
from churn.learning.fitting_process import Limits
from churn.learning.search import plan_search
from churn.learning.selection import SearchSpec, select_model
from churn.learning.snapshot import HOLDOUT, TRAINING
from churn.sample.generator import Night, make_night
from support.basics import QUICK_CANDIDATES
from support.evidence_cases import POLICY, make_case, make_evidence

SPEC = SearchSpec(QUICK_CANDIDATES, folds=3, seed=20, max_rows=100_000, limits=Limits(10**10, 600))
NEW = "ab" * 32


def decide_nights(seed: int) -> list[Decision]:
    """A first night, one with a new kind of customer, more of the same, and one that is turned round."""
    nights = (
        Night(5000, 20_000_001, 1000 + seed, older_share=0.008),
        Night(7000, 20_100_001, 2000 + seed, older_share=0.5),
        Night(1500, 20_200_001, 3000 + seed, older_share=0.25),
        Night(3000, 20_300_001, 4000 + seed, older_share=0.25, turned_round=True),
    )
    champion, decisions = None, []
    for number in range(1, len(nights) + 1):
        rows = pd.concat(
            [
                pd.read_csv(io.StringIO(make_night(BANK_CHURN, night))).assign(_night=at)
                for at, night in enumerate(nights[:number])
            ]
        )
        challenger = _train(rows)
        decisions.append(_decide(rows, challenger, champion, number - 1))
        champion = challenger if decisions[-1].verdict == "promote" else champion
    return decisions


def _decide(rows: pd.DataFrame, challenger: Any, champion: Any, tonight: int) -> Decision:
    unseen = rows[_buckets(rows) < HOLDOUT.stop]
    inputs = model_input(BANK_CHURN, unseen)
    mine, theirs = (model and model.predict_proba(inputs)[:, 1] for model in (challenger, champion))
    evidence = make_evidence(
        unseen["Exited"].to_numpy(np.int64),
        mine,
        theirs,
        codes=slice_codes(unseen, BANK_CHURN),
        undisputed=(unseen["_night"] != tonight).to_numpy(),
    )
    case = make_case(None) if champion is None else make_case(suspects=[NEW])
    return decide(compare(case, evidence, slicings(BANK_CHURN), POLICY.slices.min_each_class), POLICY)


def _train(rows: pd.DataFrame) -> Any:
    seen = rows[_buckets(rows) >= TRAINING.start]
    features, target = model_input(BANK_CHURN, seen), seen["Exited"].to_numpy()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.parquet"
        features.assign(Exited=target).to_parquet(file, index=False)
        plan = plan_search(len(target), SPEC.max_rows)
        return select_model(file, target, plan, BANK_CHURN, SPEC).model


def _buckets(rows: pd.DataFrame) -> np.ndarray:
    digests = (hashlib.sha256(str(key).encode()).hexdigest() for key in rows["CustomerId"])
    return np.array([int(digest[:8], 16) % 100 for digest in digests])
