"""### Serving image of one version.

| task | does | fails when | is skipped when |
|---|---|---|---|
| build | builds the image of a version *number* | its files changed; the engine is away | it is published already |
| verify | starts it and holds its answers against the registry model's | they differ: its promotion is taken back | |
| publish | tags it, pushes it where a registry is set, then moves `production` | engine or registry is away | |

Asked are rows made from the data contract and the holdout's most extreme rows, one by one and in batches, equal within 1e-12,
and requests that must be refused. Different, or it does not load: the promotion is taken back, and automatic promotion is off. An
engine, a registry or a network that is away is retried and takes nothing back; after the last try the reason is at the version in
MLflow and in `churn status`. Without a container engine the same service is verified in an environment of its own, and the state says so.

The run id is made of the version, so the same version is never built twice side by side; to try a
failed build again, clear its run.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from churn_airflow.review.links import VersionLink
from churn_airflow.steps import IMAGE_QUEUE, TASK_DEFAULTS, core_step, keep_image_failure, lead_to


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
            title="Version",
            description_md="Number of the registered version, never an alias: an alias can move during the build.",
        )
    },
)
def churn_image_build() -> None:
    """Wire build, verify, publish."""

    @task(execution_timeout=timedelta(minutes=30), queue=IMAGE_QUEUE)
    def build() -> dict[str, Any]:
        from churn.pipeline import shipping
        from churn_airflow.metrics import measure_image

        with core_step() as (workspace, _):
            version = int(get_current_context()["params"]["version"])
            lead_to(VersionLink(), workspace.tracking.version_link(version))
            built = shipping.build(workspace, version)
            measure_image(built)
            return asdict(built)

    @task(execution_timeout=timedelta(minutes=30), queue=IMAGE_QUEUE)
    def verify(built: dict[str, Any]) -> dict[str, Any]:
        from churn.pipeline import shipping
        from churn.release.image import BuiltImage

        with core_step() as (workspace, _):
            return asdict(shipping.verify(workspace, BuiltImage(**built)))

    @task(execution_timeout=timedelta(minutes=15), queue=IMAGE_QUEUE)
    def publish(built: dict[str, Any], verification: dict[str, Any]) -> str:
        from churn.pipeline import shipping
        from churn.release.image import BuiltImage
        from churn.release.service_checks import Verification
        from churn_airflow.alerts import tell

        with core_step() as (workspace, _):
            state = shipping.publish(workspace, BuiltImage(**built), Verification(**verification)).state
            tell(workspace, get_current_context())
            return state

    built = build()
    publish(built, verify(built))
    built.operator.operator_extra_links = (VersionLink(),)


churn_image_build()
