"""When work on a part fails, nothing of it goes on behind the caller's back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from churn.foundation.spread import Here, by_threads
from support.basics import ROOT


@by_threads
def _fail_or_write(folder: Path, part: int) -> int:
    if part == 0:
        raise ValueError("the first part")
    time.sleep(0.3)
    (folder / str(part)).write_text("written late")
    return part


def test_threads_finish_what_they_have_begun_before_an_error_is_raised(tmp_path: Path) -> None:
    """The folder of the caller is not written to after the error, and parts that had not begun never do."""
    with pytest.raises(ValueError, match="the first part"):
        list(Here(2, "1GB").each(partial(_fail_or_write, tmp_path), range(20)))
    written = set(tmp_path.iterdir())
    time.sleep(0.5)
    assert set(tmp_path.iterdir()) == written
    assert len(written) < 10


def test_results_are_in_the_order_of_the_parts(tmp_path: Path) -> None:
    """With threads too, and more parts than are begun at once."""
    (tmp_path / "x").mkdir()
    assert list(Here(2, "1GB").each(partial(_fail_or_write, tmp_path / "x"), range(1, 9))) == list(range(1, 9))


_SPREADS = """
import sys
from functools import partial
from pathlib import Path
from churn.foundation.spread import Here
from support.spread_work import write_process_id
list(Here(2, "1GB").each(partial(write_process_id, Path(sys.argv[1])), range(1000)))
"""


@pytest.mark.parametrize("moment", ["while they start", "while they work"])
def test_workers_end_soon_after_their_parent_was_killed(moment: str, tmp_path: Path) -> None:
    """They do not wait for work for minutes, each with its memory."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    parent = subprocess.Popen([sys.executable, "-c", _SPREADS, str(tmp_path)], env=environment)
    works = moment == "while they work"
    _wait_until(lambda: len(list(tmp_path.glob("*.worker")) if works else _workers(parent.pid)) == 2, 60)
    workers = _workers(parent.pid)
    parent.kill()
    parent.wait(10)
    assert len(workers) == 2
    _wait_until(lambda: not any(map(_runs, workers)), 30)
    assert len(list(tmp_path.glob("*.worker"))) == (2 if works else 0)


def _workers(parent: int) -> list[int]:
    """The worker processes of a process."""
    children = [(child.pid, " ".join(child.cmdline())) for child in psutil.Process(parent).children()]
    return [pid for pid, command in children if "LokyProcess" in command]


def _wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    """Whether a process of this number works; one that has ended may wait for its new parent to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
