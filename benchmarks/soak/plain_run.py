"""Runs of the DAGs as plain calls, with the rules and the alerts of the DAGs: each task opens a workspace of its own and may fail.

Also a program, so that a run can be killed, or be one of an earlier commit's code: `python -m soak.plain_run SPEC`.
It imports nothing of the tests, whose support changes with the code.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from churn.errors import ChurnError, NothingToDo
from churn.foundation.ledger import Ledger
from churn.pipeline import scoring_runs, shipping, steps
from churn.pipeline.scoring_runs import ScoringRequest
from churn.pipeline.workspace import Request, Workspace
from churn.settings import Settings
from churn_airflow import alerts

RETRAINING, SCORING, WATCH = "churn_retraining", "churn_scoring", "churn_watch"


@dataclass
class Attempt:
    """What became of the tasks of one night.

    - `failed`: the tasks that failed, each with the type of its error, in their order
    - `unrecorded`: alerts that could not be recorded, by the type of the error
    - `messages`: what the errors said, for the person who reads the report
    - `memory`, `handles`: bytes and open files of the process that did the night, at its end, if it was one of its own
    """

    failed: list[str] = field(default_factory=list)
    unrecorded: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    memory: int | None = None
    handles: int | None = None


class TaskFailed(Exception):  # noqa: N818 -- as Airflow's exception for a task that is not retried
    """The error of a task as Airflow passes it on: our own error is its cause."""


class Tasks:
    """Runs tasks one after the other and keeps what became of them, as Airflow does.

    Args:
        dag: the name of the DAG.
        run: the id of the run.
        attempt: gets the failures.
        report: sends the alert of a failed task.
        params: the values of the trigger form.
    """

    def __init__(
        self,
        dag: str,
        run: str,
        attempt: Attempt,
        report: Callable[[Workspace, Mapping[str, Any]], None],
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.dag, self.run, self.attempt, self._report, self.params = dag, run, attempt, report, dict(params or {})
        self.states: dict[str, str] = {}

    def do(self, task: str, work: Callable[[Workspace], Any], map_index: int = -1) -> Any:
        """Do the work of a task; returns its result, or None if it was skipped or failed."""
        try:
            result = work(open_workspace())
        except NothingToDo:
            self.states[task] = "skipped"
            return None
        except Exception as error:
            self.states[task] = "failed"
            self.attempt.failed.append(f"{task} {type(error).__name__}")
            self.attempt.messages.append(f"{task}: {type(error).__name__}: {error}")
            self._alert(task, error, map_index)
            return None
        self.states.setdefault(task, "success")
        return result

    def context(self, **more: Any) -> dict[str, Any]:
        """What a callback of Airflow is given."""
        return {
            "dag": SimpleNamespace(dag_id=self.dag),
            "run_id": self.run,
            "params": self.params,
            "reason": "task_failure",
            **more,
        }

    def _alert(self, task: str, error: Exception, map_index: int) -> None:
        failed = TaskFailed(str(error)) if isinstance(error, ChurnError) else error
        if failed is not error:
            failed.__cause__ = error
        ti = SimpleNamespace(dag_id=self.dag, run_id=self.run, task_id=task, map_index=map_index)
        self.guard(lambda: self._report(open_workspace(), self.context(ti=ti, exception=failed)))

    def guard(self, callback: Callable[[], object]) -> None:
        """Call what Airflow only logs if it fails, and keep the error."""
        try:
            callback()
        except ChurnError as error:
            self.attempt.unrecorded.append(type(error).__name__)


def open_workspace() -> Workspace:
    """A workspace from the environment, as each task opens one."""
    return Workspace.open(Settings.load())


def retrain(run: str, attempt: Attempt, form: Mapping[str, Any]) -> None:
    """Do a run of churn_retraining up to the promotion, in the order and by the rules of the DAG.

    Args:
        run: its id.
        attempt: gets the failures.
        form: fields of `Request`.
    """
    tasks = Tasks(RETRAINING, run, attempt, alerts.alert_failed_task)
    request = Request(run, **form)
    arrivals = tasks.do("arrive", lambda workspace: steps.arrive(workspace, request))
    for index, batch in enumerate(arrivals.batches if arrivals else []):
        tasks.do("validate", lambda workspace, name=batch.batch: steps.validate(workspace, request, name), index)
    challenger = tasks.do("train", lambda workspace: steps.train(workspace, request))
    if challenger is not None:
        decision = tasks.do("compare", lambda workspace: steps.compare(workspace, request, challenger))
        if decision is not None and not (decision.approval and not decision.dry_run):
            tasks.do("promote", lambda workspace: steps.promote(workspace, run))

    def close(workspace: Workspace) -> str:
        alerts.send_alerts(workspace, tasks.context())
        return steps.close(workspace, request, tasks.states.get("arrive") in ("success", "skipped"))

    tasks.do("close", close)
    if tasks.states.get("close") == "failed":
        tasks.guard(lambda: alerts.alert_failed_run(open_workspace(), tasks.context()))


def ship_promoted(attempt: Attempt) -> None:
    """Verify what is in production and has no image yet, as the DAG churn_image_build does after a promotion."""
    workspace = open_workspace()
    current = workspace.ledger.in_production(workspace.settings.model_name)
    if current and current.version and workspace.ledger.image(current.model, current.version) is None:
        version = current.version
        run = f"image-of-version-{version}"
        tasks = Tasks("churn_image_build", run, attempt, alerts.alert_failed_task, {"version": version})
        tasks.do("build", lambda opened: shipping.ship(opened, version))


def score(run: str, attempt: Attempt, campaign: str | None) -> None:
    """Do a run of churn_scoring, in the order and by the rules of the DAG.

    Args:
        run: its id.
        attempt: gets the failures.
        campaign: of the form; None: that of the scoring policy.
    """
    tasks = Tasks(SCORING, run, attempt, alerts.alert_failed_scoring, {"campaign": campaign})
    request = ScoringRequest(run, campaign=campaign)

    def deliver(workspace: Workspace) -> int | None:
        undelivered = scoring_runs.find_undelivered(workspace, "database", request)
        return scoring_runs.deliver_list(workspace, undelivered).rows

    customers = tasks.do("collect", lambda workspace: scoring_runs.collect_customers(workspace, request))
    if customers is not None:
        tasks.do("score", lambda workspace: scoring_runs.make_lists(workspace, request, customers))
    tasks.do("deliver_database", deliver)
    if "failed" in tasks.states.values():
        tasks.guard(lambda: alerts.alert_failed_scoring(open_workspace(), tasks.context()))
    else:
        tasks.do("announce", lambda workspace: alerts.send_alerts(workspace, tasks.context()))


def score_change(run: str, attempt: Attempt) -> None:
    """Do a run of churn_scoring if the current list was made by another version than the one in production."""
    try:
        scoring_runs.require_change(open_workspace())
    except NothingToDo:
        return
    score(run, attempt, None)


def watch(run: str, attempt: Attempt) -> None:
    """Do a run of churn_watch: record and send what is new."""
    tasks = Tasks(WATCH, run, attempt, lambda *_: None)
    tasks.do("watch", lambda workspace: alerts.record_and_send(workspace, tasks.context()))


def do_night(run: str, form: Mapping[str, Any], campaign: str | None) -> Attempt:
    """Retrain, verify and score what was promoted, score a campaign, and send alerts.

    Args:
        run: the id of the retraining run.
        form: fields of `Request`.
        campaign: of customers that have landed; None: none have.
    """
    attempt = Attempt()
    retrain(run, attempt, form)
    if not attempt.unrecorded:  # otherwise the ledger is unavailable, and no other DAG does anything either
        ship_promoted(attempt)
        score_change(f"{run}-scores", attempt)
        if campaign:
            score(f"{run}-{campaign}", attempt, campaign)
        watch(f"{run}-watch", attempt)
    return attempt


def set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read no settings file of the checkout, and train quickly, as the tests do."""
    from support.candidates import stand_in

    monkeypatch.setitem(Settings.model_config, "env_file", None)
    stand_in(monkeypatch)


def kill_after(method: str) -> None:
    """From now on, kill this process after this method of the ledger has done its work."""
    original = getattr(Ledger, method)

    def killing(*args: Any, **kwargs: Any) -> Any:
        original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(Ledger, method, killing)


def main() -> None:
    """Do one night as the file of the first argument says, and write the attempt to the file of the second one."""
    spec, target = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    found = importlib.util.spec_from_file_location("clock", spec["clock"])
    clock = importlib.util.module_from_spec(found)  # type: ignore[arg-type]
    found.loader.exec_module(clock)  # type: ignore[union-attr]
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_up(monkeypatch)
        clock.Clock(monkeypatch, datetime.fromisoformat(spec["moment"]), ("churn",))
        if spec["kill_after"]:
            kill_after(spec["kill_after"])
        attempt = do_night(spec["run"], spec["form"], spec["campaign"])
    process = psutil.Process()
    attempt.memory, attempt.handles = process.memory_info().rss, process.num_fds()
    target.write_text(json.dumps(asdict(attempt)))


if __name__ == "__main__":
    main()
