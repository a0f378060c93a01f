"""### Score the customers, and publish the list of whom to contact.

Runs after every promotion, once its image is verified, and after every rollback; when a file of current customers lands on S3;
by `CHURN_SCORING_SCHEDULE`; and manually. The version in production scores each customer, the scoring policy
(`CHURN_SCORING_POLICY_FILE`) says whom to contact, and the new list replaces the current one of its campaign.

| task | does | fails (red) when | is skipped (pink) when |
|---|---|---|---|
| collect | ingests files of current customers that have landed, and chooses whom to score | the data root or the ledger is unavailable, or there is no such file | |
| score | scores, ranks and draws the control group; compares a sample with the registered model in another process, and with its image if it is on this machine; publishes | nothing is in production, a file or a value cannot be used, scores differ, or drift is too large and the policy refuses it | |
| deliver_database | copies the list to PostgreSQL and switches the view, in one transaction | the database is unavailable or refuses | `CHURN_SCORES_URL` is not set, or the list has been delivered |
| deliver_drop | writes the list to a folder or S3, and `_SUCCESS` last | the folder is unavailable or refuses | `CHURN_SCORES_DROP` is not set, or the list has been delivered |
| announce | adds an event to the asset `churn_scores`, so that other DAGs start | | the run has published and delivered nothing new |
| every_list_made | nothing: the run fails if `score` did, even if the list of another file was delivered | | |

A run that fails leaves the current list as it is, and an alert says so. It never fails a nightly run or a promotion. The same customers,
version and policy again are the same list, and change nothing. Keys of customers are only in the list, its deliveries, and
`churn scores export`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Param, dag, get_current_context, task

from churn.settings import Settings
from churn_airflow.scoring import SCORES, deliver_current
from churn_airflow.steps import MOST_VERSIONS, TASK_DEFAULTS, core_step, report_failed_scoring, scoring_request
from churn_airflow.timetables import cron

SETTINGS = Settings.load()


@dag(
    schedule=cron(SETTINGS.scoring_schedule, SETTINGS.timezone) if SETTINGS.scoring_schedule else None,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS | {"on_failure_callback": report_failed_scoring},
    on_failure_callback=report_failed_scoring,
    dagrun_timeout=timedelta(hours=6),
    doc_md=__doc__,
    tags=["churn"],
    params={
        "file": Param(
            None,
            type=["null", "string"],
            maxLength=255,
            title="File of customers",
            description_md="Name or hash of a file that was landed with `churn land --population`. If empty: what has landed, else the file of the current list, else all accepted customers.",
            section="What to do",
        ),
        "version": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=MOST_VERSIONS,
            title="Version",
            description_md="Number of the registered version that scores. If empty, the one in production.",
            section="What to do",
        ),
        "campaign": Param(
            None,
            type=["null", "string"],
            pattern="^[a-z][a-z0-9_]{0,39}$",
            title="Campaign",
            description_md="If empty, that of the scoring policy. Lists of one campaign replace each other.",
            section="What to do",
        ),
        "capacity": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            maximum=10**9,
            title="Capacity",
            description_md="How many customers can be contacted, control group included. If empty, that of the scoring policy.",
            section="What to do",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description_md="Make the list and log its counts, but **publish nothing**.",
            section="What to do",
        ),
    },
)
def churn_scoring() -> None:
    """Wire the tasks of a scoring run."""

    @task(execution_timeout=timedelta(minutes=30))
    def collect() -> list[str]:
        from churn.pipeline import scoring_runs

        with core_step() as (workspace, _):
            return scoring_runs.collect_customers(workspace, scoring_request())

    @task(execution_timeout=timedelta(hours=4))
    def score(customers: list[str] | None) -> list[dict[str, Any]]:
        from churn.pipeline import scoring_runs
        from churn_airflow.metrics import measure_list

        with core_step() as (workspace, _):
            request = scoring_request()
            chosen = customers or scoring_runs.collect_customers(workspace, request)
            made = scoring_runs.make_lists(workspace, request, chosen)
            for one in [] if request.dry_run else made:
                measure_list(one.row)
            return [scoring_runs.event_of(workspace, one.row) | {"new": one.new} for one in made]

    # A list may have been published although that of another file failed.
    @task(execution_timeout=timedelta(hours=1), trigger_rule="all_done")
    def deliver_database() -> int | None:
        return deliver_current("database")

    @task(execution_timeout=timedelta(hours=1), trigger_rule="all_done")
    def deliver_drop() -> int | None:
        return deliver_current("drop")

    @task(execution_timeout=timedelta(minutes=5), trigger_rule="none_failed", outlets=[SCORES])
    def announce() -> dict[str, Any]:
        from churn.pipeline import scoring_runs
        from churn_airflow.alerts import send_alerts

        context = get_current_context()
        with core_step() as (workspace, _):
            request = scoring_request()
            send_alerts(workspace, context)
            delivered = context["ti"].xcom_pull(task_ids=["deliver_database", "deliver_drop"])
            event = scoring_runs.announced(workspace, request, any(rows is not None for rows in delivered or ()))
            context["outlet_events"][SCORES].extra = event
            return event

    scored = score(collect())
    scored >> [deliver_database(), deliver_drop()] >> announce()
    scored >> EmptyOperator(task_id="every_list_made", execution_timeout=timedelta(minutes=5))


churn_scoring()
