"""The processes of the local services: recorded when they start, found again, and stopped.

Every service leads a session of its own, and all of them inherit one random mark in their environment. A process is found by
three independent traces (record, session, mark), so that a killed parent, an orphan or a reused process id does no harm.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from churn.checkout import HOME
from churn.errors import ChurnError
from churn.settings import VAR

MARK = "EMBEDDED_RUN"
GRACE_SECONDS = 6.0
KILL_ROUNDS = 5


class LocalError(ChurnError):
    """A local service cannot be started or stopped; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Place:
    """Where the local services read DAGs and plugins from, and keep what they write."""

    home: Path = HOME
    var: Path = VAR

    @property
    def secrets(self) -> Path:
        """Files that only this user can read."""
        return self.var / "secrets"

    @property
    def state(self) -> Path:
        """What is running, for the next command."""
        return self.var / "embedded.json"

    def log(self, service: str) -> Path:
        """The log of one service; the log of its previous run is beside it."""
        return self.var / "log" / f"{service}.log"


@dataclass(frozen=True)
class Service:
    """A process that was started. `created` distinguishes it from a later one with the same id."""

    name: str
    pid: int
    created: float


@dataclass
class Run:
    """What `start` started. Recorded after every process, so that a killed `start` can be cleaned up."""

    airflow_port: int
    mlflow_port: int
    mark: str = field(default_factory=lambda: secrets.token_hex(16))
    started: float = field(default_factory=time.time)
    services: list[Service] = field(default_factory=list)

    @classmethod
    def read(cls, place: Place) -> Run | None:
        """The recorded run, or None."""
        try:
            stored = json.loads(place.state.read_text())
        except FileNotFoundError:
            return None
        return cls(**{**stored, "services": [Service(**service) for service in stored["services"]]})

    def write(self, place: Place) -> None:
        """Record it, completely or not at all."""
        new = place.state.with_suffix(".new")
        new.write_text(json.dumps(asdict(self), indent=1))
        new.replace(place.state)


def end(run: Run, place: Place) -> int:
    """Send SIGTERM, wait, then send SIGKILL until no process is left."""
    ended: set[int] = set()
    for signum, seconds in [(signal.SIGTERM, GRACE_SECONDS), *[(signal.SIGKILL, 2.0)] * KILL_ROUNDS]:
        left = members(run)
        if not left:
            break
        for process in left:
            ended.add(process.pid)
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signum)
        deadline = time.monotonic() + seconds  # not psutil.wait_procs: it waits for a zombie that nobody reaps
        while any(map(is_running, left)) and time.monotonic() < deadline:
            time.sleep(0.05)
    if left := members(run):
        pids = ", ".join(str(process.pid) for process in left)
        raise LocalError(f"Processes {pids} do not end, even after SIGKILL. Try `churn local stop` again.")
    for service in run.services:
        with suppress(ChildProcessError):
            os.waitpid(service.pid, os.WNOHANG)  # started by this process: leave no zombie
    place.state.unlink(missing_ok=True)
    return len(ended)


def members(run: Run) -> list[psutil.Process]:
    """Every running process of a run, found by record, session, mark and descent."""
    rebooted = psutil.boot_time() > run.started + 1
    # The id of a session is not reused while a member lives, so its leader need not exist any more.
    sessions = {s.pid for s in run.services if not rebooted and (is_same_process(s) or not psutil.pid_exists(s.pid))}
    members: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        # Other users' processes hide their environment, and processes may end at any time.
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) in sessions or process.environ().get(MARK) == run.mark:
                members |= {child.pid: child for child in [process, *process.children(recursive=True)]}
    members.pop(os.getpid(), None)
    return [process for process in members.values() if is_running(process)]


def is_same_process(service: Service) -> bool:
    """Whether the process is still the one that was started, and not another with the same id."""
    with suppress(psutil.Error):
        process = psutil.Process(service.pid)
        return abs(process.create_time() - service.created) < 1 and is_running(process)
    return False


def is_running(process: psutil.Process) -> bool:
    """Whether the process is running and not a zombie."""
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
