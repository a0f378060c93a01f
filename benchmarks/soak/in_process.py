"""The month as plain calls of the pipeline, with a real MLflow server and PostgreSQL on loopback, the clock of the product moved.

Each night is a process of its own, as each task is in Airflow. In the tests, only a night is that is killed or that runs earlier code.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from soak import faults
from soak.faults import Outage
from soak.growth import Measured, measure
from soak.nights import Night
from soak.place import Place, campaign_of, form_of
from soak.plain_run import Attempt, do_night, set_up
from support.basics import ROOT, mlflow_server
from support.clock import Clock
from support.ports import free_port

KILL_AFTER = {"task killed": "add_version", "worker killed": "judge_batch", "scheduler killed": "add_decision"}
"""After which write of the ledger a run is killed: while its task trains, while it validates, and between two tasks."""


class InProcess(Place):
    """Runs each night as plain calls.

    Args:
        folder, monkeypatch, opened, say, with_database, with_small_disk: those of `Place`.
        with_processes: whether each night is a process of its own.
    """

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        opened: ExitStack,
        say: Callable[[str], None],
        with_database: bool = True,
        with_small_disk: bool = True,
        with_processes: bool = True,
    ) -> None:
        self._with_processes, self._last = with_processes, Attempt()
        self._port = free_port()
        super().__init__(folder, monkeypatch, opened, say, self._port, with_database, with_small_disk)
        (folder / "mlflow").mkdir()
        self._mlflow = opened.enter_context(ExitStack())
        monkeypatch.setenv("CHURN_CANDIDATES", "support.candidates:quick")
        set_up(monkeypatch)
        self._start_mlflow()
        self._clock: Clock | None = None

    def move_to(self, moment: datetime) -> None:
        """Let it be this moment for the modules of the product."""
        if self._clock is None:
            self._clock = Clock(self.monkeypatch, moment, ("churn",))
        self._clock.move_to(moment)

    def attempt(self, night: Night, first: bool) -> list[str]:
        """Do the night with plain calls."""
        killed = next((KILL_AFTER[what] for what in night.happens if what in KILL_AFTER), None) if first else None
        if self._with_processes or killed or self.earlier:
            attempt = self._in_its_own_process(night, killed)
        else:
            attempt = do_night(night.run, form_of(night) | _asked_by(night), campaign_of(night))
        self._last = attempt
        for message in attempt.messages:
            self.say(f"night {night.number:2d}: {message}")
        return attempt.failed

    def maintain(self) -> None:
        """Do what churn_maintenance does."""
        faults.maintain(self.open_workspace())

    def let_expire(self, night: Night) -> None:
        """Do what Airflow does when the time for an answer has passed."""
        faults.expire(self.open_workspace(), night.run)

    def mlflow_outage(self) -> Outage:
        """End the server's process, and start another one with the same database."""
        return Outage(self._mlflow.close, self._start_mlflow)

    def change_contract(self, name: str) -> None:
        """Name another contract in the environment."""
        self.monkeypatch.setenv("CHURN_CONTRACT", name)

    def measure(self) -> Measured:
        """The process of the night, ledger, MLflow and data root."""
        databases = {"ledger": self.folder / "ledger.db", "mlflow": self.folder / "mlflow/mlflow.db"}
        folders = {"": self.data, "mlflow artifacts": self.folder / "mlflow/artifacts"}
        measured = measure({}, databases, folders, self.counted_rows())
        if self._last.memory is None or self._last.handles is None:
            return measured
        name = "process of the night"
        return replace(measured, memory={name: self._last.memory}, handles={name: self._last.handles})

    def _start_mlflow(self) -> None:
        folder = self.folder / "mlflow"
        server = mlflow_server(folder, f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts"), port=self._port)
        self._mlflow.enter_context(server)

    def _in_its_own_process(self, night: Night, killed: str | None) -> Attempt:
        spec, target = self.folder / "attempt.json", self.folder / "attempt.done.json"
        target.unlink(missing_ok=True)
        wanted = {
            "run": night.run,
            "moment": night.moment.isoformat(),
            "form": form_of(night) | _asked_by(night),
            "campaign": campaign_of(night),
            "clock": str(ROOT / "tests/support/clock.py"),
            "kill_after": killed,
        }
        spec.write_text(json.dumps(wanted))
        paths = [self.home() / "include", self.home() / "tests", ROOT / "benchmarks"]
        log = self.folder / "attempt.log"
        with log.open("w") as output:
            done = subprocess.run(
                [sys.executable, "-m", "soak.plain_run", str(spec), str(target)],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=600,
            )
        status = -signal.SIGKILL if killed else 0
        if done.returncode != status:
            raise AssertionError(
                f"The process of night {night.number} ended with {done.returncode}, not {status}: {log.read_text()[-2000:]}"
            )
        return Attempt() if killed else Attempt(**json.loads(target.read_text()))


def _asked_by(night: Night) -> dict[str, str]:
    return {"requested_by": faults.PERSON} if form_of(night) else {}
