"""### The watch.

Every hour: notices silence (nothing accepted, or no decision, for `CHURN_SILENCE_NIGHTS` nights), and whatever else the ledger
says and nobody was told of, and sends the messages that could not be sent before. It needs the ledger and nothing else.

| task | does | turns red when |
|---|---|---|
| watch | notices, and sends what waits | a message could not be sent, or the file of `CHURN_NOTIFICATIONS_FILE` is wrong |

*Trigger* has a field that sends a test message to everybody whom the file names.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, Param, dag, get_current_context, task

from churn_airflow.steps import TASK_DEFAULTS, core_step


@dag(
    schedule=CronTriggerTimetable("23 * * * *", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    # Of a message that cannot be sent no other message is written: red is all that is left to say it.
    default_args=TASK_DEFAULTS | {"on_failure_callback": None},
    dagrun_timeout=timedelta(minutes=50),
    doc_md=__doc__,
    tags=["churn"],
    params={
        "test_message": Param(
            False,
            type="boolean",
            title="Send a test message",
            description_md="To every notifier of `CHURN_NOTIFICATIONS_FILE`, whatever it wants to be told of.",
            section="What to do",
        )
    },
)
def churn_watch() -> None:
    """Wire the watch."""

    @task(execution_timeout=timedelta(minutes=10))
    def watch() -> int:
        from churn_airflow.alerts import notice_and_send, send_trial

        context = get_current_context()
        with core_step() as (workspace, _):
            if context["params"]["test_message"]:
                send_trial(workspace, context)
            return notice_and_send(workspace, context)

    watch()


churn_watch()
