"""### Serving image of one version.

Builds the image of a version *number*, starts it, and holds its answers against the registry model's
on rows made from the data contract. Equal within 1e-12: the image is tagged. Different, or it does not
load: the promotion is taken back and the run fails. An engine or network that is away is retried, and
takes nothing back. Without a container engine the same serving app is verified in an environment of
its own, and the state says so.

The run id is made of the version, so the same version is never built twice side by side; to try a
failed build again, clear its run.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from churn_review.links import VersionLink
from churn_wiring import TASK_DEFAULTS, core_step, lead_to


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
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

    @task(execution_timeout=timedelta(minutes=30))
    def build() -> dict[str, Any]:
        from churn import night

        with core_step() as (bench, _):
            version = int(get_current_context()["params"]["version"])
            lead_to(VersionLink(), bench.tracking.version_link(version))
            return asdict(night.build_image(bench, version))

    @task(execution_timeout=timedelta(minutes=30))
    def verify(built: dict[str, Any]) -> dict[str, Any]:
        from churn import night
        from churn.release.image import BuiltImage

        with core_step() as (bench, _):
            return asdict(night.verify_image(bench, BuiltImage(**built)))

    @task(execution_timeout=timedelta(minutes=15))
    def publish(built: dict[str, Any], verification: dict[str, Any]) -> str:
        from churn import night
        from churn.release.image import BuiltImage
        from churn.release.verify import Verification

        with core_step() as (bench, _):
            return night.publish_image(bench, BuiltImage(**built), Verification(**verification)).state

    built = build()
    publish(built, verify(built))
    built.operator.operator_extra_links = (VersionLink(),)


churn_image_build()
