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

from airflow.sdk import dag

from churn.foundation.paths import LANDING
from churn.settings import Settings
from churn_airflow.sensors import PAUSE, WATCH, watch_landing
from churn_airflow.steps import TASK_DEFAULTS, report_failed_run

SETTINGS = Settings.load()


@dag(
    schedule="@continuous" if SETTINGS.watch_landing else None,
    catchup=False,
    max_active_runs=1,
    # With these, an outage makes a red run every 15 minutes, not every minute.
    default_args=TASK_DEFAULTS | {"retries": 6},
    on_failure_callback=report_failed_run,
    dagrun_timeout=PAUSE + WATCH + timedelta(hours=7 + SETTINGS.approval_hours),
    doc_md=__doc__,
    tags=["churn"],
)
def churn_landing() -> None:
    """Wire the tasks of the watch over landing."""
    watch_landing(SETTINGS, LANDING, "churn_retraining")


churn_landing()
