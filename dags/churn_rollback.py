"""### Back to an earlier version.

Puts a version that was in production before back there: the one before the present, or the one that the
form names. Its files must be those that were registered, and its image must still be there: nothing is
trained, and nothing built unless the image is gone. Done in seconds.

From then on **automatic promotion is off**: nights go on to train and compare, and hold as FROZEN, until
somebody runs `churn unfreeze --reason ...`.

| task | does | turns red when | turns pink when |
|---|---|---|---|
| roll_back | moves production, points the image tag `production` back | the version's files changed, its image is not the model, somebody promoted meanwhile | |
| lost_image | looks whether the image has to be built again | | it is there |
| build_image | triggers the image of the version | | |
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, dag, get_current_context, task

from churn_airflow.review.links import VersionLink
from churn_airflow.steps import IMAGE_QUEUE, TASK_DEFAULTS, core_step, lead_to, report_failed_run


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS | {"retry_delay": timedelta(seconds=2)},
    on_failure_callback=report_failed_run,
    dagrun_timeout=timedelta(minutes=30),
    doc_md=__doc__,
    render_template_as_native_obj=True,  # the image's run takes its version as a number
    tags=["churn"],
    params={
        "reason": Param(
            None,
            type="string",
            minLength=3,
            maxLength=1000,
            title="Reason",
            description_md="Why; kept with your name in the history. Write no customer data here.",
            section="What to do",
        ),
        "version": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Version",
            description_md="One that was in production before; empty: the one before the present.",
            section="What to do",
        ),
    },
)
def churn_rollback() -> None:
    """Wire the way back."""

    @task(execution_timeout=timedelta(minutes=5), queue=IMAGE_QUEUE)  # it points the tag `production` back
    def roll_back() -> dict[str, Any]:
        from churn.pipeline import steps

        params = get_current_context()["params"]
        with core_step() as (workspace, request):
            by = request.requested_by or "somebody in Airflow"
            done = steps.roll_back(workspace, params["version"], params["reason"], by, request.night)
            lead_to(VersionLink(), workspace.tracking.version_link(done.promotion.version))
            return {"version": done.promotion.version, "image": done.image is not None}

    @task(execution_timeout=timedelta(minutes=1))
    def lost_image(done: dict[str, Any]) -> int:
        from churn.errors import NothingToDo

        with core_step():
            if done["image"]:
                raise NothingToDo(f"The image of version {done['version']} is there.")
            return int(done["version"])

    build_image = TriggerDagRunOperator(
        task_id="build_image",
        trigger_dag_id="churn_image_build",
        trigger_run_id="image-of-version-{{ ti.xcom_pull(task_ids='lost_image') }}",
        conf={"version": "{{ ti.xcom_pull(task_ids='lost_image') }}"},
        reset_dag_run=True,
        execution_timeout=timedelta(minutes=5),
    )
    done = roll_back()
    lost_image(done) >> build_image
    done.operator.operator_extra_links = (VersionLink(),)


churn_rollback()
