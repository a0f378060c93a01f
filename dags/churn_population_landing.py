"""### Score customers as soon as a file of them lands.

Complements **churn_scoring** if `CHURN_WATCH_LANDING` is on and the data root is on S3. The DAG waits for a file in
`populations/landing`, starts **churn_scoring**, waits until that run has ended, and starts again. Waiting does not occupy a worker.

| task | does | fails (red) when | is skipped (pink) when |
|---|---|---|---|
| rest | if files were left by the last run, waits five minutes to one hour before trying them again | the data root is not on S3, or is unavailable | |
| landed | waits for a file, ignoring unfinished ones by their name | S3 does not answer | nothing landed within a day |
| scores | starts the run and waits until it has ended; a run that fails sends its own alert | **churn_scoring** is paused | |
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from churn.foundation.paths import population_landing
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
    dagrun_timeout=PAUSE + WATCH + timedelta(hours=7),
    doc_md=__doc__,
    tags=["churn"],
)
def churn_population_landing() -> None:
    """Wire the tasks of the watch over files of current customers."""
    watch_landing(SETTINGS, population_landing(), "churn_scoring")


churn_population_landing()
