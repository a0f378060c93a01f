"""### A night as soon as something lands.

Beside the nightly schedule, where `CHURN_WATCH_LANDING` is on and the data root is on S3: waits for a file in landing, starts
**churn_retraining**, waits for its end, and begins anew. The waiting holds no worker. Files that arrive together, or
during a night, are one night's.

| task | does | turns red when | turns pink when |
|---|---|---|---|
| rest | waits, from five minutes to an hour, if files are in landing already: perhaps the last night could not take them | the data root is no S3, or away | |
| landed | waits for a file; names of unfinished files do not count | S3 does not answer | nothing landed within a day |
| night | starts the night and waits for its end, whatever it is: a night that fails says so itself | **churn_retraining** is paused | |
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import dag

from churn.settings import Settings
from churn_airflow.sensors import LandingSensor, RestOperator
from churn_airflow.steps import TASK_DEFAULTS, report_failed_run

SETTINGS = Settings.load()
PAUSE = timedelta(hours=1)
WATCH = timedelta(days=1)


@dag(
    schedule="@continuous" if SETTINGS.watch_landing else None,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS | {"retries": 6},  # an outage is a red run every quarter of an hour, not every minute
    on_failure_callback=report_failed_run,
    dagrun_timeout=PAUSE + WATCH + timedelta(hours=7 + SETTINGS.approval_hours),
    doc_md=__doc__,
    tags=["churn"],
)
def churn_landing() -> None:
    """Wire the watch."""
    rest = RestOperator(
        task_id="rest", shortest=timedelta(minutes=5), longest=PAUSE, execution_timeout=timedelta(minutes=2)
    )
    landed = LandingSensor(
        task_id="landed",
        data_root=SETTINGS.data_root,
        aws_conn_id=SETTINGS.aws_conn_id,
        deferrable=True,
        poke_interval=30,
        timeout=WATCH.total_seconds(),
        execution_timeout=timedelta(minutes=2),
    )
    night = TriggerDagRunOperator(
        task_id="night",
        trigger_dag_id="churn_retraining",
        trigger_run_id="landed__{{ run_id }}",
        skip_when_already_exists=True,  # tried again, it starts no second night
        fail_when_dag_is_paused=True,
        wait_for_completion=True,
        deferrable=True,
        poke_interval=15,
        allowed_states=["success", "failed"],
        failed_states=[],
        execution_timeout=timedelta(minutes=2),
    )
    rest >> landed >> night


churn_landing()
