"""Ten nights of the month on the stack of docker-compose.yaml, with two workers and an image for each promotion.

Its clock stands: S3 refuses requests that are signed at another time. All nights are of today, and the rows of their files are as of a
week ago. The table's marks say which nights; those that depend on days having passed are not among them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from churn.local.airflow_api import AirflowApi
from soak.by_airflow import CANDIDATES, MAINTENANCE, ByAirflow, NightUnfinished
from soak.faults import Outage
from soak.files import Bank
from soak.growth import Measured
from soak.nights import Night
from soak.place import RETENTION
from support.basics import ROOT, SALT
from support.ports import free_port
from support.stacks import Stack, running_stack, why_no_stack

PROJECT, WORKERS = "churn-soak", 2
REPORTED = timedelta(days=7)
"""The rows of all files are as of this time ago, so that their labels are final."""
TASKS = """
import os, signal, sys
from pathlib import Path

for folder in Path("/proc").glob("[0-9]*"):
    try:
        if (folder / "cmdline").read_bytes().startswith(b"airflow worker"):
            print(folder.name)
            if sys.argv[1] == "task killed":
                os.kill(int(folder.name), signal.SIGKILL)
    except OSError:
        pass
"""
"""Lists the processes of the tasks that a worker runs, and may kill them."""


class OnStack(ByAirflow):
    """Runs each night on a stack of its own, which is removed in the end; the arguments are those of `Place`, without the port."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, opened: ExitStack, say: Callable[[str], None]
    ) -> None:
        if reason := why_no_stack():
            raise SystemExit(f"There is no stack here: {reason}.")
        super().__init__(folder, monkeypatch, opened, say, 0, with_database=False, with_small_disk=False)
        self._bank = Bank(reported=datetime.now(UTC).date() - REPORTED)
        self._ports = {"SOAK_POSTGRES_PORT": str(free_port()), "SOAK_S3_PORT": str(free_port())}
        self.policy.chmod(0o644)
        self.folder.chmod(0o755)
        say(f"starting a stack with {WORKERS} workers")
        self._stack: Stack = opened.enter_context(
            running_stack(folder, PROJECT, (ROOT / "benchmarks/soak/stack.yaml",), **self._settings_of_the_stack())
        )
        for name, value in self._settings_of_this_process().items():
            monkeypatch.setenv(name, value)

    @property
    def api(self) -> AirflowApi:
        """The API of the stack's Airflow."""
        return self._stack.admin

    def move_to(self, moment: datetime) -> None:
        """Leave the clock alone."""

    def maintain(self) -> None:
        """Trigger churn_maintenance."""
        run = f"maintenance__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
        self.api.trigger(MAINTENANCE, run, {})
        if failed := self.follow(MAINTENANCE, run):
            raise NightUnfinished(f"The maintenance failed: {', '.join(failed)}.")

    def mlflow_outage(self) -> Outage:
        """Stop the service, and start it again."""

        def end() -> None:
            self._stack.compose("start", "mlflow")
            self._stack.wait_until_well("mlflow")

        return Outage(lambda: self._stack.compose("stop", "mlflow") and None, end)

    def change_contract(self, name: str) -> None:
        """Refuse: the services would have to be started anew, which no night of the stack asks for.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"The contract cannot become {name} here: leave such nights out of the column `stack` of the table."
        )

    def kill(self, what: str) -> None:
        """End the tasks of the worker that is busy, or this worker, which is started again."""
        for worker in self._stack.containers("worker"):
            status, output = worker.exec_run(["python", "-c", TASKS, what])
            if status != 0:
                raise NightUnfinished(f"The processes of {worker.name} cannot be listed: {output!r}")
            if output.strip():
                if what == "worker killed":
                    worker.kill()
                    worker.start()
                return
        raise NightUnfinished("No worker is busy.")

    def measure(self) -> Measured:
        """The services' memory, the rows of the ledger, and the files of each zone."""
        memory = {}
        for service in (
            "api-server",
            "scheduler",
            "dag-processor",
            "triggerer",
            "builder",
            "mlflow",
            "postgres",
            "seaweedfs",
        ):
            memory[service] = int(self._stack.container(service).stats(stream=False)["memory_stats"]["usage"])
        engine = sa.create_engine(os.environ["CHURN_LEDGER_URL"])
        with engine.connect() as connection:
            tables = sa.inspect(engine).get_table_names()
            rows = {
                f"ledger.{name}": connection.scalar(sa.select(sa.func.count()).select_from(sa.table(name)))
                for name in tables
            }
            sizes = {f"ledger.{name}": connection.scalar(sa.func.pg_total_relation_size(name)) for name in tables}
        engine.dispose()
        storage = self.open_workspace().storage
        zones = ("originals", "accepted", "quarantine", "snapshots", "decisions", "scores", "populations", "docs")
        files = {zone: len(storage.names(zone)) for zone in zones}
        return Measured(memory, {}, rows, sizes, files, self.counted_rows())

    def _land(self, name: str, text: str, night: Night, kind: str) -> None:  # noqa: ARG002 -- the clock stands
        file = self.folder / name
        file.write_text(text)
        self._stack.make("land", FILE=str(file), **({"POPULATION": "1"} if kind == "customers" else {}))

    def _outage_of(self, happening: str) -> Outage | None:
        if happening == "ledger unreachable":
            refuse = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'churn'"
            return Outage(
                lambda: self._psql("ALTER DATABASE churn ALLOW_CONNECTIONS false", refuse),
                lambda: self._psql("ALTER DATABASE churn ALLOW_CONNECTIONS true"),
            )
        return super()._outage_of(happening)

    def _psql(self, *commands: str) -> None:
        arguments = " ".join(f'-c "{command}"' for command in commands)
        self._stack.compose(
            "exec", "-T", "postgres", "sh", "-c",
            f"PGPASSWORD=$POSTGRES_PASSWORD psql -h 127.0.0.1 -U postgres -v ON_ERROR_STOP=1 {arguments}",
        )  # fmt: skip

    def _settings_of_the_stack(self) -> dict[str, str]:
        ours = ("CHURN_CONTRACT", "CHURN_MODEL_NAME", "CHURN_EXPERIMENT", "CHURN_SETTLE_SECONDS", "CHURN_TIMEZONE")
        return (
            {name: os.environ[name] for name in (*ours, *RETENTION)}
            | self._ports
            | {
                "HOLDOUT_SALT": SALT,
                "WORKERS": str(WORKERS),
                "CHURN_POLICY_FILE": "/soak/policy.yaml",
                "CHURN_CANDIDATES": CANDIDATES,
                "SOAK_FOLDER": str(self.folder),
                "SOAK_BENCHMARKS": str(ROOT / "benchmarks"),
            }
        )

    def _settings_of_this_process(self) -> dict[str, str]:
        """What this process needs to look at the ledger, the data root and MLflow of the stack."""
        env = self._stack.env
        return {
            "CHURN_LEDGER_URL": f"postgresql+psycopg2://churn:{env['LEDGER_DB_PASSWORD']}@127.0.0.1:{self._ports['SOAK_POSTGRES_PORT']}/churn",
            "CHURN_DATA_ROOT": "s3://churn-data",
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self._ports['SOAK_S3_PORT']}",
            "AWS_ACCESS_KEY_ID": env["S3_DATA_ACCESS_KEY"],
            "AWS_SECRET_ACCESS_KEY": env["S3_DATA_SECRET_KEY"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_TRACKING_URI": self._stack.mlflow_url,
            "MLFLOW_TRACKING_USERNAME": "churn",
            "MLFLOW_TRACKING_PASSWORD": env["MLFLOW_PIPELINE_PASSWORD"],
            "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",  # the address of S3 is one of the stack's network
        }
