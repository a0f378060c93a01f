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
from typing import NoReturn

import psutil
import pytest

from churn.foundation.links import IMAGE_BUILD, RETRAINING, SCORING
from churn.local import processes, services
from churn.local.airflow_api import AirflowApi
from churn.local.processes import Run
from churn.settings import Settings
from soak.by_airflow import CANDIDATES, MAINTENANCE, ByAirflow, NightUnfinished
from soak.faults import Outage
from soak.growth import Measured, measure
from soak.nights import Night
from support.basics import ROOT
from support.ports import free_port

LIBRARY, CLOCK = "clock.so", "CLOCK_FILE"
WATCH = "churn_watch"


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


class Local(ByAirflow):
    """Runs each night through the local Airflow; the arguments are those of `Place`, without the port."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, opened: ExitStack, say: Callable[[str], None]
    ) -> None:
        airflow, mlflow = free_port(), free_port()
        super().__init__(folder, monkeypatch, opened, say, mlflow)
        ports = {"CHURN_AIRFLOW_PORT": str(airflow), "CHURN_MLFLOW_PORT": str(mlflow)}
        for name, value in (ports | {"CHURN_SCHEDULE": "", "CHURN_CANDIDATES": CANDIDATES}).items():
            monkeypatch.setenv(name, value)  # runs are triggered
        self._code: Path | None = None
        self._api: AirflowApi
        self._var = folder / "var"
        opened.callback(lambda: services.stop(self._place()))

    @property
    def api(self) -> AirflowApi:
        """The API of the Airflow that runs now."""
        return self._api

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

    def maintain(self) -> None:
        """Wait for the scheduled run of churn_maintenance, which is due."""
        deadline = time.monotonic() + 300
        while not (found := self.newest_runs(MAINTENANCE)) or datetime.fromisoformat(
            found[0]["run_after"]
        ) < datetime.now(UTC) - timedelta(hours=2):  # an hour more on the day on which clocks are put forward
            if time.monotonic() > deadline:
                raise NightUnfinished("Airflow has not started the weekly maintenance.")
            time.sleep(1)
        failed = self.follow(MAINTENANCE, found[0]["dag_run_id"])
        if failed:
            raise NightUnfinished(f"The weekly maintenance failed: {', '.join(failed)}.")

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
        self._api = services.airflow_api(settings, self._place())

    def _pids(self) -> dict[str, int]:
        run = Run.read(self._place())
        return {service.name: service.pid for service in run.services} if run else {}

    def kill(self, what: str) -> None:
        """End the process of a task, the worker that runs it, or the scheduler, which is started again."""
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
