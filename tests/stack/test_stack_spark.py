"""A stack of its own with `SPARK=1`: a night in whose middle an executor is killed; backup, restore and an upgrade."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from churn.foundation.links import IMAGE_BUILD, RETRAINING
from churn.local.airflow_api import TaskState
from support.basics import ROOT
from support.stacks import Stack, running_stack, trusting_base, why_no_stack

NIGHT = "night-1"
CONF = "/opt/churn/var/spark.conf"
EVENTS = "/opt/churn/var/events"
KILL = """
import os, pathlib, signal, time

def processes(name):
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if int(folder.name) != os.getpid() and name in (folder / "cmdline").read_bytes():
                yield int(folder.name), (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            pass

begun = time.monotonic()
while time.monotonic() - begun < 400:
    if any(state == "R" for _, state in processes(b"pyspark.daemon")):  # it works on a part
        for executor, _ in processes(b"CoarseGrainedExecutorBackend"):
            os.kill(executor, signal.SIGKILL)
            print("killed")
        break
    time.sleep(0.05)
"""
pytestmark = [pytest.mark.stack, pytest.mark.engine, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if reason := why_no_stack():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("spark-stack")
    settings = {
        "SPARK": "1",
        "SPARK_UI_PORT": "18082",
        "STACK_BASE_IMAGE": base_with_java(folder),
        "CHURN_PART_SIZE": "100KB",
        "CHURN_SPARK_CONF": CONF,
    }
    with running_stack(folder, "churn-spark-test", **settings) as opened:
        yield opened


def base_with_java(folder: Path) -> str:
    """The base of the stack's image with a Java from Debian's packages, because no image build reaches a mirror here."""
    import os

    base = trusting_base(folder, os.environ.get("TEST_BUILD_CA_BUNDLE"))
    context = folder / "java"
    context.mkdir()
    packages = ["openjdk-17-jre-headless", "procps", "libproc2-0"]
    subprocess.run(["apt-get", "download", *packages], cwd=context, check=True, capture_output=True)
    (context / "Dockerfile").write_text(
        f"FROM {base}\nCOPY *.deb /debs/\n"
        "RUN for package in /debs/*.deb; do dpkg -x $package /java; done && cp -r /java/usr/. /usr/ && cp -r /java/bin/. /usr/bin/ || true\n"
        "RUN cp -r /java/etc/. /etc/ && ln -sf /usr/lib/jvm/java-17-openjdk-*/bin/java /usr/bin/java && java -version && rm -rf /debs /java\n"
    )
    docker.from_env(timeout=600).images.build(path=str(context), tag="churn-base-java", rm=True)
    return "churn-base-java"


def run_in(container: Any, *command: str) -> str:
    status, output = container.exec_run(list(command))
    assert status == 0, output
    return str(output.decode())


def kill_an_executor(stack: Stack, killed: list[str], pages: list[tuple[str, int]]) -> None:
    """End the executor of one worker while it works on a part, and open the pages of its application meanwhile."""
    container = stack.containers("spark-worker")[0]
    if "killed" in run_in(container, "python", "-c", KILL):
        killed.append(container.id)
        master = f"http://127.0.0.1:{stack.env['SPARK_UI_PORT']}"
        (running,) = httpx.get(f"{master}/json/", timeout=30).json()["activeapps"]
        page = f"{master}/proxy/{running['id']}/"
        pages.append((page, httpx.get(page, timeout=30, follow_redirects=True).status_code))


def test_a_night_is_promoted_while_an_executor_is_killed(stack: Stack, tmp_path: Path) -> None:
    """With its image; Spark's event log shows tasks of each stage on both machines, and one that the killed executor was running."""
    worker = stack.container("worker")
    settings = (ROOT / "include/stack/spark.conf").read_text().replace(":8082", f":{stack.env['SPARK_UI_PORT']}")
    settings += f"spark.eventLog.enabled true\nspark.eventLog.compress false\nspark.eventLog.dir file://{EVENTS}\nspark.cores.max 2\n"
    run_in(worker, "sh", "-c", f"mkdir -p {EVENTS} && cat >{CONF} <<'END'\n{settings}END")
    stack.land_night(tmp_path, 1)
    killed: list[str] = []
    pages: list[tuple[str, int]] = []
    killer = threading.Thread(target=kill_an_executor, args=(stack, killed, pages), daemon=True)
    killer.start()
    stack.admin.trigger(RETRAINING, NIGHT, {})
    assert stack.follow(RETRAINING, NIGHT, timeout=1200) == "success", why_failed(stack, NIGHT)
    killer.join(1)
    assert killed
    (page,) = pages
    assert page[1] == 200
    assert page[0] in [spark_link(stack, entry) for entry in stack.admin.task_states(RETRAINING, NIGHT)]
    (promotion,) = json.loads(stack.churn("history", "--json").stdout)
    assert (promotion["version"], promotion["night"]) == (1, NIGHT)
    (batch,) = json.loads(stack.churn("batches", "--json").stdout)
    assert batch["arrived_rows"] == batch["accepted_rows"] + batch["quarantined_rows"]
    stack.churn("audit", "--hashes")
    assert stack.follow(IMAGE_BUILD, "image-of-version-1") == "success"
    applications = read_events(worker)
    assert applications
    hosts = {end["Task Info"]["Host"] for ends in applications for end in ends}
    assert len(hosts) == 2
    assert [end for ends in applications for end in ends if end["Task End Reason"]["Reason"] == "ExecutorLostFailure"]
    for ends in applications:
        executors: dict[int, set[str]] = defaultdict(set)
        for end in ends:
            executors[end["Stage ID"]].add(end["Task Info"]["Executor ID"])
        assert max(map(len, executors.values())) >= 2


def test_backup_and_restore_keep_the_cluster(stack: Stack, tmp_path: Path) -> None:
    """Also if `SPARK=1` was given to `make up` in the shell and stands in no file."""
    text = stack.env_file.read_text()
    stack.env_file.write_text(text.replace("SPARK=1\n", "", 1))
    try:
        before = stack.churn("batches", "--json").stdout
        output = stack.make("backup", BACKUP=str(tmp_path / "saved"))
        assert "All services are healthy" in output
        assert on_spark(stack)
        run_night(stack, tmp_path, 2)
        assert stack.churn("batches", "--json").stdout != before
        assert "All services are healthy" in stack.make("restore", BACKUP=str(tmp_path / "saved"))
        assert on_spark(stack)
    finally:
        stack.env_file.write_text(text)
    assert stack.churn("batches", "--json").stdout == before
    stack.churn("audit", "--hashes")
    stack.churn("replay", "--all")
    run_night(stack, tmp_path, 3)


def test_an_upgrade_takes_the_cluster_with_it(stack: Stack, tmp_path: Path) -> None:
    """Executors of the earlier image would refuse to work for the new one."""
    context = tmp_path / "newer"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {stack.env['STACK_BASE_IMAGE']}\nENV NEWER=1\n")
    docker.from_env(timeout=600).images.build(path=str(context), tag="churn-base-newer", rm=True)
    output = stack.make("up", STACK_BASE_IMAGE="churn-base-newer")
    assert "The image has changed" in output
    assert "All services are healthy" in output
    (image,) = {each.image.id for name in ("worker", "spark-master", "spark-worker") for each in stack.containers(name)}
    assert image == docker.from_env().images.get(stack.image).id
    assert on_spark(stack)
    run_night(stack, tmp_path, 4)


def on_spark(stack: Stack) -> bool:
    """Whether tasks are told to use the cluster, and all of it is well."""
    stack.wait_until_well("spark-master", "spark-worker")
    environment = stack.container("worker").attrs["Config"]["Env"]
    return "CHURN_SPREAD=spark" in environment and len(stack.containers("spark-worker")) == 2


def run_night(stack: Stack, folder: Path, number: int) -> None:
    """A night, after whose intake the cluster has finished an application more."""
    before = finished(stack)
    stack.land_night(folder, number)
    run = f"night-{number}"
    stack.admin.trigger(RETRAINING, run, {})
    assert stack.follow(RETRAINING, run, timeout=1200) == "success", why_failed(stack, run)
    assert finished(stack) > before


def finished(stack: Stack) -> int:
    """The number of applications that the master has seen end."""
    page = httpx.get(f"http://127.0.0.1:{stack.env['SPARK_UI_PORT']}/json/", timeout=30).json()
    return len(page["completedapps"])


def spark_link(stack: Stack, entry: TaskState) -> str | None:
    """The link of a task to the pages of its application."""
    task = f"/api/v2/dags/{RETRAINING}/dagRuns/{NIGHT}/taskInstances/{entry.task}"
    found = stack.admin._call("GET", f"{task}/links", params={"map_index": entry.map_index})
    return found["extra_links"].get("Spark")


def why_failed(stack: Stack, run: str) -> str:
    failed = [entry for entry in stack.admin.task_states(RETRAINING, run) if entry.state == "failed"]
    return "\n".join(f"{entry.task}: {stack.admin.why_failed(RETRAINING, run, entry)}" for entry in failed)


def read_events(container: Any) -> list[list[dict[str, Any]]]:
    """The ends of the tasks of each application."""
    stream, _ = container.get_archive(EVENTS)
    found = []
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        for member in archive.getmembers():
            if member.isfile() and "events_" in member.name:
                content = archive.extractfile(member)
                assert content is not None
                events = [json.loads(line) for line in content.read().decode().splitlines()]
                found.append([event for event in events if event["Event"] == "SparkListenerTaskEnd"])
    return [ends for ends in found if ends]
