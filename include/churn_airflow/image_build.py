"""The task that triggers the image build of the version that its run has promoted or restored."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Context

from churn_airflow.steps import core_step


class BuildImageOperator(TriggerDagRunOperator):
    """Triggers churn_image_build with the version that the ledger names for this run.

    The tasks before this one pass nothing on if a person marked them as success, so it does not ask them.
    """

    def __init__(self, *, of: Literal["promotion", "rollback"], **kwargs: Any) -> None:
        super().__init__(
            trigger_dag_id="churn_image_build",
            reset_dag_run=True,
            execution_timeout=timedelta(minutes=5),
            **kwargs,
        )
        self.of = of

    def execute(self, context: Context) -> None:
        """Find the version, and trigger the build. Its run id contains the version, so that no version is built twice at once."""
        from churn.pipeline import recorded

        find_version = {"promotion": recorded.promoted_version, "rollback": recorded.restored_version}[self.of]
        with core_step() as (workspace, request):
            version = find_version(workspace, request.night)
        self.trigger_run_id, self.conf = f"image-of-version-{version}", {"version": version}
        super().execute(context)
