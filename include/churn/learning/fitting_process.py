"""The process that fits one candidate, with limits of memory and time."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import psutil

import churn
from churn.errors import ChurnError
from churn.learning.candidate_checks import CandidateUnusable
from churn.learning.fitting import Answer, Failure, Setup

_EVERY_SECONDS = 0.1
_CHILDREN_EVERY_SECONDS = 1.0  # to find them takes a look at every process of the machine
_ENDING_SECONDS = 3.0
_MAIN = "from churn.learning.fitting import main; main()"  # not -m, which would give its classes another module
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class CandidateFailed(ChurnError):  # noqa: N818 -- it says what happened
    """A candidate cannot be used: its code failed, or it exceeded its memory or time."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"The candidate {name} {reason}")


@dataclass(frozen=True)
class Limits:
    """Memory in bytes, and time in seconds over all jobs, that one candidate may take."""

    memory: int
    seconds: float


class FittingProcess:
    """A process that fits one candidate. It does one job at a time."""

    def __init__(self, setup: Setup, limits: Limits) -> None:
        self.name, self._limits, self._left = setup.name, limits, limits.seconds
        ours, theirs = Pipe()
        self._pipe = ours
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                process_group=0,  # so that what a candidate starts can be ended with it
            )
        self._watched = psutil.Process(self._process.pid)
        self._started: list[psutil.Process] = []
        self._started_at = -_CHILDREN_EVERY_SECONDS
        self._setup: Any = setup

    def ask(self, job: Any) -> Answer:
        """Let the process do a job.

        Raises:
            CandidateFailed: the candidate raised an error, or exceeded a limit; the process has ended.
            CandidateUnusable: it did what was asked, but cannot be used as it is.
        """
        if self._setup is not None:
            first, self._setup = self._setup, None
            self._ask(first)
            self._left = self._limits.seconds  # to start on a busy machine is not the time of the candidate
        return self._ask(job)

    def _ask(self, job: Any) -> Answer:
        began = time.monotonic()
        try:
            self._pipe.send(job)
            while not self._pipe.poll(_EVERY_SECONDS):
                self._require_limits(time.monotonic() - began)
            answer = self._pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise CandidateFailed(self.name, self._ended()) from error
        finally:
            self._left -= time.monotonic() - began
        if isinstance(answer, Failure) and answer.unusable:
            raise CandidateUnusable(self.name, answer.reason)
        if isinstance(answer, Failure):
            raise CandidateFailed(self.name, f"failed: {answer.reason}")
        return answer  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the process, and those that it started."""
        self._pipe.close()
        if self._process.returncode is None:  # not yet waited for, so the number is still its own
            started = _children(self._watched)  # some may have left the group
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            for each in started:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            self._process.wait()

    def _require_limits(self, seconds: float) -> None:
        if seconds > self._left:
            self.close()
            raise CandidateFailed(
                self.name,
                f"took more than {self._limits.seconds:,.0f} s and was ended. Raise CHURN_CANDIDATE_TIMEOUT, or give it fewer capacities.",
            )
        now = time.monotonic()
        if now - self._started_at >= _CHILDREN_EVERY_SECONDS:
            self._started, self._started_at = _children(self._watched), now
        used = _memory([self._watched, *self._started])
        if used > self._limits.memory:
            self.close()
            raise CandidateFailed(
                self.name,
                f"took {used / 1e6:,.0f} MB of memory, more than {self._limits.memory / 1e6:,.0f} MB, and was ended. "
                "Raise CHURN_CANDIDATE_MEMORY, or lower CHURN_MAX_TRAINING_ROWS.",
            )

    def _ended(self) -> str:
        """Say how the process ended, and end what is left of it."""
        deadline = time.monotonic() + _ENDING_SECONDS
        ended = None
        while ended is None and time.monotonic() < deadline:
            time.sleep(_EVERY_SECONDS)
            ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        self.close()
        if ended is None:
            return "closed the pipe through which it answers, and was ended."
        if ended.si_code == os.CLD_EXITED:
            return f"ended its process with exit status {ended.si_status}, without an error message."
        return (
            f"ended its process by signal {ended.si_status}, without an error message. "
            "A machine out of memory does this, too: give it more, or lower CHURN_MAX_TRAINING_ROWS."
        )


@contextlib.contextmanager
def fitting_processes(setups: list[Setup], limits: Limits) -> Iterator[dict[str, FittingProcess]]:
    """Start a process for each candidate, and end all of them in the end."""
    processes: dict[str, FittingProcess] = {}
    try:
        for setup in setups:
            processes[setup.name] = FittingProcess(setup, limits)
        yield processes
    finally:
        for process in processes.values():
            process.close()


def _environment() -> dict[str, str]:
    """The environment of this process, where modules are found as here; each job says how many threads it may use."""
    folders = [str(Path(churn.__file__).parents[1]), *filter(None, sys.path)]
    ours = {name: value for name, value in os.environ.items() if name not in _THREADS}
    return ours | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(folders))}


def _memory(processes: Iterable[psutil.Process]) -> int:
    """The memory of some processes in bytes."""
    total = 0
    for each in processes:  # one that ends meanwhile needs no memory
        with contextlib.suppress(psutil.NoSuchProcess):
            total += each.memory_info().rss
    return total


def _children(process: psutil.Process) -> list[psutil.Process]:
    """The processes that a process started, and those that these started."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
