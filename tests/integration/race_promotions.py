"""Run by test_races.py: twenty processes promote at once, and one reads the registry all the time.

The parent imports everything and starts no thread, so that each child is a cheap fork of it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import mlflow.pyfunc
import mlflow.sklearn  # like the next ones: before the forks
import sklearn.ensemble
import sklearn.linear_model  # noqa: F401
import skops.io  # noqa: F401

from churn.foundation.ledger import PromotionConflict, open_ledger
from churn.foundation.records import DecisionRecord
from churn.pipeline.workspace import Workspace
from churn.release.mirror import read_registry
from churn.release.promotion import promote
from support.basics import make_workspace, start_fork, wait_for_exit

PROMOTERS = 20
CONFLICT = 2
"""Exit status of a promoter that came too late."""


def register(workspace: Workspace, first: int) -> None:
    """Twenty more versions with the files of the first."""
    client, model = workspace.tracking.client, workspace.settings.model_name
    source = workspace.tracking.version(first)
    known = workspace.ledger.version(model, first)
    assert known is not None
    for _ in range(PROMOTERS):
        made = client.create_model_version(
            model, source.source, source.run_id, source.tags, model_id=source.source.removeprefix("models:/")
        )
        workspace.ledger.add_version(replace(known, version=int(made.version), registered_at=datetime.now(UTC)))


def promote_one(workspace: Workspace, decision: DecisionRecord, version: int, start: float) -> None:
    """Promote, or end with the status of a typed conflict. The parent's connections are not used: a fork shares them."""
    mine = replace(decision, night=f"racer {version}", challenger=version, champion=1, code="SUPERIOR")
    ledger = open_ledger(workspace.settings.ledger_url)
    time.sleep(max(0, start - time.time()))
    try:
        promote(mine, None, ledger, workspace.tracking)
    except PromotionConflict:
        os._exit(CONFLICT)


def read_on(workspace: Workspace, outcome: Path, stop: Path) -> None:
    """Note, until told to stop, which champion the registry names, and that its artifacts load; each is loaded once."""
    seen: dict[str, int] = {}
    loads: dict[int | None, bool] = {None: False}
    while not stop.exists():
        champion = read_registry(workspace.tracking).champion
        if champion not in loads:
            loads[champion] = mlflow.pyfunc.load_model(workspace.tracking.model_uri(champion)) is not None
        name = f"{champion} {'loads' if loads[champion] else 'does not load'}"
        seen[name] = seen.get(name, 0) + 1
        outcome.write_text(json.dumps(seen))


def main(folder: Path, mlflow_url: str, ledger_url: str) -> None:
    """Print what came out as JSON."""
    workspace = make_workspace(folder, mlflow_url)
    workspace = Workspace(
        workspace.settings.model_copy(update={"ledger_url": ledger_url}), workspace.storage, open_ledger(ledger_url)
    )
    register(workspace, 1)
    outcome, stop = folder / "seen.json", folder / "stop"
    reader = start_fork(lambda: read_on(workspace, outcome, stop))
    while not outcome.exists():
        time.sleep(0.1)
    decision = workspace.ledger.decisions(limit=1)[0]
    start = time.time() + 3
    racers = [
        start_fork(lambda version=version: promote_one(workspace, decision, version, start))
        for version in range(2, PROMOTERS + 2)
    ]
    ends = [wait_for_exit(pid) for pid in racers]
    time.sleep(1)
    stop.touch()
    reading = wait_for_exit(reader)
    last = workspace.ledger.in_production(workspace.settings.model_name)
    state = read_registry(workspace.tracking)
    outcome = {
        "ends": ends,
        "reading": reading,
        "seen": json.loads(outcome.read_text()),
        "ledger": last.version if last else None,
        "promotions": len(workspace.ledger.promotions(workspace.settings.model_name)),
        "aliases": state.aliases,
        "stage": list(state.in_stage),
    }
    print(json.dumps(outcome))  # noqa: T201 -- the test reads it


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
