"""`make bench WHAT=outcomes`: scoring on arrival, and looking at a promotion, against bare work. Prints ratios; asserts nothing.

Every measurement is a process of its own, and its memory is the peak of that process and its workers. Everything is made in a
temporary folder (`TMPDIR` moves it); MLflow is a real server on loopback. The pages are measured by `make bench WHAT=review`, error
rates by `make bench WHAT=error-rates`.

    make bench WHAT=outcomes                   five versions on 1 million rows, 10 million later rows
    make bench WHAT=outcomes ROWS=100000
"""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.table import Table

from churn.foundation.artifacts import downloaded
from churn.foundation.examples import model_input
from churn.foundation.parts import part_names
from churn.foundation.paths import accepted
from churn.outcomes import arrivals
from churn.outcomes.arrivals import score_arrivals
from churn.outcomes.confirmation import FRESH_NONINFERIOR, LaterRows, conclude
from churn.pipeline import steps
from churn.pipeline.workspace import Request, Workspace
from churn.serving.model import load_estimator
from churn.settings import Settings
from intake import BenchFailed, add, paired, run, timed
from intake_data import write_file
from reporting import console, say
from support.basics import land_night, make_workspace, mlflow_server, run_night

VERSIONS = 5
_ROWS = 65_536


def _open(settings: dict[str, Any], at: str) -> Workspace:
    """A workspace with a copy of the ledger of its own, so that nothing has been scored yet."""
    with closing(sqlite3.connect(settings["ledger_url"].removeprefix("sqlite:///"))) as source:
        source.execute("VACUUM INTO ?", (f"{at}/ledger.db",))
    return Workspace.open(Settings(**settings | {"ledger_url": f"sqlite:///{at}/ledger.db"}))


def ours(result: Any, settings: dict[str, Any], at: str) -> None:
    """Five versions score a batch on arrival: keyed hashes and scores of every row are kept."""
    workspace = _open(settings, at)
    arrivals.living_versions = lambda *_: {1: "champion"} | dict.fromkeys(range(2, VERSIONS + 1), "shadow")
    with timed(result):
        (scores,) = score_arrivals(workspace, "bench")
    if len(scores.versions) != VERSIONS:
        raise SystemExit(f"{len(scores.versions)} versions scored")


def bare(result: Any, settings: dict[str, Any], at: str) -> None:
    """The floor: five times the bare model over the accepted rows, on all cores, nothing kept."""
    import joblib

    workspace = _open(settings, at)
    (batch,) = [row for row in workspace.ledger.batches(state="accepted") if row.name.startswith("large")]
    files = [workspace.storage.path(name) for name in part_names(workspace.storage, accepted(batch.batch))]
    contract = workspace.contract
    models = []
    for version in range(1, VERSIONS + 1):
        with downloaded(version, workspace.tracking) as folder:
            models.append(load_estimator(folder))

    def score(batch: Any, model: Any) -> np.ndarray:
        return np.asarray(model.predict_proba(model_input(contract, batch.to_pandas()))[:, 1])

    with timed(result):
        for model in models:
            pieces = (
                piece
                for file in files
                for piece in pq.ParquetFile(file).iter_batches(_ROWS, columns=contract.feature_names)
            )
            joblib.Parallel(-1, backend="threading")(joblib.delayed(score)(piece, model) for piece in pieces)


def look(result: Any, rows: int) -> None:
    """A look at a promotion as non-inferior: ROC AUC and Brier score of both versions, with bounds."""
    random = np.random.default_rng(1)
    truth = random.normal(-1.6, 1.5, rows)
    labels = (random.random(rows) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    first, second = (1 / (1 + np.exp(-(truth + random.normal(0, 0.6, rows)))) for _ in range(2))
    later = LaterRows(np.arange(rows, dtype=np.uint64), labels, first, second, np.ones(rows))
    del truth
    with timed(result):
        conclude(later, FRESH_NONINFERIOR, 0.01, 0.002, 5, 90)


def night(result: Any, settings: dict[str, Any], at: str, outcomes: bool) -> None:
    """The training step of a run with what it does about outcomes, or without."""
    from churn.pipeline import observing

    workspace = _open(settings, at)
    if not outcomes:
        observing.score_first = lambda *_: []
        observing.observe = lambda *_: (None, [])
    with timed(result):
        steps.train(workspace, Request(f"night-{outcomes}-{time.time_ns()}"))


def main() -> None:
    """Measure, print, and leave nothing behind."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    table = Table("what", "rows", "goal", "ratio", "seconds", "floor", "peak memory", title="Outcomes")
    with tempfile.TemporaryDirectory(prefix="churn-bench-") as folder:
        home = Path(folder)
        os.environ["TMPDIR"] = folder
        (home / "mlflow").mkdir()
        try:
            with mlflow_server(
                home / "mlflow", f"sqlite:///{home}/mlflow/mlflow.db", str(home / "mlflow/files")
            ) as mlflow:
                say("training five versions")
                workspace = make_workspace(home / "bench", mlflow, candidates="churn.learning.candidates:standard")
                land_night(workspace, 2)
                run_night(workspace, "night 1")
                for number in range(2, VERSIONS + 1):
                    land_night(
                        workspace,
                        1 + number % 3,
                        f"more-{number}.csv",
                        seed=number,
                        first_customer=number * 1_000_000,
                        rows=10_000,
                    )
                    run_night(workspace, f"night {number}")
                names = ("data_root", "ledger_url", "mlflow_tracking_uri", "model_name", "experiment")
                settings = {name: getattr(workspace.settings, name) for name in names}
                land_night(workspace, 2, "of-tonight.csv", seed=99, first_customer=70_000_000, rows=10_000)
                _accept(workspace, "tonight")
                say("a run with 10,000 new rows, with outcomes and without")
                pairs = paired(3, home, lambda at: (night, settings, at, True), lambda at: (night, settings, at, False))
                add(table, "training step with five versions, to one without outcomes", 10_000, "<= 1.3", *pairs)
                _score_large(table, home, workspace, settings, rows)
            say("a look at a promotion")
            add(table, "a look at a promotion", 10 * rows, "<= 20 s, <= 1 GB", [run(look, 10 * rows)], None)
        except BenchFailed as failure:
            say(str(failure))
            raise SystemExit(1) from failure
        finally:
            console.print(table)


def _accept(workspace: Workspace, name: str) -> None:
    for batch in steps.arrive(workspace, Request(name)).batches:
        steps.validate(workspace, Request(name), batch.batch)


def _score_large(table: Table, home: Path, workspace: Workspace, settings: dict[str, Any], rows: int) -> None:
    score_arrivals(workspace, "tonight")  # only the large batch waits after this
    file = Path(workspace.settings.data_root) / "landing" / "large.csv"
    say(f"{rows:,} rows: making the file")
    write_file(file, rows, 0.0)
    trusting = workspace.settings.model_copy(update={"max_disputed_share": 1.0})  # some customers are known already
    _accept(Workspace(trusting, workspace.storage, workspace.ledger), "large")
    say(f"{rows:,} rows: five versions on arrival, against five bare scorings")
    pairs = paired(3, home, lambda at: (ours, settings, at), lambda at: (bare, settings, at))
    add(table, "five versions score a batch on arrival, to five bare scorings", rows, "<= 1.3, <= 1 GB", *pairs)


if __name__ == "__main__":
    main()
