"""A candidate is fitted in a process of its own, which is ended where it takes too much."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from churn.candidate import Context
from churn.contracts.bank import BANK_CHURN
from churn.foundation.examples import example_rows, model_input
from churn.learning.candidate_checks import CandidateUnusable
from churn.learning.candidate_module import STANDARD
from churn.learning.fitting import CrossValidate, Setup
from churn.learning.fitting_process import CandidateFailed, FittingProcess, Limits

WIDE = Limits(memory=4 * 10**9, seconds=300)
BAD_MODULE = """
import os, subprocess, sys, time
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

def drop_texts(rows):
    return rows.select_dtypes("number")

def base(work):
    return make_pipeline(FunctionTransformer(work), FunctionTransformer(drop_texts), LogisticRegression())

def hungry(rows):
    hungry.kept = [np.ones(10_000_000) for _ in range(10)]
    time.sleep(30)
    return rows

def slow(rows):
    time.sleep(30)
    return rows

def forking(rows):
    subprocess.Popen(["sleep", "31.25"])
    subprocess.Popen(["sleep", "31.25"], start_new_session=True)
    time.sleep(30)
    return rows

def broken(rows):
    raise ValueError("no such thing")

def gone(rows):
    os._exit(7)

def leaving(rows):
    sys.exit(6)

def closing(rows):
    os.closerange(3, 60_000)
    time.sleep(30)
    return rows

def all_of_them(contract, context):
    return {work.__name__: base(work) for work in (hungry, slow, forking, broken, gone, leaving, closing)}
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rows") / "rows.parquet"
    frame = model_input(BANK_CHURN, example_rows(BANK_CHURN, 300, seed=1))
    frame.assign(Exited=np.random.default_rng(1).integers(0, 2, 300)).to_parquet(file, index=False)
    return file


@pytest.fixture(scope="module", autouse=True)
def own_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("module")
    (folder / "bad_candidates.py").write_text(BAD_MODULE)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def _ask(rows: Path, name: str, limits: Limits, reference: str = "bad_candidates:all_of_them") -> FittingProcess:
    process = FittingProcess(Setup(reference, name, BANK_CHURN, Context(300, 0), rows), limits)
    try:
        process.answer = process.ask(CrossValidate({}, 300, 3, 3, 1))  # type: ignore[attr-defined]
    finally:
        process.close()
    return process


def test_a_standard_candidate_is_fitted_there(rows: Path) -> None:
    """Every row has a score from a model that was not fitted on it."""
    process = _ask(rows, "boosted_trees", WIDE, STANDARD)
    answer = process.answer  # type: ignore[attr-defined]
    assert answer.scores.shape == (300,)
    assert np.isfinite(answer.scores).all()
    assert answer.iterations >= 1


@pytest.mark.parametrize(
    ("name", "limits", "reason"),
    [
        (
            "hungry",
            Limits(400_000_000, 300),
            r"hungry took [\d,]+ MB of memory, more than 400 MB.*CHURN_CANDIDATE_MEMORY",
        ),
        ("slow", Limits(4 * 10**9, 4), r"slow took more than 4 s and was ended.*CHURN_CANDIDATE_TIMEOUT"),
        ("forking", Limits(4 * 10**9, 4), r"forking took more than 4 s and was ended"),
        ("broken", WIDE, "The candidate broken failed: ValueError: no such thing"),
        ("gone", WIDE, "The candidate gone ended its process with exit status 7"),
        ("leaving", WIDE, "The candidate leaving failed: SystemExit: 6"),
        ("closing", WIDE, "The candidate closing closed the pipe through which it answers, and was ended"),
        (
            "absent",
            WIDE,
            "Candidate absent cannot be used: the function returned no such candidate when it was called again",
        ),
    ],
)
def test_a_candidate_that_fails_is_named_with_the_reason_and_its_process_ends(
    rows: Path, name: str, limits: Limits, reason: str
) -> None:
    before = set(psutil.Process().children())
    with pytest.raises((CandidateFailed, CandidateUnusable), match=reason):
        _ask(rows, name, limits)
    assert set(psutil.Process().children()) <= before
    assert os.getpid() not in {child.pid for child in before}
    assert not [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["sleep", "31.25"]]
