"""The task that promotes: immediately, or after a person has approved in Airflow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context, Param

from churn_airflow.review.links import ComparisonLink, VersionLink
from churn_airflow.steps import core_step, store_link, store_run_link

APPROVE, REJECT = "Approve", "Reject"


class PromoteOperator(HITLOperator):
    """Promotes the challenger of a run. If the decision needs a person, it asks first, and promotes only after an approval.

    No answer in time counts as a rejection. If a second person is required and the requester approves, the question stays
    open: asking again makes Airflow discard that answer and keep waiting. Returns the version that is now in production.
    """

    def __init__(self, **kwargs: Any) -> None:
        reason = Param(
            None,
            type=["null", "string"],
            maxLength=1000,
            title="Reason",
            description_md="Stored with the promotion. Do not enter customer data.",
        )
        super().__init__(
            subject="Promote this version?",
            body="A link to the comparison is added when the question is asked.",
            options=[APPROVE, REJECT],
            defaults=REJECT,
            **kwargs | {"params": {"reason": reason}},  # replaces the params of the DAG, which must not be asked again
        )

    def execute(self, context: Context) -> int:
        """Promote, or ask."""
        from churn.foundation.links import night_page
        from churn.foundation.schedule import approval_time
        from churn.pipeline import recorded, steps

        with core_step() as (workspace, request):
            store_run_link(workspace, request)
            decision = recorded.decision_of(workspace, request.night)
            store_link(VersionLink(), workspace.tracking.version_link(decision.challenger))
            store_link(ComparisonLink(), workspace.tracking.run_link(decision.run_id))
            if not recorded.needs_approval(workspace, request.night):
                promoted: int = steps.promote(workspace, request.night)
                return promoted
            self.subject = f"Promote version {decision.challenger} to production? ({decision.verdict}: {decision.code})"
            comparison = workspace.tracking.run_link(decision.run_id)
            review = night_page(workspace.settings, request.night)
            self.body = f"{decision.sentence}\n\n[Comparison in MLflow]({comparison}) · [Review of the run]({review})"
            if workspace.settings.second_person and decision.requested_by:
                self.body += (
                    f"\n\nThis needs the approval of a second person: {decision.requested_by} requested the run "
                    "and cannot approve it."
                )
            self.response_timeout = approval_time(workspace.settings, datetime.now(UTC))
        deferred: int = super().execute(context)
        return deferred

    def execute_complete(self, context: Context, event: dict[str, Any]) -> int:
        """Record the answer, and act on it."""
        from churn.foundation.schedule import approval_time
        from churn.pipeline import answers, steps

        response = super().execute_complete(context, event)
        user = response["responded_by_user"]
        by = (user.get("name") or user.get("id")) if user else "nobody"
        answer = ("approved" if response["chosen_options"] == [APPROVE] else "rejected") if user else "expired"
        default_reason = "nobody answered in time" if answer == "expired" else "no reason given"
        reason = (response["params_input"] or {}).get("reason") or default_reason
        with core_step() as (workspace, request):
            try:
                answers.answer(workspace, request.night, answer, by, reason)
            except answers.SecondPersonNeeded as error:
                self.log.warning("%s", error)
                self.response_timeout = approval_time(workspace.settings, datetime.now(UTC))
            else:
                return steps.promote(workspace, request.night)
        deferred: int = super().execute(context)
        return deferred
