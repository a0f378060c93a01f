"""`make bench WHAT=decision`: how long the evidence of a decision takes, and how much memory. Prints ratios; asserts nothing.

The closed forms are compared with a bootstrap as it is usually written, and at two million rows against the two calls
that a gate without any evidence would make. What is measured for memory is a process of its own.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from rich.table import Table
from scipy.special import expit

from churn.contracts.bank import BANK_CHURN
from churn.decision.comparison import Case, Comparison, Evidence, History, compare
from churn.decision.slices import slicings
from churn.pipeline.workspace import Workspace
from reporting import Figure, console, say

ROUNDS = 3
NIGHT, MILLIONS = 2000, 2_000_000
RESAMPLES, RESAMPLES_RUN = 2000, 100
EACH_CLASS = 50
NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)
SHARES = {
    "Geography": (0.5, 0.25, 0.25),
    "Gender": (0.455, 0.545),
    "Age": (0.2, 0.57, 0.18, 0.05),
    "NumOfProducts": (0.51, 0.457, 0.027, 0.006),
    "IsActiveMember": (0.485, 0.515),
}
"""Of the groups of each slicing, as in the real file."""


@dataclass(frozen=True)
class Measured:
    """Seconds of the work, and GB: the peak of its process, and what it had before the work began."""

    seconds: float
    peak: float
    before: float


def main() -> None:
    """Measure and print; with a name and a folder, be the process that is measured."""
    if len(sys.argv) > 1:
        run_here(sys.argv[1], Path(sys.argv[2]))
        return
    figures = [*measure_night(), *measure_decision(), *measure_replays(), *measure_millions()]
    table = Table("what", "goal", "figure", title=f"median of {ROUNDS}, in turn; {os.cpu_count()} cores")
    for figure in figures:
        table.add_row(figure.what, figure.goal, figure.figure)
    console.print(table)


def seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def draw_evidence(rows: int) -> Evidence:
    """Challenger, champion and anchor on the same customers, who fall into the groups of the bank contract."""
    rng = np.random.default_rng(0)
    logits = 1.8 * rng.normal(size=rows) - 2
    every = np.ones(rows, bool)
    return Evidence(
        customers=np.arange(rows, dtype=np.uint64),
        labels=(rng.random(rows) < expit(logits)).astype(np.int64),
        batches=np.ones(rows, np.int64),
        codes={column: rng.choice(len(p), rows, p=p).astype(np.int8) for column, p in SHARES.items()},
        used=every,
        current=every,
        undisputed=every,
        challenger=expit(logits + 0.4 * rng.normal(size=rows)),
        champion=expit(logits + 0.5 * rng.normal(size=rows)),
        anchor=expit(logits + 0.6 * rng.normal(size=rows)),
    )


def compare_all(evidence: Evidence) -> Comparison:
    return compare(Case(3, 2, 1, "bench", History(NOW)), evidence, slicings(BANK_CHURN), EACH_CLASS)


# A night's evidence against a bootstrap -----------------------------------------------------------


def measure_night() -> list[Figure]:
    """All of a night's evidence, and the intervals of four differences from resampled rows."""
    evidence = draw_evidence(NIGHT)
    compare_all(evidence)
    bootstrap_deltas(evidence, 2)
    ours, loops = [], []
    for number in range(ROUNDS):
        say(f"{NIGHT:,} rows, round {number + 1} of {ROUNDS}")
        ours += [seconds_of(lambda: compare_all(evidence)) for _ in range(10)]
        loops.append(seconds_of(lambda: bootstrap_deltas(evidence, RESAMPLES_RUN)) * RESAMPLES / RESAMPLES_RUN)
    mine, theirs = statistics.median(ours), statistics.median(loops)
    return [
        Figure(
            f"{NIGHT:,} rows: bootstrap in a loop / evidence with slices, calibration, anchor",
            ">= 100",
            f"{theirs / mine:,.0f} ({theirs:.1f} s, {RESAMPLES:,} resamples scaled from {RESAMPLES_RUN} / {mine * 1e3:.1f} ms)",
        )
    ]


def bootstrap_deltas(evidence: Evidence, resamples: int) -> dict[str, tuple[float, float]]:
    """The percentile interval of each difference, by the library's metrics on resampled rows."""
    from sklearn import metrics

    measures = {
        "roc_auc": metrics.roc_auc_score,
        "pr_auc": metrics.average_precision_score,
        "brier": metrics.brier_score_loss,
        "log_loss": metrics.log_loss,
    }
    rng = np.random.default_rng(1)
    y, mine, theirs = evidence.labels, evidence.challenger, evidence.champion
    assert theirs is not None
    deltas: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(resamples):
        rows = rng.integers(len(y), size=len(y))
        for name, measure in measures.items():
            deltas[name].append(measure(y[rows], mine[rows]) - measure(y[rows], theirs[rows]))
    return {name: tuple(np.percentile(values, [2.5, 97.5])) for name, values in deltas.items()}


# Compare, decide, promote -------------------------------------------------------------------------


def measure_decision() -> list[Figure]:
    """From a registered challenger to the mirrored registry, on 10,000 customers and a real MLflow server."""
    import requests

    from churn.pipeline import steps
    from churn.pipeline.workspace import Request
    from support.basics import clone_workspace, land_night, make_workspace, mlflow_server, run_night

    calls: list[str] = []
    ask = requests.Session.request

    def counted(*args: object, **kwargs: object) -> object:
        calls.append(str(kwargs.get("method", args[1])))
        return ask(*args, **kwargs)  # type: ignore[arg-type]

    with tempfile.TemporaryDirectory(prefix="churn-bench-") as scratch:
        folder = Path(scratch)
        for name in ("server", "first", *(f"night-{number}" for number in range(ROUNDS))):
            (folder / name).mkdir()
        server = folder / "server"
        with mlflow_server(server, f"sqlite:///{server}/mlflow.db", str(server / "artifacts")) as url:
            first = make_workspace(folder / "first", url)
            land_night(first, 1)
            run_night(first, "night 1")
            land_night(first, 2)
            request = Request("night 2")
            for batch in steps.arrive(first, request).batches:
                steps.validate(first, request, batch.batch)
            challenger = steps.train(first, request)
            took = []
            requests.Session.request = counted  # type: ignore[method-assign, assignment]
            for number in range(ROUNDS):
                say(f"compare, decide, promote, round {number + 1} of {ROUNDS}")
                workspace = clone_workspace(first, folder / f"night-{number}")
                calls.clear()

                def decide_and_promote(workspace: Workspace = workspace) -> None:
                    steps.compare(workspace, request, challenger)
                    steps.promote(workspace, request.night)

                took.append(seconds_of(decide_and_promote))
            requests.Session.request = ask  # type: ignore[method-assign]
    writes = sum(verb != "GET" for verb in calls)
    figure = f"{statistics.median(took):.1f} s, {len(calls)} calls of MLflow, {writes} of them write"
    return [Figure("10,000 rows: compare, decide, promote, mirror", "< 10 s", figure)]


# Replay -------------------------------------------------------------------------------------------


def measure_replays() -> list[Figure]:
    """A hundred decisions on the evidence of a run, reproduced from their files."""
    from churn.decision.evidence_file import digests_of, write_evidence
    from churn.decision.policy import decide
    from churn.decision.replay import record_digest, replay
    from churn.foundation.digests import json_digest, text_digest
    from churn.foundation.records import DecisionRecord
    from churn.foundation.storage import Storage
    from support.evidence_cases import POLICY, TEXT

    evidence = draw_evidence(NIGHT)
    comparison = compare_all(evidence)
    stored, decision, parts = (
        comparison.as_dict(),
        decide(comparison, POLICY),
        digests_of(evidence, slicings(BANK_CHURN)),
    )
    digests = {**parts, "policy": text_digest(TEXT), "case": json_digest(stored["case"])}
    record = DecisionRecord(
        "night", "bench", 3, 2, "bench", decision.verdict.value, decision.code, decision.sentence,
        decision.rules_as_dicts(), stored, TEXT, False, None, "run", NOW, digests=digests,
    )  # fmt: skip
    record = replace(record, digests=digests | {"record": record_digest(record)})
    with tempfile.TemporaryDirectory(prefix="churn-bench-") as folder:
        storage = Storage.open(folder)
        write_evidence(evidence, slicings(BANK_CHURN), parts["evidence"], storage)
        say("100 replays")
        took = seconds_of(lambda: [replay(record, storage) for _ in range(100)])
    return [Figure(f"replay of 100 decisions on {NIGHT:,} rows", "seconds", f"{took:.1f} s")]


# Two million rows ---------------------------------------------------------------------------------


def measure_millions() -> list[Figure]:
    """All of the evidence against two AUCs, each a fresh process that reads the same arrays."""
    with tempfile.TemporaryDirectory(prefix="churn-bench-") as folder:
        _in_a_process("draw", folder)  # not here: a process begins with the peak of the one that starts it
        ours, theirs = [], []
        for number in range(ROUNDS):
            say(f"{MILLIONS:,} rows, round {number + 1} of {ROUNDS}")
            ours.append(_measure("evidence", folder))
            theirs.append(_measure("two_aucs", folder))
    mine, plain = (statistics.median(measured.seconds for measured in runs) for runs in (ours, theirs))
    peak, before = (
        max(values) for values in ([measured.peak for measured in ours], [measured.before for measured in ours])
    )
    return [
        Figure(
            f"{MILLIONS:,} rows: evidence / two AUCs by scikit-learn",
            "<= 5",
            f"{mine / plain:.2f} ({mine:.1f} s / {plain:.2f} s)",
        ),
        Figure(
            f"{MILLIONS:,} rows: peak memory of the process",
            "< 1 GB",
            f"{peak:.2f} GB ({before:.2f} GB of it libraries and the rows)",
        ),
    ]


def run_here(name: str, folder: Path) -> None:
    """Do the work in this process, and print what it took."""
    from sklearn.metrics import roc_auc_score

    if name == "draw":
        _save(draw_evidence(MILLIONS), folder)
        return
    evidence = _load(folder)
    before = peak_memory()
    if name == "evidence":
        seconds = seconds_of(lambda: compare_all(evidence))
    else:
        assert evidence.champion is not None
        models = (evidence.challenger, evidence.champion)
        seconds = seconds_of(lambda: [roc_auc_score(evidence.labels, scores) for scores in models])
    print(seconds, peak_memory(), before)  # noqa: T201 -- read by the process that started this one


def peak_memory() -> float:
    """GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _measure(name: str, folder: str) -> Measured:
    return Measured(*map(float, _in_a_process(name, folder).split()))


def _in_a_process(name: str, folder: str) -> str:
    command = [sys.executable, __file__, name, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bench: {name} failed: {done.stderr}")
    return done.stdout


def _save(evidence: Evidence, folder: Path) -> None:
    for name, values in vars(evidence).items():
        for part, array in values.items() if name == "codes" else [(name, values)]:
            np.save(folder / f"{part}.npy", array)


def _load(folder: Path) -> Evidence:
    names = [name for name in Evidence.__annotations__ if name != "codes"]
    arrays = {name: np.load(folder / f"{name}.npy") for name in names}
    return Evidence(codes={column: np.load(folder / f"{column}.npy") for column in SHARES}, **arrays)


if __name__ == "__main__":
    main()
