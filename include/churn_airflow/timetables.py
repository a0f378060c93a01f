"""When scheduled DAGs run."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable


def cron(expression: str, timezone: str) -> CronTriggerTimetable:
    """Return a timetable whose first run is the next one that is due.

    By default, and also with `run_immediately=False`, Airflow starts a run for the last due time as soon as it sees a new
    DAG, if less than a tenth of the interval has passed: a first `make run` at three in the morning would then compete with
    a scheduled run for the same file. A run that was missed later, while Airflow was stopped, still takes place.
    """
    return CronTriggerTimetable(expression, timezone=timezone, run_immediately=timedelta(0))
