"""### Nightly churn retraining.

Takes in what has landed, validates every batch, trains a challenger on everything accepted so far,
compares it with the champion on the same unseen customers, and promotes it only if
`promotion_policy.yaml` is met. A promotion triggers **churn_image_build**.

| task | does | turns red when | turns pink when |
|---|---|---|---|
| arrive | claims the files in landing | the data root or the ledger is away | nothing new arrived |
| validate | judges one batch | the batch is rejected, or the suite crashed | |
| train | fits and registers a challenger | MLflow is away, too few rows | nothing new was accepted |
| compare | scores both versions now, decides | a version cannot be loaded or compared | |
| promote | moves the challenger into production; waits for a person where one must agree | somebody else promoted meanwhile | the decision is to hold, or nobody agreed |
| build_image | triggers the image of the version | | nothing was promoted |
| close | tells people what has happened; checks that the night is whole | a batch was rejected, or no verdict was recorded | nothing new arrived |

A hold is a good end. *Churn* in the navigation shows every night; its tasks lead there. Every task can be cleared and run again: the same version, decision and
promotion come back.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import CronTriggerTimetable, Param, dag, get_current_context, task

from churn.settings import Settings
from churn_airflow.approval import PromoteOperator
from churn_airflow.review.links import ComparisonLink, DataDocsLink, NightLink, VersionLink
from churn_airflow.steps import TASK_DEFAULTS, core_step, lead_to, lead_to_night, report_failed_run

SETTINGS = Settings.load()


@dag(
    schedule=CronTriggerTimetable(SETTINGS.schedule, timezone=SETTINGS.timezone) if SETTINGS.schedule else None,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    on_failure_callback=report_failed_run,
    dagrun_timeout=timedelta(hours=6 + SETTINGS.approval_hours),
    doc_md=__doc__,
    render_template_as_native_obj=True,  # the image's run takes its version as a number
    tags=["churn"],
    params={
        "retrain": Param(
            False,
            type="boolean",
            title="Retrain although nothing arrived",
            description_md="Train on the rows that are there, even if no batch was accepted since the last training.",
            section="What to do",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description_md="Train, compare and decide, but **change nothing in production**, whatever the decision.",
            section="What to do",
        ),
        "approval": Param(
            False,
            type="boolean",
            title="Ask before promoting",
            description_md="A promotion waits until a person agrees (*Required actions*); nobody's answer before the next night is a no.",
            section="What to do",
        ),
        "force_reason": Param(
            None,
            type=["null", "string"],
            maxLength=1000,
            title="Force the promotion, because",
            description_md="**Promotes whatever the policy says**, integrity excepted. The reason and your name are kept; empty: the policy decides.",
            section="What to do",
        ),
        "note": Param(
            None,
            type=["null", "string"],
            maxLength=1000,
            title="Note for the reviewer",
            description_md="Shown with the decision in MLflow. Write no customer data here.",
            section="For the record",
        ),
    },
)
def churn_retraining() -> None:
    """Wire the night."""

    @task(execution_timeout=timedelta(minutes=30))
    def arrive() -> list[str]:
        from churn.pipeline import steps

        with core_step() as (workspace, request):
            lead_to_night(workspace, request)
            return [batch.batch for batch in steps.arrive(workspace, request).batches]

    @task(execution_timeout=timedelta(hours=1), map_index_template="{{ batch_label }}")
    def validate(batch: str) -> dict[str, Any]:
        from churn.pipeline import steps
        from churn.pipeline.deciding import docs_link
        from churn_airflow.metrics import measure_batch

        get_current_context()["batch_label"] = batch[:12]
        with core_step() as (workspace, request):
            lead_to(DataDocsLink(), docs_link(workspace, batch))
            try:
                return steps.counts(steps.validate(workspace, request, batch))
            finally:
                measure_batch(workspace.ledger, batch)

    @task(execution_timeout=timedelta(hours=3), trigger_rule="all_done")
    def train() -> dict[str, Any]:
        from churn.pipeline import steps

        with core_step() as (workspace, request):
            challenger = steps.train(workspace, request)
            lead_to(VersionLink(), workspace.tracking.version_link(challenger.version))
            return asdict(challenger)

    @task(execution_timeout=timedelta(hours=1))
    def compare(challenger: dict[str, Any]) -> dict[str, Any]:
        from churn.learning.training import Challenger
        from churn.pipeline import steps
        from churn_airflow.metrics import measure_decision

        with core_step() as (workspace, request):
            lead_to_night(workspace, request)
            decision = steps.compare(workspace, request, Challenger(**challenger))
            lead_to(ComparisonLink(), workspace.tracking.run_link(decision.run_id))
            measure_decision(decision)
            return {"challenger": decision.challenger, "verdict": decision.verdict, "code": decision.code}

    @task(execution_timeout=timedelta(minutes=10), trigger_rule="all_done")
    def close() -> str:
        from churn.pipeline import steps
        from churn_airflow.alerts import tell
        from churn_airflow.metrics import measure_duration

        context = get_current_context()
        with core_step() as (workspace, request):
            lead_to_night(workspace, request)
            measure_duration("night", context["dag_run"].start_date)
            tell(workspace, context)
            return steps.close(workspace, request)

    build_image = TriggerDagRunOperator(
        task_id="build_image",
        trigger_dag_id="churn_image_build",
        trigger_run_id="image-of-version-{{ ti.xcom_pull(task_ids='promote') }}",
        conf={"version": "{{ ti.xcom_pull(task_ids='promote') }}"},
        reset_dag_run=True,
        execution_timeout=timedelta(minutes=5),
    )

    arrived, promoted, closed = arrive(), PromoteOperator(task_id="promote"), close()
    judged = validate.expand(batch=arrived)
    challenger = train()
    decision = compare(challenger)
    judged >> challenger
    decision >> promoted >> [build_image, closed]
    for task_, links in (
        (arrived, (NightLink(),)),
        (judged, (DataDocsLink(),)),
        (challenger, (VersionLink(),)),
        (decision, (NightLink(), ComparisonLink())),
        (closed, (NightLink(),)),
    ):
        task_.operator.operator_extra_links = links
    promoted.operator_extra_links = (NightLink(), ComparisonLink(), VersionLink())


churn_retraining()
