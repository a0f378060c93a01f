"""### Start a run as soon as a file lands.

Complements the nightly schedule if `CHURN_WATCH_LANDING` is on and the data root is on S3. The DAG waits for a file in
landing, starts **churn_retraining**, waits until that run has ended, and starts again. Waiting does not occupy a worker. Files that
arrive together, or during a run, are ingested by one run.

| task | does | fails (red) when | is skipped (pink) when |
|---|---|---|---|
| rest | if files were left in landing by the last run, waits five minutes to one hour before trying them again | the data root is not on S3, or is unavailable | |
| landed | waits for a file, ignoring unfinished ones by their name | S3 does not answer | nothing landed within a day |
| night | starts the run and waits until it has ended; a run that fails sends its own alert | **churn_retraining** is paused | |
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import dag

from churn.settings import Settings
from churn_airflow.sensors import LandingSensor, PauseOperator
from churn_airflow.steps import TASK_DEFAULTS, report_failed_run

SETTINGS = Settings.load()
PAUSE = timedelta(hours=1)
WATCH = timedelta(days=1)


@dag(
    schedule="@continuous" if SETTINGS.watch_landing else None,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS
    | {"retries": 6},  # with these, an outage makes a red run every 15 minutes, not every minute
    on_failure_callback=report_failed_run,
    dagrun_timeout=PAUSE + WATCH + timedelta(hours=7 + SETTINGS.approval_hours),
    doc_md=__doc__,
    tags=["churn"],
)
def churn_landing() -> None:
    """Wire the tasks of the watch over landing."""
    rest = PauseOperator(
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
        skip_when_already_exists=True,  # a retry of this task must not start a second run
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
