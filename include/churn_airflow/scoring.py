"""What Airflow adds to scoring: the asset that other DAGs start by, and the task that triggers a run after a change of production."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Asset, Context

from churn_airflow.steps import core_step, report_failure, scoring_request

SCORES = Asset(name="churn_scores")
"""Gets an event for each list that has been published and delivered, with its id, where it is, and counts."""


def deliver_current(target: str) -> int | None:
    """Deliver the current list of this run's campaign, if it has not been; returns the number of customers."""
    from churn.pipeline import scoring_runs
    from churn_airflow.metrics import measure_delivery

    with core_step() as (workspace, _):
        undelivered = scoring_runs.find_undelivered(workspace, target, scoring_request())
        try:
            return scoring_runs.deliver_list(workspace, undelivered).rows
        finally:
            measure_delivery(workspace.ledger, undelivered.row.list_id, target)


class RefutedOperator(TriggerDagRunOperator):
    """Triggers churn_rollback, once for a promotion that later rows have refuted, if `CHURN_ON_REFUTED` is `rollback`.

    Args:
        kwargs: of the operator.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            trigger_dag_id="churn_rollback",
            skip_when_already_exists=True,
            execution_timeout=timedelta(minutes=5),
            on_failure_callback=report_failure,
            **kwargs,
        )

    def execute(self, context: Context) -> None:
        """Find the promotion, and trigger a rollback that is named after it."""
        from churn.errors import NothingToDo
        from churn.pipeline.observing import refuted_promotion

        with core_step() as (workspace, _):
            change = refuted_promotion(workspace)
            if change is None:
                raise NothingToDo("Later rows have not refuted the promotion in force.")
            if workspace.settings.on_refuted != "rollback":
                raise NothingToDo(
                    f"Later rows have refuted the promotion of version {change.version}. CHURN_ON_REFUTED is {workspace.settings.on_refuted}, "
                    "so a person decides."
                )
        self.trigger_run_id = f"refuted-{change.sequence}"
        self.conf = {"reason": f"Later rows have refuted the promotion of version {change.version}."}
        super().execute(context)


class ScoreOperator(TriggerDagRunOperator):
    """Triggers churn_scoring if the current list was made by another version than the one in production, once that is verified.

    Args:
        daily: try again every day. By default, a run is triggered once for each change of production.
        kwargs: of the operator.
    """

    def __init__(self, *, daily: bool = False, **kwargs: Any) -> None:
        super().__init__(
            trigger_dag_id="churn_scoring",
            skip_when_already_exists=True,
            execution_timeout=timedelta(minutes=5),
            on_failure_callback=report_failure,
            **kwargs,
        )
        self.daily = daily

    def execute(self, context: Context) -> None:
        """Find the change, and trigger a run that is named after it."""
        from churn.pipeline import scoring_runs

        with core_step() as (workspace, _):
            change = scoring_runs.require_change(workspace)
        day = f"__{datetime.now(UTC):%Y-%m-%d}" if self.daily else ""
        self.trigger_run_id = f"scores-of-change-{change.sequence}{day}"
        super().execute(context)
