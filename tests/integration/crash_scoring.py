"""Run by test_score_list.py: a list that is made and delivered, killed after the n-th thing it did outside, and made again.

The parent imports everything and starts no thread, so that each child is a cheap fork of it.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import duckdb  # noqa: F401 -- like the next ones: before the forks
import mlflow.sklearn  # noqa: F401
import skops.io  # noqa: F401

from churn.foundation.storage import Storage
from churn.pipeline.audit import audit_data
from churn.pipeline.workspace import Workspace
from churn.scoring import second_scoring
from churn.scoring.delivery import deliver_list
from churn.scoring.population import collect_populations, land_population
from churn.scoring.score_list import ListRequest, make_list
from support.basics import clone_workspace, make_workspace
from support.crashes import note_effects, print_outcomes
from support.score_lists import in_this_process

KILLED_AFTER = (
    "originals", "add_population", "scores/ID/part", "scores/ID/manifest", "publish_list", "judge_population",
    "retention/ID/part", "retention/ID/_SUCCESS", "current.json", "record_delivery",
)  # fmt: skip
LEDGER_WRITES = ("add_population", "publish_list", "judge_population", "record_delivery")


def plain(path: str) -> str:
    """The end of a path without hashes."""
    return re.sub(r"[0-9a-f]{64}", "ID", "/".join(path.split("/")[-3:]))


def score_what_landed(workspace: Workspace, kill_after: int | None, log: Path) -> None:
    """Collect, score, publish, deliver; note each effect, and be killed after one of them. A killed run is begun again as the DAG does."""
    note_effects(workspace.storage, LEDGER_WRITES, plain, log, kill_after)
    second_scoring.open_scorer = in_this_process  # type: ignore[assignment] -- to start another process takes longer than all the rest
    landed = collect_populations(workspace.storage, workspace.ledger, 0, 20_000)
    model = workspace.settings.model_name
    for population in landed:
        make_list(workspace, ListRequest("run", population))
    for row in workspace.ledger.score_lists(model, limit=1):
        deliver_list(workspace, row)


def state(workspace: Workspace) -> dict[str, Any]:
    """What is left: one list, with its rows by hash, one delivery, and nothing that the audit finds fault with."""
    (row,) = workspace.ledger.score_lists(workspace.settings.model_name)
    drop = Storage.open(str(workspace.settings.scores_drop))
    with drop.reading(f"{row.campaign}/current.json") as stream:
        current = json.load(stream)
    return {
        "list": [row.rows, row.contact, row.control, row.quarantined_rows, len(row.continues)],
        "files": len(workspace.storage.names("scores")),
        "population": [found.state for found in workspace.ledger.populations()],
        "delivered": [[found.state, found.rows] for found in workspace.ledger.deliveries(row.list_id)],
        "current": current["list_id"] == row.list_id,
        "marker": drop.exists(f"{row.campaign}/{row.list_id}/_SUCCESS"),
        "faults": audit_data(workspace, hashes=True),
        "waiting": len(workspace.storage.landed("populations/landing")),
    }


def main(folder: Path, mlflow_url: str, source: Path, customers: Path) -> None:
    """Print, as JSON, what an undisturbed run leaves, and what each killed and repeated one leaves."""
    original = make_workspace(source, mlflow_url)

    def workspace(run: str) -> Workspace:
        name = f"listed-{run}"  # a model's too: another script may share the server
        (folder / name).mkdir()
        clone = clone_workspace(original, folder / name)
        settings = clone.settings.model_copy(update={"scores_drop": str(folder / name / "drop")})
        land_population(clone.storage, customers)
        return Workspace(settings, clone.storage, clone.ledger)

    log = folder / "effects"
    print_outcomes(
        workspace, lambda here, kill_after: score_what_landed(here, kill_after, log), state, log, KILLED_AFTER
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
