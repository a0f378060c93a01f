"""Detects files that have landed on S3, without occupying a worker while waiting."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException

from churn.foundation.paths import LANDING
from churn_airflow.steps import core_step

if TYPE_CHECKING:
    from churn.settings import Settings

S3 = "s3://"
PAUSE, WATCH = timedelta(hours=1), timedelta(days=1)
"""Longest pause after a run that left files in landing, and the time that a watch waits for a file."""


def watch_landing(settings: Settings, landing: str, starts: str) -> None:
    """Wire the tasks of a watch: pause, wait for a file, start a run and wait until it has ended.

    Args:
        settings: where the data root is.
        landing: the folder to watch.
        starts: the DAG whose run ingests the files.
    """
    rest = PauseOperator(
        task_id="rest",
        landing=landing,
        shortest=timedelta(minutes=5),
        longest=PAUSE,
        execution_timeout=timedelta(minutes=2),
    )
    landed = LandingSensor(
        task_id="landed",
        data_root=settings.data_root,
        landing=landing,
        aws_conn_id=settings.aws_conn_id,
        deferrable=True,
        poke_interval=30,
        timeout=WATCH.total_seconds(),
        execution_timeout=timedelta(minutes=2),
    )
    run = TriggerDagRunOperator(
        task_id=STARTED[starts],
        trigger_dag_id=starts,
        trigger_run_id="landed__{{ run_id }}",
        skip_when_already_exists=True,  # a retry of this task must not start a second run
        fail_when_dag_is_paused=True,
        wait_for_completion=True,
        deferrable=True,
        poke_interval=15,
        allowed_states=["success", "failed"],
        failed_states=[],
        execution_timeout=timedelta(minutes=2),
    )
    rest >> landed >> run


STARTED = {"churn_retraining": "night", "churn_scoring": "scores"}
"""The task that starts a run of each DAG."""


class PauseOperator(BaseOperator):
    """Pauses if files are in landing already, because the last run may have been unable to ingest them.

    The watch starts again immediately after each run, even if the run failed before it ingested anything. The pause
    is as long as the newest file has been in landing, within limits. A file that landed during a run therefore waits
    only minutes, and a file that no run can ingest is retried less and less often.
    """

    def __init__(self, *, shortest: timedelta, longest: timedelta, landing: str = LANDING, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.landing = landing
        self.shortest, self.longest = shortest, longest

    def execute(self, context: Context) -> None:  # noqa: ARG002 -- Airflow's signature
        """Look for files, and defer for the length of the pause."""
        from churn.settings import SettingsError

        with core_step() as (workspace, _):
            root = workspace.settings.data_root
            if not root.startswith(S3):
                raise SettingsError(
                    f"CHURN_DATA_ROOT={root}: only a data root on S3 (s3://bucket/prefix) can be watched. "
                    "For a folder, use a schedule, or `churn run` and `churn score`, instead."
                )
            waiting = workspace.storage.landed(self.landing)
        if waiting:
            age = timedelta(seconds=time.time() - max(file.arrived for file in waiting))
            pause = min(max(age, self.shortest), self.longest)
            self.log.info("%d file(s) are in landing already. The next run starts in %s.", len(waiting), pause)
            self.defer(trigger=TimeDeltaTrigger(pause), method_name="execute_complete")

    def execute_complete(self, context: Context, event: Any) -> None:
        """Continue after the pause."""


class LandingSensor(S3KeySensor):
    """Waits for a complete file in landing. A timeout is a skip; an unavailable store is an error."""

    def __init__(self, *, data_root: str, landing: str = LANDING, **kwargs: Any) -> None:
        bucket, _, prefix = data_root.removeprefix(S3).partition("/")
        # Bucket and key are passed separately: with a full URL, the provider's trigger cannot list files for `check_fn`.
        folder = "/".join(part for part in (prefix.strip("/"), f"{landing}/") if part)
        super().__init__(
            bucket_name=bucket,
            bucket_key=f"{folder}[!.]*",
            wildcard_match=True,
            check_fn=partial(any_complete, folder),
            **kwargs,
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Turn a timeout into a skip. `soft_fail` would also skip outages, and the watch would start again immediately."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout:
            raise AirflowSkipException("Nothing landed. The watch starts again.") from None


def any_complete(folder: str, files: list[dict[str, Any]], **_: Any) -> bool:
    """Whether any of these S3 objects is a file that a run ingests: directly in the folder, and not still being written.

    Args:
        folder: the key of the landing folder, with a slash at its end.
        files: objects as S3 lists them, with their `Key`.
    """
    from churn.foundation.storage import is_temporary

    names = [file["Key"].removeprefix(folder) for file in files]
    return any(name and "/" not in name and not is_temporary(name) for name in names)
