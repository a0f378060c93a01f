"""### Roll back to an earlier version.

Restores a version that was in production before: the previous one, or the one named in the form. Its files must be
unchanged since they were registered. If its image still exists, nothing is built, and the rollback takes seconds. Nothing is
trained in any case.

Afterwards, **automatic promotion is off**: runs still train and compare, but hold with FROZEN until somebody runs
`churn unfreeze --reason ...`.

| task | does | fails (red) when | is skipped (pink) when |
|---|---|---|---|
| roll_back | changes what is in production, and moves the image tag `production` back | the version's files changed, its image differs from the model, or another promotion happened in the meantime | |
| lost_image | checks whether the image has to be rebuilt | | the image exists |
| build_image | triggers the image build of the version | | the image exists |
| score | triggers **churn_scoring**, so that the version makes a new list | the ledger is unavailable | its image has not been verified: **churn_image_build** triggers it then |
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from churn_airflow.image_build import BuildImageOperator
from churn_airflow.review.links import VersionLink
from churn_airflow.scoring import ScoreOperator
from churn_airflow.steps import (
    IMAGE_QUEUE,
    MOST_VERSIONS,
    TASK_DEFAULTS,
    core_step,
    read_number,
    report_failed_run,
    store_link,
)


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS | {"retry_delay": timedelta(seconds=2)},
    on_failure_callback=report_failed_run,
    dagrun_timeout=timedelta(minutes=30),
    doc_md=__doc__,
    tags=["churn"],
    params={
        "reason": Param(
            None,
            type="string",
            minLength=3,
            maxLength=1000,
            title="Reason",
            description_md="Why you roll back. It is stored in the history with your name. Do not enter customer data.",
            section="What to do",
        ),
        "version": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=MOST_VERSIONS,
            title="Version",
            description_md="A version that was in production before. If empty, the previous one.",
            section="What to do",
        ),
    },
)
def churn_rollback() -> None:
    """Wire the tasks of a rollback."""

    @task(execution_timeout=timedelta(minutes=5), queue=IMAGE_QUEUE)  # it moves the tag `production` back
    def roll_back() -> dict[str, Any]:
        from churn.pipeline import steps

        params = get_current_context()["params"]
        with core_step() as (workspace, request):
            by = request.requested_by or "somebody in Airflow"
            result = steps.roll_back(workspace, read_number("version"), params["reason"], by, request.night)
            store_link(VersionLink(), workspace.tracking.version_link(result.promotion.version))
            return {"version": result.promotion.version, "image": result.image is not None}

    @task(execution_timeout=timedelta(minutes=1))
    def lost_image(rollback: dict[str, Any] | None) -> int:
        from churn.pipeline import recorded

        with core_step() as (workspace, request):
            return recorded.find_lost_image(workspace, request.night, has_image=bool(rollback and rollback["image"]))

    rolled_back, build_image = roll_back(), BuildImageOperator(task_id="build_image", of="rollback")
    lost_image(rolled_back) >> build_image
    rolled_back >> ScoreOperator(task_id="score")
    rolled_back >> build_image  # also if a person has marked `lost_image` as success
    rolled_back.operator.operator_extra_links = (VersionLink(),)


churn_rollback()
