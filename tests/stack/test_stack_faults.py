"""Any one part is lost during a night, and the night still ends in its verdict with nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from churn.foundation.links import RETRAINING
from churn.local.airflow_api import FINAL
from support.stacks import Stack

pytestmark = [pytest.mark.engine, pytest.mark.stack, pytest.mark.timeout(1200)]
MAINTENANCE = "churn_maintenance"
NUMBERS = count(1)
CRASHED = 60
"""Seconds for which S3 is away."""


def _kill(stack: Stack, service: str) -> None:
    """End the first process of a service's container as a crash would: Docker restarts it, which it does not after its own kill."""
    container = stack.containers(service)[0]
    os.kill(container.attrs["State"]["Pid"], signal.SIGKILL)


def _lose_s3(stack: Stack) -> None:
    """S3 neither answers nor refuses for a minute."""
    container = stack.container("seaweedfs")
    container.pause()
    try:
        time.sleep(CRASHED)
    finally:
        container.unpause()


def _fill_disk(stack: Stack) -> None:
    """The worker's disk for scratch is full for half a minute."""
    container = stack.containers("worker")[0]
    fill = "file = open('/opt/churn/var/tmp/full', 'wb', 0)\nwhile True: file.write(bytes(1 << 20))"
    assert b"No space left on device" in container.exec_run(["python", "-c", fill]).output
    try:
        time.sleep(30)
    finally:
        container.exec_run(["rm", "-f", "/opt/churn/var/tmp/full"])


FAULTS: dict[str, tuple[str, Callable[[Stack], None]]] = {
    "worker": ("train", lambda stack: _kill(stack, "worker")),
    "scheduler": ("train", lambda stack: _kill(stack, "scheduler")),
    "mlflow": ("train", lambda stack: _kill(stack, "mlflow")),
    "postgres": ("train", lambda stack: _kill(stack, "postgres")),
    "redis": ("arrive", lambda stack: _kill(stack, "redis")),
    "api-server": ("train", lambda stack: _kill(stack, "api-server")),
    "s3": ("arrive", _lose_s3),
    "disk": ("arrive", _fill_disk),
}
"""What is lost, and during which task of the night."""


def _build_clock(folder: Path) -> Path:
    """A library that gives a program another clock. (Debian's libfaketime breaks Python's sleep unless it fakes intervals too.)"""
    library = folder / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    return library


def _wait_for(stack: Stack, run: str, task: str) -> None:
    deadline = time.monotonic() + 120
    while not any(
        entry.task == task and entry.state == "running" for entry in stack.admin.task_states(RETRAINING, run)
    ):
        assert time.monotonic() < deadline, f"{task} of {run} does not begin"
        time.sleep(0.2)


def _assert_whole(stack: Stack, *runs: str) -> None:
    """Every night has one decision that can be made again and one version; every row is accounted for; ledger and registry agree."""
    stack.follow_image()
    for run in runs:
        stack.churn("replay", run)
    stack.churn("audit")
    stack.churn("status")
    pipeline = stack.mlflow("churn", stack.env["MLFLOW_PIPELINE_PASSWORD"])
    listed = pipeline.get("/api/2.0/mlflow/model-versions/search", params={"filter": "name='churn'"}).json()
    nights = [
        {tag["key"]: tag["value"] for tag in entry["tags"]}.get("churn.night") for entry in listed["model_versions"]
    ]
    assert len(nights) == len(set(nights)), nights
    assert all(batch["state"] == "accepted" for batch in json.loads(stack.churn("batches", "--json").stdout))


@pytest.mark.parametrize("lost", list(FAULTS))
def test_a_night_survives_the_loss_of(stack: Stack, lost: str, tmp_path: Path) -> None:
    """Killed as by a crash, or away for a minute, in the middle of a night."""
    number = next(NUMBERS)
    stack.land_night(tmp_path, number)
    task, fault = FAULTS[lost]
    run = f"without-{lost}"
    stack.admin.trigger(RETRAINING, run, {})
    _wait_for(stack, run, task)
    fault(stack)
    assert stack.follow(RETRAINING, run, timeout=900) == "success"
    stack.wait_until_well("postgres", "redis", "seaweedfs", "mlflow", "api-server", "scheduler", "worker", "builder")
    _assert_whole(stack, run)


@pytest.mark.skipif(shutil.which("cc") is None, reason="the other clock is compiled, and there is no cc")
def test_a_night_survives_a_clock_that_jumps(stack: Stack, tmp_path: Path) -> None:
    """The worker's clock is five minutes ahead from one moment of the training to the next."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    fake = {"CLOCK_LIBRARY": str(_build_clock(tmp_path)), "CLOCK_FILE": str(clock), "CLOCK_PRELOAD": "/clock.so"}
    stack.compose("up", "-d", "--no-deps", "worker", **fake)
    try:
        stack.wait_until_well("worker")
        stack.land_night(tmp_path, next(NUMBERS))
        stack.admin.trigger(RETRAINING, "jumping-clock", {})
        _wait_for(stack, "jumping-clock", "train")
        clock.write_text("300")
        told = float(stack.container("worker").exec_run(["python", "-c", "import time; print(time.time())"]).output)
        assert told - time.time() > 200
        assert stack.follow(RETRAINING, "jumping-clock") == "success"
        _assert_whole(stack, "jumping-clock")
    finally:
        stack.compose("up", "-d", "--no-deps", "worker")
        stack.wait_until_well("worker")


def test_a_task_that_is_killed_at_its_last_try_is_told(stack: Stack) -> None:
    """What the kernel ends for its memory cannot say so itself: each try of the image's part is killed, and the run speaks."""
    stack.admin.trigger(MAINTENANCE, "killed", {"dry_run": True})
    deadline = time.monotonic() + 400
    while stack.admin.run_state(MAINTENANCE, "killed") not in FINAL:
        assert time.monotonic() < deadline
        for process in _task_processes(stack, "builder"):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    assert stack.admin.run_state(MAINTENANCE, "killed") == "failed"
    while (told := json.loads(stack.churn("alerts", "--json").stdout)[0])["kind"] != "task_failed":
        assert time.monotonic() < deadline, told
    assert told["subject"] == "A run of churn_maintenance failed"
    assert "it was killed" in told["text"]


def _task_processes(stack: Stack, service: str) -> list[int]:
    """The processes in which tasks run, by the title that Airflow gives them."""
    listed = stack.container(service).top(ps_args="-eo pid,args")["Processes"]
    return [int(pid) for pid, title in listed if title.startswith("airflow worker -- ")]


def test_two_nights_at_once_are_one_after_the_other(stack: Stack, tmp_path: Path) -> None:
    """One of them takes what arrived; the other finds nothing new, or takes what the first has left."""
    number = next(NUMBERS)
    stack.land_night(tmp_path, number)
    for name in ("twin-1", "twin-2"):
        stack.admin.trigger(RETRAINING, name, {})
    assert {stack.follow(RETRAINING, name) for name in ("twin-1", "twin-2")} == {"success"}
    _assert_whole(stack)


def test_the_tasks_of_a_night_run_on_two_workers(stack: Stack, tmp_path: Path) -> None:
    """`--scale worker=2`: each with a disk of its own, and tasks of one night on both."""
    stack.compose("up", "-d", "--no-recreate", "--scale", "worker=2", "worker")
    stack.wait_until_well("worker")
    hosts: set[str] = set()
    for round_ in range(4):
        for _ in range(6):
            stack.land_night(tmp_path, next(NUMBERS))
        run = f"shared-{round_}"
        stack.admin.trigger(RETRAINING, run, {})
        assert stack.follow(RETRAINING, run) == "success"
        listed = stack.admin._call("GET", f"/api/v2/dags/{RETRAINING}/dagRuns/{run}/taskInstances")["task_instances"]
        hosts = {entry["hostname"] for entry in listed if entry["hostname"]}
        _assert_whole(stack, run)
        if len(hosts) > 1:
            break
    assert hosts == {entry.id[:12] for entry in stack.containers("worker")}
