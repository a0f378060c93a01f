"""The promotion of a night: at once, or after a person has agreed in Airflow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context, Param

from churn_airflow.review.links import ComparisonLink, VersionLink
from churn_airflow.steps import core_step, lead_to, lead_to_night

APPROVE, REJECT = "Approve", "Reject"


class PromoteOperator(HITLOperator):
    """Promotes what the night decided; where the decision needs a person, asks first and promotes on a yes.

    Nobody's answer in time is a no. A yes that has to come from somebody else leaves the question open: asked
    again, Airflow takes the answer away from the same question and waits on. It returns the version that is in production from then on.
    """

    def __init__(self, **kwargs: Any) -> None:
        reason = Param(
            None,
            type=["null", "string"],
            maxLength=1000,
            title="Reason",
            description_md="Kept with the promotion. Write no customer data here.",
        )
        super().__init__(
            subject="Promote this version?",
            body="The comparison is linked here when a person is asked.",
            options=[APPROVE, REJECT],
            defaults=REJECT,
            **kwargs | {"params": {"reason": reason}},  # instead of the DAG's own, which nobody is asked again
        )

    def execute(self, context: Context) -> int:
        """Promote, or ask."""
        from churn.foundation.links import night_page
        from churn.pipeline import steps

        with core_step() as (workspace, request):
            lead_to_night(workspace, request)
            decision = steps.decision_of(workspace, request.night)
            lead_to(VersionLink(), workspace.tracking.version_link(decision.challenger))
            lead_to(ComparisonLink(), workspace.tracking.run_link(decision.run_id))
            if not steps.needs_approval(workspace, request.night):
                promoted: int = steps.promote(workspace, request.night)
                return promoted
            self.subject = f"Put version {decision.challenger} into production? ({decision.verdict}: {decision.code})"
            self.body = f"{decision.sentence}\n\n[The comparison in MLflow]({workspace.tracking.run_link(decision.run_id)}) · [The review of the night]({night_page(workspace.settings, request.night)})"
            if workspace.settings.second_person and decision.requested_by:
                self.body += f"\n\nA yes counts from anybody but {decision.requested_by}, who asked for this night."
            self.response_timeout = workspace.settings.approval_time(datetime.now(UTC))
        asked: int = super().execute(context)
        return asked

    def execute_complete(self, context: Context, event: dict[str, Any]) -> int:
        """Remember the answer, and act on it."""
        from churn.pipeline import steps

        given = super().execute_complete(context, event)
        user = given["responded_by_user"]
        by = (user.get("name") or user.get("id")) if user else "nobody"
        answer = ("approved" if given["chosen_options"] == [APPROVE] else "rejected") if user else "expired"
        reason = (given["params_input"] or {}).get("reason") or {"expired": "nobody answered in time"}.get(
            answer, "no reason given"
        )
        with core_step() as (workspace, request):
            try:
                steps.answer(workspace, request.night, answer, by, reason)
            except steps.SecondPersonNeeded as own:
                self.log.warning("%s", own)
                self.response_timeout = workspace.settings.approval_time(datetime.now(UTC))
            else:
                return steps.promote(workspace, request.night)
        asked: int = super().execute(context)
        return asked
