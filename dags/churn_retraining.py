"""### Nightly churn retraining.

Ingests the files that have landed, validates every batch, and trains a challenger on all rows accepted so far. It compares
the challenger with the champion on the same unseen customers, and promotes it only if `promotion_policy.yaml` is met.
A promotion triggers **churn_image_build**.

| task | does | fails (red) when | is skipped (pink) when |
|---|---|---|---|
| arrive | ingests the files in landing | the data root or the ledger is unavailable | nothing new arrived |
| validate | validates one batch; several if more than 50 arrived | a batch is rejected, or the suite crashed | |
| train | trains and registers a challenger | MLflow is unavailable, or there are too few rows | nothing new was accepted |
| compare | scores both versions now, and decides | a version cannot be loaded or compared | |
| promote | promotes the challenger; waits for a person if approval is required | another promotion happened in the meantime | the decision is to hold, or the promotion was not approved |
| build_image | triggers the image build of the version | | nothing was promoted |
| close | sends alerts, and checks that the run is complete | files were not ingested, a batch was rejected, or no verdict was recorded | nothing new arrived |

A hold is a normal result. *Churn* in the navigation lists all runs, and each task links to the page of its run. Every task can be
cleared and repeated: the result is the same version, decision and promotion. After a task was marked as success before it ran,
the next one takes what it needs from the ledger, or fails and names the task to clear.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from churn.settings import Settings
from churn_airflow.approval import PromoteOperator
from churn_airflow.image_build import BuildImageOperator
from churn_airflow.review.links import ComparisonLink, DataDocsLink, NightLink, VersionLink
from churn_airflow.steps import (
    TASK_DEFAULTS,
    batches_of_task,
    core_step,
    divide_among_tasks,
    has_run,
    report_failed_run,
    store_link,
    store_run_link,
)
from churn_airflow.timetables import cron

SETTINGS = Settings.load()


@dag(
    schedule=cron(SETTINGS.schedule, SETTINGS.timezone) if SETTINGS.schedule else None,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    on_failure_callback=report_failed_run,
    dagrun_timeout=timedelta(hours=6 + SETTINGS.approval_hours),
    doc_md=__doc__,
    tags=["churn"],
    params={
        "retrain": Param(
            False,
            type="boolean",
            title="Retrain even if nothing arrived",
            description_md="Train on the accepted rows even if no batch has been accepted since the last training.",
            section="What to do",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description_md="Train, compare and decide, but **change nothing in production**.",
            section="What to do",
        ),
        "approval": Param(
            False,
            type="boolean",
            title="Ask before promoting",
            description_md="A promotion waits until a person approves it (*Required actions*). If nobody answers within `CHURN_APPROVAL_HOURS`, or by 15 minutes before the next run, it is rejected.",
            section="What to do",
        ),
        "force_reason": Param(
            None,
            type=["null", "string"],
            maxLength=1000,
            title="Reason to force the promotion",
            description_md="**Promotes even if the policy is not met**, unless an integrity check fails. The reason and your name are stored. If empty, the policy decides.",
            section="What to do",
        ),
        "plausible_reason": Param(
            None,
            type=["null", "string"],
            maxLength=1000,
            title="Reason why a very high ROC AUC is plausible",
            description_md="Confirms, once for this registered model, that a ROC AUC above `sanity.max_model_auc` of the policy is not caused by a leak. The reason and your name are stored.",
            section="What to do",
        ),
        "note": Param(
            None,
            type=["null", "string"],
            maxLength=1000,
            title="Note for the reviewer",
            description_md="Shown with the decision. Do not enter customer data.",
            section="For the record",
        ),
    },
)
def churn_retraining() -> None:
    """Wire the tasks of a run."""

    @task(execution_timeout=timedelta(minutes=30))
    def arrive() -> list[list[str]]:
        from churn.pipeline import steps

        with core_step() as (workspace, request):
            store_run_link(workspace, request)
            return divide_among_tasks([batch.batch for batch in steps.arrive(workspace, request).batches])

    @task(execution_timeout=timedelta(hours=1), map_index_template="{{ batch_label }}")
    def validate(batches: list[str] | str) -> list[dict[str, Any]]:
        from churn.pipeline import steps
        from churn.pipeline.deciding import docs_link
        from churn_airflow.metrics import measure_batch

        own = batches_of_task(batches)
        first, more = own[0], len(own) - 1
        get_current_context()["batch_label"] = f"{first[:12]} and {more} more" if more else first[:12]
        with core_step() as (workspace, request):
            store_link(DataDocsLink(), docs_link(workspace, first))
            try:
                return [steps.counts(batch) for batch in steps.validate_all(workspace, request, own)]
            finally:
                for batch in own:
                    measure_batch(workspace.ledger, batch)

    @task(execution_timeout=timedelta(hours=3), trigger_rule="all_done")
    def train() -> dict[str, Any]:
        from churn.pipeline import steps

        with core_step() as (workspace, request):
            challenger = steps.train(workspace, request)
            store_link(VersionLink(), workspace.tracking.version_link(challenger.version))
            return asdict(challenger)

    @task(execution_timeout=timedelta(hours=1))
    def compare() -> dict[str, Any]:
        from churn.pipeline import recorded, steps
        from churn_airflow.metrics import measure_decision

        with core_step() as (workspace, request):
            store_run_link(workspace, request)
            decision = steps.compare(workspace, request, recorded.challenger_of(workspace, request.night))
            store_link(ComparisonLink(), workspace.tracking.run_link(decision.run_id))
            measure_decision(decision)
            return {"challenger": decision.challenger, "verdict": decision.verdict, "code": decision.code}

    @task(execution_timeout=timedelta(minutes=10), trigger_rule="all_done")
    def close() -> str:
        from churn.pipeline import steps
        from churn_airflow.alerts import send_alerts
        from churn_airflow.metrics import measure_duration

        context = get_current_context()
        with core_step() as (workspace, request):
            store_run_link(workspace, request)
            measure_duration("night", context["dag_run"].start_date)
            send_alerts(workspace, context)
            return steps.close(workspace, request, ingested=has_run("arrive"))

    arrived, challenger, decision, closed = arrive(), train(), compare(), close()
    judged = validate.expand(batches=arrived)
    promoted = PromoteOperator(task_id="promote")
    build_image = BuildImageOperator(task_id="build_image", of="promotion")
    judged >> challenger >> decision >> promoted >> build_image
    # A task marked as success may let a later one run early: these two wait for the others in any case.
    decision >> build_image
    [arrived, judged, challenger, decision, promoted] >> closed
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
