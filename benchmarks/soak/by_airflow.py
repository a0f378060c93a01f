"""A place whose runs an Airflow does: triggered and cleared through its API, and followed to their end."""

from __future__ import annotations

import time
from abc import abstractmethod
from datetime import UTC, datetime, timedelta
from typing import Any

from churn.foundation.links import IMAGE_BUILD, RETRAINING, SCORING
from churn.local.airflow_api import FINAL, AirflowApi, TaskState
from soak.nights import Night
from soak.place import KILLED, Place, campaign_of, form_of

MAINTENANCE, CANDIDATES = "churn_maintenance", "soak.candidates:quick"
KILLED_IN = {"task killed": "train", "worker killed": "train", "scheduler killed": "compare"}
"""During which task a process is killed."""
NIGHT_SECONDS, STUCK_SECONDS, BEGIN_SECONDS, CALLBACK_SECONDS = 1500, 45, 300, 20
UNTIL_LOST = timedelta(minutes=6)
"""Airflow takes a task for lost whose worker has not been heard of for five minutes: the clock is moved by this time."""
WRAPPERS = frozenset({"AirflowFailException", "AirflowException"})


class NightUnfinished(Exception):  # noqa: N818 -- it says what is wrong
    """A run of Airflow did not end in time."""


class ByAirflow(Place):
    """Runs each night through an Airflow, whose API `api` gives."""

    @property
    @abstractmethod
    def api(self) -> AirflowApi:
        """The API of the Airflow that runs now."""

    @abstractmethod
    def kill(self, what: str) -> None:
        """End a process while a task runs: that of the task, the worker that runs it, or the scheduler."""

    def attempt(self, night: Night, first: bool) -> list[str]:
        """Trigger the runs of a night, or clear them; returns the tasks that failed."""
        killed = next((what for what in night.happens if what in KILLED), None)
        campaign = campaign_of(night)
        if first:
            self.api.trigger(RETRAINING, night.run, form_of(night))
            if killed:
                self._kill(killed, night)
                return []
        elif not killed:
            self._clear(RETRAINING, night.run)
        failed = self._follow(RETRAINING, night.run, lost=bool(killed))
        if (
            first and "ledger unreachable" in night.happens
        ):  # Airflow tells of a failed run a little later, and is to find no ledger
            time.sleep(CALLBACK_SECONDS)
        failed += self._follow_others()
        if campaign:
            run = f"{night.run}-{campaign}"
            if first:
                self.api.trigger(SCORING, run, {"campaign": campaign})
            else:
                self._clear(SCORING, run)
            failed += self._follow(SCORING, run)
        return failed

    def let_expire(self, night: Night) -> None:
        """Wait until Airflow has ended the question that nobody has answered."""
        self._follow(RETRAINING, night.run, waits=False)

    def follow(self, dag: str, run: str) -> list[str]:
        """Follow a run to its end; returns the tasks that failed, each with the type of its error."""
        return self._follow(dag, run)

    def newest_runs(self, dag: str) -> list[dict[str, Any]]:
        """The newest runs of a DAG."""
        answer = self.api._call("GET", f"/api/v2/dags/{dag}/dagRuns", params={"order_by": "-run_after", "limit": 5})
        return list(answer["dag_runs"])

    def _kill(self, what: str, night: Night) -> None:
        """Wait for the task in which a process is killed, and kill it."""
        deadline = time.monotonic() + BEGIN_SECONDS
        while not any(
            task.task == KILLED_IN[what] and task.state == "running"
            for task in self.api.task_states(RETRAINING, night.run)
        ):
            if time.monotonic() > deadline:
                raise NightUnfinished(f"The task {KILLED_IN[what]} of {night.run} does not begin.")
            time.sleep(0.1)
        self.kill(what)

    def _clear(self, dag: str, run: str) -> None:
        """Clear all tasks of a run, as a person does once the cause of a failure is gone."""
        body = {"dag_run_id": run, "dry_run": False, "only_failed": False, "reset_dag_runs": True}
        self.api._call("POST", f"/api/v2/dags/{dag}/clearTaskInstances", json=body)

    def _follow_others(self) -> list[str]:
        """Follow the runs that a promotion has started: the image, then the list."""
        failed = []
        for dag in (IMAGE_BUILD, SCORING):
            for run in self.api.active_runs(dag):
                failed += self._follow(dag, run)
        return failed

    def _follow(self, dag: str, run: str, lost: bool = False, waits: bool = True) -> list[str]:
        """Follow a run to its end.

        Args:
            dag: the DAG.
            run: the run.
            lost: whether a process of it was killed: if nothing happens for a while, the clock moves until Airflow takes it for lost.
            waits: whether a question to a person ends the wait too.

        Returns:
            The tasks that failed, each with the type of its error.
        """
        began = changed = time.monotonic()
        seen: list[tuple[str, str]] = []
        while True:
            state, tasks = self.api.run_state(dag, run), self.api.task_states(dag, run)
            now = [(task.task, task.state) for task in tasks]
            if state in FINAL:
                return [self._say_failed(dag, run, task) for task in tasks if task.state == "failed"]
            if waits and any(state == "awaiting_input" for _, state in now):
                return []
            if now != seen:
                seen, changed = now, time.monotonic()
            if lost and time.monotonic() - changed > STUCK_SECONDS:
                self.move_to(datetime.now(UTC) + UNTIL_LOST)
                changed = time.monotonic()
            if time.monotonic() - began > NIGHT_SECONDS:
                raise NightUnfinished(f"Run {run} of {dag} is {state} after {NIGHT_SECONDS} s: {now}")
            time.sleep(0.5)

    def _say_failed(self, dag: str, run: str, task: TaskState) -> str:
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task.task}/logs/{task.try_number}"
        headers, params = {"accept": "application/json"}, {"map_index": task.map_index}
        answer = self.api._call("GET", path, params=params, headers=headers, accept=(404,))
        details = [
            detail
            for line in answer.get("content", [])
            if isinstance(line, dict)
            for detail in line.get("error_detail") or []
        ]
        errors = [detail["exc_type"] for detail in details if detail["exc_type"] not in WRAPPERS]
        self.say(
            f"{run}: {task.task}: {errors[0] if errors else 'killed'}: {details[0]['exc_value'] if details else ''}"
        )
        return f"{task.task} {errors[0] if errors else 'killed'}"
