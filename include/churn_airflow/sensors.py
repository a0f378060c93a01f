"""What tells that something has landed on S3, without holding a worker while it waits."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial
from typing import Any

from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException

from churn_airflow.steps import core_step

S3 = "s3://"


class RestOperator(BaseOperator):
    """Waits a while if files are in landing already: perhaps the last night could not take them.

    A landing that is watched begins again at once after a night, also after one that failed before it took
    anything in. The pause is as long as the newest file has been there, within limits: what landed during a
    night waits for minutes, and what no night can take is tried less and less often.
    """

    def __init__(self, *, shortest: timedelta, longest: timedelta, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shortest, self.longest = shortest, longest

    def execute(self, context: Context) -> None:  # noqa: ARG002 -- Airflow's signature
        """Look, and wait without a worker."""
        from churn.settings import SettingsError

        with core_step() as (workspace, _):
            root = workspace.settings.data_root
            if not root.startswith(S3):
                raise SettingsError(
                    f"CHURN_DATA_ROOT={root}: only a data root on S3 (s3://bucket/prefix) can be watched. "
                    "On a folder the nightly schedule and `churn run` take in what landed."
                )
            waiting = workspace.storage.landed()
        if waiting:
            age = timedelta(seconds=time.time() - max(file.arrived for file in waiting))
            pause = min(max(age, self.shortest), self.longest)
            self.log.info("%d file(s) are in landing already: the next night begins in %s.", len(waiting), pause)
            self.defer(trigger=TimeDeltaTrigger(pause), method_name="execute_complete")

    def execute_complete(self, context: Context, event: Any) -> None:
        """Rested."""


class LandingSensor(S3KeySensor):
    """Waits for a finished file in landing. Nothing in time is a good end; a store that is away is none."""

    def __init__(self, *, data_root: str, **kwargs: Any) -> None:
        bucket, _, prefix = data_root.removeprefix(S3).partition("/")
        # Bucket and key apart: of a whole URL the provider's trigger cannot list the files that `check_fn` is asked about.
        folder = "/".join(part for part in (prefix.strip("/"), "landing/") if part)
        super().__init__(
            bucket_name=bucket,
            bucket_key=f"{folder}[!.]*",
            wildcard_match=True,
            check_fn=partial(any_finished, folder),
            **kwargs,
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """The time-out as a skip. `soft_fail` would skip outages too, and begin again at once."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout:
            raise AirflowSkipException("Nothing landed. The watch begins anew.") from None


def any_finished(folder: str, files: list[dict[str, Any]], **_: Any) -> bool:
    """Whether, in this folder, one of these objects is a file that a night takes in: not in a folder below, not one that is still being written."""
    from churn.foundation.storage import is_temporary

    names = [file["Key"].removeprefix(folder) for file in files]
    return any(name and "/" not in name and not is_temporary(name) for name in names)
