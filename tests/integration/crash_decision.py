"""Run by test_races.py: a night's decision and promotion, killed after the n-th thing it did outside, and run again.

Effects are writes to the data root, to the ledger and to MLflow. The parent imports everything and starts
no thread, so that each child is a cheap fork of it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb  # noqa: F401 -- like the next ones: before the forks
import mlflow.sklearn  # noqa: F401
import requests
import sklearn.ensemble
import sklearn.linear_model  # noqa: F401
import skops.io  # noqa: F401
from markupsafe import Markup

import churn.pipeline.deciding
import churn.release.rollback  # noqa: F401
from churn.decision import report
from churn.decision.replay import replay
from churn.foundation.ledger import Ledger
from churn.foundation.storage import Storage
from churn.learning.training import Challenger
from churn.pipeline import steps
from churn.pipeline.workspace import Request, Workspace
from churn.release.mirror import read_registry
from support.basics import clone_workspace, crash_points, make_workspace, start_fork, wait_for_exit

NIGHT = "night 2"
KILLED_AFTER = ("move_in", "take_look", "log-batch", "add_decision", "promote", "transition-stage", "mark_mirrored")
LEDGER_WRITES = ("add_snapshot", "take_look", "add_decision", "promote", "mark_mirrored")


def decide_and_promote(workspace: Workspace, challenger: Challenger, kill_after: int | None, log: Path) -> None:
    """Compare, decide, promote, mirror; note each effect, and be killed after one of them."""
    done: list[str] = []

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def effect(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            message = name
            if name == "request":  # of MLflow's calls those that write
                verb, url = str(kwargs.get("method", args[1])), str(kwargs.get("url", args[2]))
                if verb == "GET" or url.endswith(("/search", "search-versions")):
                    return result
                message = (
                    f"{verb} {url.rsplit('/mlflow', maxsplit=1)[-1].rsplit('/mlflow-artifacts', maxsplit=1)[-1][:60]}"
                )
            done.append(message)
            log.write_text("\n".join(done))
            if len(done) == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return effect

    report.draw_figures = lambda *_: {"roc": Markup("<svg/>")}  # type: ignore[assignment] -- drawing takes time, and touches nothing outside
    setattr(Storage, "move_in", counted("move_in", Storage.move_in))  # noqa: B010
    setattr(requests.Session, "request", counted("request", requests.Session.request))  # noqa: B010
    for name in LEDGER_WRITES:
        setattr(Ledger, name, counted(name, getattr(Ledger, name)))
    steps.compare(workspace, Request(NIGHT), challenger)
    steps.promote(workspace, NIGHT)


def state(workspace: Workspace) -> dict[str, Any]:
    """What is left: one decision that replays, one look, one transition, one run with two children."""
    model = workspace.settings.model_name
    decision = workspace.ledger.decision(NIGHT)
    registry = read_registry(workspace.tracking)
    runs = workspace.tracking.client.search_runs([workspace.tracking.experiment_id], "")
    return {
        "decision": decision and [decision.verdict, decision.code],
        "replays": decision is not None and replay(decision, workspace.storage).same,
        "looks": [look.position for look in workspace.ledger.looks(model)],
        "promotions": [
            [row.version, row.kind, row.mirrored_at is not None] for row in workspace.ledger.promotions(model)
        ],
        "aliases": registry.aliases,
        "stage": list(registry.in_stage),
        "roles": sorted(run.data.tags["churn.role"] for run in runs),
        "finished": sorted(run.info.status for run in runs),
        "evidence": len({name.split("/")[1] for name in workspace.storage.names("decisions")}),
    }


def main(folder: Path, mlflow_url: str, source: Path, challenger: Challenger) -> None:
    """Print, as JSON, what an undisturbed night leaves, and what each killed and repeated one leaves."""
    original = make_workspace(source, mlflow_url)

    def workspace(run: str) -> Workspace:
        name = f"decided-{run}"  # a model's too: another script may share the server
        (folder / name).mkdir()
        return clone_workspace(original, folder / name)

    calm = workspace("calm")
    log = folder / "effects"
    assert wait_for_exit(start_fork(lambda: decide_and_promote(calm, challenger, None, log))) == 0
    effects = log.read_text().splitlines()
    outcome: dict[str, Any] = {"calm": state(calm), "effects": effects, "killed": []}
    for effect in crash_points(effects, KILLED_AFTER):
        if (
            effect > 1 and effects[effect - 2 : effect + 1] == [effects[effect - 1]] * 3
        ):  # of a row of one kind the ends
            continue
        killed_workspace = workspace(f"killed-{effect}")
        killed = wait_for_exit(
            start_fork(
                lambda killed_workspace=killed_workspace, effect=effect: decide_and_promote(
                    killed_workspace, challenger, effect, log
                )
            )
        )  # type: ignore[misc]
        again = wait_for_exit(
            start_fork(
                lambda killed_workspace=killed_workspace: decide_and_promote(killed_workspace, challenger, None, log)
            )
        )  # type: ignore[misc]
        outcome["killed"].append(
            {"after": effects[effect - 1], "killed": killed, "again": again, "state": state(killed_workspace)}
        )
    print(json.dumps(outcome))  # noqa: T201 -- the test reads it


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Challenger(**json.loads(sys.argv[4])))
