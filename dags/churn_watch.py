"""### Watch for silence, and retry alerts.

Every hour, it checks for silence (nothing accepted, or nothing decided, for `CHURN_SILENCE_NIGHTS` nights). It also records
events that have no alert yet, and retries alerts that could not be sent. It needs only the ledger.

| task | does | fails (red) when |
|---|---|---|
| watch | records new alerts, and sends those that are waiting | an alert could not be sent, or the file that `CHURN_NOTIFICATIONS_FILE` names is invalid |
| score | triggers **churn_scoring**, at most once a day, if the current list was not made by the version in production, such as after `churn rollback`; otherwise it is skipped | the ledger is unavailable |
| refuted | triggers **churn_rollback**, once, if later rows have refuted the promotion in force and `CHURN_ON_REFUTED` is `rollback`; otherwise it is skipped | the ledger is unavailable |

To send a test alert through every notification channel, choose *Send a test alert* in the trigger form.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag, get_current_context, task

from churn_airflow.scoring import RefutedOperator, ScoreOperator
from churn_airflow.steps import TASK_DEFAULTS, core_step
from churn_airflow.timetables import cron


@dag(
    schedule=cron("23 * * * *", "UTC"),
    catchup=False,
    max_active_runs=1,
    # An alert about alerts that cannot be sent could not be sent either: the red run has to show it.
    default_args=TASK_DEFAULTS | {"on_failure_callback": None},
    dagrun_timeout=timedelta(minutes=50),
    doc_md=__doc__,
    tags=["churn"],
    params={
        "test_message": Param(
            False,
            type="boolean",
            title="Send a test alert",
            description_md="Sends it through every channel in `CHURN_NOTIFICATIONS_FILE`, even if the channel is limited to some kinds of alerts.",
            section="What to do",
        )
    },
)
def churn_watch() -> None:
    """Wire the tasks."""

    @task(execution_timeout=timedelta(minutes=10))
    def watch() -> int:
        from churn_airflow.alerts import record_and_send, send_test_alert

        context = get_current_context()
        with core_step() as (workspace, _):
            if context["params"]["test_message"]:
                send_test_alert(workspace, context)
            return record_and_send(workspace, context)

    watch()
    ScoreOperator(task_id="score", daily=True)
    RefutedOperator(task_id="refuted")


churn_watch()
