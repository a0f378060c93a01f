"""### Serving image of one version.

| task | does | fails (red) when | is skipped (pink) when |
|---|---|---|---|
| build | builds the image of a version, by its number | the version's files changed, or the container engine is unavailable | it has been published already |
| verify | starts the image and compares its answers with those of the registered model | they differ: the promotion is rolled back | |
| publish | tags the image, pushes it if an image registry is set, then moves the tag `production` | the container engine or the image registry is unavailable | |
| score | triggers **churn_scoring** if the version is in production and the current list was made by another one | the ledger is unavailable | it is not, or it was |
| score_rollback | does the same after a rollback by *verify* | the ledger is unavailable | *verify* did not fail |

The image is probed with rows generated from the data contract and with the most extreme rows of the holdout, one by one and in
batches. Its answers must be equal within 1e-12, and it must refuse invalid requests. If an answer differs or the model does not
load, the promotion is rolled back, and automatic promotion is off.

If the container engine, the image registry or the network is unavailable, the task is retried and nothing is rolled back. After
the last attempt, the version in MLflow and `churn status` show the reason. Without a container engine, the same service is
verified in an isolated environment instead, and the state of the image shows this.

The id of a run contains the version, so a version is never built twice at the same time. To retry a failed build, clear its run.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from churn_airflow.review.links import VersionLink
from churn_airflow.scoring import ScoreOperator
from churn_airflow.steps import IMAGE_QUEUE, MOST_VERSIONS, TASK_DEFAULTS, core_step, keep_image_failure, store_link


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS | {"on_failure_callback": keep_image_failure},
    on_failure_callback=keep_image_failure,
    dagrun_timeout=timedelta(hours=2),
    doc_md=__doc__,
    tags=["churn"],
    params={
        "version": Param(
            None,
            type="integer",
            minimum=1,
            maximum=MOST_VERSIONS,
            title="Version",
            description_md="Number of the registered version. Aliases are not accepted, because an alias can move during the build.",
        )
    },
)
def churn_image_build() -> None:
    """Wire the tasks: build, verify, publish, and score."""

    @task(execution_timeout=timedelta(minutes=30), queue=IMAGE_QUEUE)
    def build() -> dict[str, Any]:
        from churn.pipeline import shipping
        from churn_airflow.metrics import measure_image

        with core_step() as (workspace, _):
            version = int(get_current_context()["params"]["version"])
            store_link(VersionLink(), workspace.tracking.version_link(version))
            built = shipping.build(workspace, version)
            measure_image(built)
            return asdict(built)

    @task(execution_timeout=timedelta(minutes=30), queue=IMAGE_QUEUE)
    def verify(built: dict[str, Any] | None) -> dict[str, Any]:
        from churn.pipeline import shipping

        with core_step() as (workspace, _):
            version = int(get_current_context()["params"]["version"])
            return asdict(shipping.verify(workspace, shipping.read_built(workspace, version, built)))

    @task(execution_timeout=timedelta(minutes=15), queue=IMAGE_QUEUE)
    def publish(built: dict[str, Any] | None, verification: dict[str, Any] | None) -> str:
        from churn.pipeline import shipping
        from churn_airflow.alerts import send_alerts

        with core_step() as (workspace, _):
            version = int(get_current_context()["params"]["version"])
            image = shipping.read_built(workspace, version, built)
            state = shipping.publish(
                workspace, image, shipping.read_verification(workspace, version, verification)
            ).state
            send_alerts(workspace, get_current_context())
            return state

    built = build()
    verification = verify(built)
    publish(built, verification) >> ScoreOperator(task_id="score")
    # An image that differs from the model has rolled the promotion back.
    verification >> ScoreOperator(task_id="score_rollback", trigger_rule="one_failed")
    built.operator.operator_extra_links = (VersionLink(),)


churn_image_build()
