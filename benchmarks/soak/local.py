"""The month on the local Airflow and MLflow that `make run` starts, with the clock of all their processes moved.

The clock is a library that the system loads into each process; this one has to run under it too, so `run_under_clock` starts it anew.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest

from churn.foundation.links import IMAGE_BUILD, RETRAINING, SCORING
from churn.local import processes, services
from churn.local.airflow_api import FINAL, AirflowApi, TaskState
from churn.local.processes import Run
from churn.settings import Settings
from soak.faults import Outage
from soak.growth import Measured, measure
from soak.nights import Night
from soak.place import KILLED, Place, campaign_of, form_of
from support.basics import ROOT
from support.ports import free_port

LIBRARY, CLOCK = "clock.so", "CLOCK_FILE"
WATCH, MAINTENANCE = "churn_watch", "churn_maintenance"
KILLED_IN = {"task killed": "train", "worker killed": "train", "scheduler killed": "compare"}
"""During which task a process is killed."""
NIGHT_SECONDS, STUCK_SECONDS = 1500, 45
UNTIL_LOST = timedelta(minutes=6)
"""Airflow takes a task for lost whose worker has not been heard of for five minutes: the clock is moved by this time."""
WRAPPERS = frozenset({"AirflowFailException", "AirflowException"})


class NightUnfinished(Exception):  # noqa: N818 -- it says what is wrong
    """A run of Airflow did not end in time."""


def clock_folder() -> Path | None:
    """The folder of the clock under which this program runs, which nothing needs after the month; None if it runs under none."""
    return Path(os.environ[CLOCK]).parent if os.environ.get(CLOCK) else None


def run_under_clock() -> NoReturn:
    """Build the clock, and start this program anew under it."""
    folder = Path(tempfile.mkdtemp(prefix="churn-soak-clock-"))
    source = ROOT / "tests/stack/clock.c"
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(folder / LIBRARY), str(source), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    (folder / "clock").write_text("0")
    environment = os.environ | {CLOCK: str(folder / "clock"), "LD_PRELOAD": str(folder / LIBRARY)}
    os.execve(sys.executable, [sys.executable, "-m", "soak", *sys.argv[1:]], environment)  # noqa: S606 -- this very program


class Local(Place):
    """Runs each night through the local Airflow; the arguments are those of `Place`, without the port."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, opened: ExitStack, say: Callable[[str], None]
    ) -> None:
        airflow, mlflow = free_port(), free_port()
        super().__init__(folder, monkeypatch, opened, say, mlflow)
        ports = {"CHURN_AIRFLOW_PORT": str(airflow), "CHURN_MLFLOW_PORT": str(mlflow)}
        for name, value in (ports | {"CHURN_SCHEDULE": "", "CHURN_MAX_TRAINING_ROWS": "6000"}).items():
            monkeypatch.setenv(name, value)  # runs are triggered, and the fits are small
        self._code: Path | None = None
        self._var = folder / "var"
        opened.callback(lambda: services.stop(self._place()))

    def begin(self, night: Night) -> None:
        """Move the clock, and run the services with the code of the night."""
        super().begin(night)
        if self.home() != self._code:
            services.stop(self._place())
            self._code = self.home()
            self._start()

    def move_to(self, moment: datetime) -> None:
        """Let it be this moment for every process."""
        clock = Path(os.environ[CLOCK])
        real = datetime.now(UTC) - timedelta(seconds=int(clock.read_text()))
        new = clock.with_suffix(".new")
        new.write_text(str(int((moment - real).total_seconds())))
        new.replace(clock)

    def attempt(self, night: Night, first: bool) -> list[str]:
        """Trigger the runs of a night, or clear them; returns the tasks that failed."""
        killed = next((what for what in night.happens if what in KILLED), None)
        campaign = campaign_of(night)
        if first:
            self._api.trigger(RETRAINING, night.run, form_of(night))
            if killed:
                self._kill(killed, night)
                return []
        elif not killed:
            self._clear(RETRAINING, night.run)
        failed = self._follow(RETRAINING, night.run, lost=bool(killed))
        failed += self._follow_others()
        if campaign:
            run = f"{night.run}-{campaign}"
            if first:
                self._api.trigger(SCORING, run, {"campaign": campaign})
            else:
                self._clear(SCORING, run)
            failed += self._follow(SCORING, run)
        return failed

    def maintain(self) -> None:
        """Wait for the scheduled run of churn_maintenance, which is due."""
        deadline = time.monotonic() + 300
        while not (found := self._runs(MAINTENANCE)) or datetime.fromisoformat(found[0]["run_after"]) < datetime.now(
            UTC
        ) - timedelta(hours=1):
            if time.monotonic() > deadline:
                raise NightUnfinished("Airflow has not started the weekly maintenance.")
            time.sleep(1)
        failed = self._follow(MAINTENANCE, found[0]["dag_run_id"])
        if failed:
            raise NightUnfinished(f"The weekly maintenance failed: {', '.join(failed)}.")

    def let_expire(self, night: Night) -> None:
        """Wait until Airflow has ended the question that nobody has answered."""
        self._follow(RETRAINING, night.run, waits=False)

    def mlflow_outage(self) -> Outage:
        """End the process of MLflow; `make run` starts everything again that is missing."""

        def begin() -> None:
            pid = self._pids()["mlflow"]
            os.killpg(pid, signal.SIGTERM)
            psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=30)

        return Outage(begin, self._start)

    def change_contract(self, name: str) -> None:
        """Name another contract in the environment of the services, which takes a restart."""
        self.monkeypatch.setenv("CHURN_CONTRACT", name)
        services.stop(self._place())
        self._start()

    def measure(self) -> Measured:
        """The services, ledger, MLflow, Airflow and data root."""
        databases = {
            "ledger": self.folder / "ledger.db",
            "mlflow": self._var / "mlflow/mlflow.db",
            "airflow": self._var / "airflow/airflow.db",
        }
        folders = {
            "": self.data,
            "mlflow artifacts": self._var / "mlflow/artifacts",
            "airflow logs": self._var / "airflow/logs",
        }
        return measure(self._pids(), databases, folders, self.counted_rows())

    def _place(self) -> processes.Place:
        return processes.Place(self._code or ROOT, self._var)

    def _start(self) -> None:
        paths = [self._place().home / "include", ROOT / "benchmarks"]
        self.monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))
        settings = Settings.load()
        services.start(settings, self.say, self._place())
        services.wait_for_dags(settings, (RETRAINING, IMAGE_BUILD, SCORING, WATCH, MAINTENANCE), 180, self._place())
        self._api: AirflowApi = services.airflow_api(settings, self._place())

    def _pids(self) -> dict[str, int]:
        run = Run.read(self._place())
        return {service.name: service.pid for service in run.services} if run else {}

    def _runs(self, dag: str) -> list[dict[str, Any]]:
        """The newest runs of a DAG."""
        answer = self._api._call("GET", f"/api/v2/dags/{dag}/dagRuns", params={"order_by": "-run_after", "limit": 5})
        return list(answer["dag_runs"])

    def _clear(self, dag: str, run: str) -> None:
        """Clear all tasks of a run, as a person does once the cause of a failure is gone."""
        body = {"dag_run_id": run, "dry_run": False, "only_failed": False, "reset_dag_runs": True}
        self._api._call("POST", f"/api/v2/dags/{dag}/clearTaskInstances", json=body)

    def _follow_others(self) -> list[str]:
        """Follow the runs that a promotion has started: the image, then the list."""
        failed = []
        for dag in (IMAGE_BUILD, SCORING):
            for run in self._api.active_runs(dag):
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
            state, tasks = self._api.run_state(dag, run), self._api.task_states(dag, run)
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
        answer = self._api._call("GET", path, params=params, headers=headers, accept=(404,))
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

    def _kill(self, what: str, night: Night) -> None:
        """Kill the process of a task, the worker that runs it, or the scheduler, while the task runs."""
        deadline = time.monotonic() + 300
        while not any(
            task.task == KILLED_IN[what] and task.state == "running"
            for task in self._api.task_states(RETRAINING, night.run)
        ):
            if time.monotonic() > deadline:
                raise NightUnfinished(f"The task {KILLED_IN[what]} of {night.run} does not begin.")
            time.sleep(0.1)
        scheduler = psutil.Process(self._pids()["scheduler"])
        busy = [worker for worker in scheduler.children() if worker.children()]
        if what == "scheduler killed":
            scheduler.kill()
            scheduler.wait(30)
            self._start()
        elif what == "worker killed":
            busy[0].kill()
        else:
            busy[0].children(recursive=True)[-1].kill()
