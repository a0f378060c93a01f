"""A real standalone cluster of Spark on loopback: a master and two workers, each a process of its own."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from churn.foundation.spark.session import PACKAGES, SparkMissing, SparkPlace, close_sessions, require_java
from support.ports import free_port

CONF = """
spark.driver.host 127.0.0.1
spark.driver.bindAddress 127.0.0.1
spark.executor.cores 1
spark.executor.memory 512m
spark.cores.max 2
spark.network.timeout 30s
spark.network.timeoutInterval 10s
spark.executor.heartbeatInterval 5s
spark.python.worker.faulthandler.enabled false
spark.executorEnv.PYTHONPATH {tests}
"""
HOSTS = {"worker-2": "127.0.0.2"}
"""A second machine, as far as Spark knows: it never makes two attempts at one part on the same one."""
_STARTED = 60  # seconds


def why_not() -> str | None:
    """Why no cluster can run here; None if one can."""
    try:
        require_java()
    except SparkMissing as error:
        return str(error)
    return None if (PACKAGES / "pyspark").is_dir() else f"Spark is not installed in {PACKAGES}."


@dataclass
class SparkCluster:
    """A running cluster. Its workers have temporary folders of their own, so that only shared files are seen by others."""

    folder: Path
    port: int = field(default_factory=free_port)
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def master(self) -> str:
        """The address of the master."""
        return f"spark://127.0.0.1:{self.port}"

    @property
    def events(self) -> Path:
        """The folder of the event logs."""
        return self.folder / "events"

    def place(self, more: str = "") -> SparkPlace:
        """The place of the cluster in the settings of a task, with more of Spark's settings."""
        file = self.folder / f"conf-{len(list(self.folder.glob('conf-*')))}"
        file.write_text(
            f"{CONF.format(tests=Path(__file__).parents[1])}spark.eventLog.enabled true\nspark.eventLog.compress false\nspark.eventLog.dir file://{self.events}\n{more}\n"
        )
        return SparkPlace(self.master, file, self.secret)

    def start(self, name: str, environment: Mapping[str, str] | None = None) -> None:
        """Start the master or a worker, and wait until it has registered."""
        own = self.folder / name
        own.mkdir(exist_ok=True)
        settings = self.folder / "processes.conf"
        settings.write_text(
            "spark.authenticate true\nspark.network.crypto.enabled true\nspark.worker.cleanup.enabled true\n"
        )
        role = ["master.Master", "--port", str(self.port)] if name == "master" else ["worker.Worker", self.master]
        more = [] if name == "master" else ["--cores", "1", "--memory", "1g", "--work-dir", str(own / "work")]
        log = (own / "log").open("ab")
        before = log.tell()
        self.processes[name] = subprocess.Popen(
            [
                str(PACKAGES / "pyspark/bin/spark-class"),
                f"org.apache.spark.deploy.{role[0]}",
                *(
                    "--host",
                    HOSTS.get(name, "127.0.0.1"),
                    "--webui-port",
                    str(free_port()),
                    "--properties-file",
                    str(settings),
                ),
                *role[1:-1],
                *([role[-1]] if name == "master" else []),
                *more,
                *([] if name == "master" else [role[-1]]),
            ],
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "_SPARK_AUTH_SECRET": self.secret,
                "SPARK_LOCAL_DIRS": str(own / "local"),
                "TMPDIR": str(own),
                "SPARK_DAEMON_MEMORY": "256m",
                "TEST_DIVISION": "whole-2",  # an executor that imports a test's module must not start a cluster of its own
                **(environment or {}),
            },
            start_new_session=True,
        )
        log.close()
        said = "I have been elected leader" if name == "master" else "Successfully registered with master"
        self._wait_for(name, said, before)

    def kill(self, name: str) -> None:
        """End a process of the cluster, and what it started, as the kernel would."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)

    def stop(self) -> None:
        """End all processes, and delete their files."""
        close_sessions()
        for name in list(self.processes):
            self.kill(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_for(self, name: str, said: str, start: int) -> None:
        log, begun = self.folder / name / "log", time.monotonic()
        while said.encode() not in log.read_bytes()[start:]:
            if time.monotonic() - begun > _STARTED or self.processes[name].poll() is not None:
                raise RuntimeError(f"Spark's {name} did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)


@cache
def shared_cluster() -> SparkCluster:
    """The cluster that the tests of this process share; it ends with the process."""
    cluster = SparkCluster(Path(tempfile.mkdtemp(prefix="churn-spark-")))
    cluster.events.mkdir()
    atexit.register(cluster.stop)
    for name in ("master", "worker-1", "worker-2"):
        cluster.start(name)
    return cluster
