"""Run by test_outcomes.py: a run that scores what arrived and looks at promotion and lists, killed after each outside write.

The parent imports everything and starts no thread, so that each child is a cheap fork of it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import duckdb  # noqa: F401 -- like the next ones: before the forks
import mlflow.sklearn  # noqa: F401
import numpy as np
import skops.io  # noqa: F401

from churn.learning.snapshot import take_snapshot
from churn.outcomes import looks
from churn.outcomes.confirmation import LaterRows
from churn.outcomes.looks import replay_look
from churn.pipeline.audit import audit_data
from churn.pipeline.observing import observe, score_first
from churn.pipeline.workspace import Workspace
from support.basics import clone_workspace, make_workspace
from support.crashes import note_effects, print_outcomes

KILLED_AFTER = (
    "arrivals/MODEL/ID/part", "arrivals/MODEL/ID/manifest", "add_arrival_scores", "snapshots/ID/manifest", "add_snapshot", "looks/ID",
    "add_look", "add_list_result",
)  # fmt: skip
LEDGER_WRITES = ("add_arrival_scores", "add_snapshot", "add_look", "add_list_result")


def plain(path: str) -> str:
    """The end of a path without hashes and the name of the model, which differs from run to run."""
    return re.sub("looked-[a-z0-9-]+", "MODEL", re.sub("[0-9a-f]{64}", "ID", "/".join(path.split("/")[-4:])))


def later_rows() -> LaterRows:
    """Rows on which the version in production is certainly worse than the one before."""
    random = np.random.default_rng(1)
    labels = (random.random(5000) < 0.2).astype(np.int64)
    worse = np.clip(0.2 + 0.3 * random.normal(size=5000), 0.01, 0.99)
    return LaterRows(np.arange(5000, dtype=np.uint64), labels, worse, np.where(labels == 1, 0.5, 0.15), np.ones(5000))


def look(workspace: Workspace, kill_after: int | None, log: Path) -> None:
    """Score what arrived, and look at promotion and lists, as the first step of a training; be killed after one of the effects."""
    note_effects(workspace.storage, LEDGER_WRITES, plain, log, kill_after)
    looks.read_later_rows = lambda *_: later_rows()  # so many that something is concluded from them
    score_first(workspace, "night")
    snapshot = take_snapshot(workspace.storage, workspace.ledger, workspace.contract, workspace.sampling)
    observe(workspace, "night", snapshot)


def state(workspace: Workspace) -> dict[str, Any]:
    """What is left: scores of each batch once, one look, one result of each list, and nothing that the audit finds fault with."""
    ledger, model = workspace.ledger, workspace.settings.model_name
    change = ledger.in_production(model)
    found = ledger.last_look(model, change.sequence) if change else None
    return {
        "scored": sorted(
            [row.batch, row.rows, sorted(row.versions), row.manifest] for row in ledger.arrival_scores(model)
        ),
        "look": [found.state, found.rows, found.events, found.figures] if found else None,
        "same": found is not None and replay_look(workspace.storage, found),
        "lists": [[row.revision, row.figures] for row in ledger.list_results().values()],
        "files": sorted(map(plain, workspace.storage.names("outcomes"))),
        "snapshots": [snapshot.snapshot for snapshot in ledger.snapshots()],
        "faults": audit_data(workspace, hashes=True),
    }


def main(folder: Path, mlflow_url: str, source: Path) -> None:
    """Print, as JSON, what an undisturbed run leaves, and what each killed and repeated one leaves."""
    original = make_workspace(source, mlflow_url)

    def workspace(run: str) -> Workspace:
        name = f"looked-{run}"  # a model's too: another script may share the server
        (folder / name).mkdir()
        return clone_workspace(original, folder / name)

    log = folder / "effects"
    print_outcomes(workspace, lambda here, kill_after: look(here, kill_after, log), state, log, KILLED_AFTER)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
