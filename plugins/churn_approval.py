"""The promotion of a night: at once, or after a person has agreed in Airflow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context, Param

from churn_review.links import ComparisonLink, VersionLink
from churn_wiring import core_step, lead_to, lead_to_night

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
        from churn import night
        from churn.foundation.addresses import night_page

        with core_step() as (bench, request):
            lead_to_night(bench, request)
            decision = night.decision_of(bench, request.night)
            lead_to(VersionLink(), bench.tracking.version_link(decision.challenger))
            lead_to(ComparisonLink(), bench.tracking.run_link(decision.run_id))
            if not night.needs_approval(bench, request.night):
                return night.promote(bench, request.night)
            self.subject = f"Put version {decision.challenger} into production? ({decision.verdict}: {decision.code})"
            self.body = f"{decision.sentence}\n\n[The comparison in MLflow]({bench.tracking.run_link(decision.run_id)}) · [The review of the night]({night_page(bench.settings, request.night)})"
            if bench.settings.second_person and decision.requested_by:
                self.body += f"\n\nA yes counts from anybody but {decision.requested_by}, who asked for this night."
            self.response_timeout = bench.settings.approval_time(datetime.now(UTC))
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> int:
        """Remember the answer, and act on it."""
        from churn import night

        given = super().execute_complete(context, event)
        user = given["responded_by_user"]
        by = (user.get("name") or user.get("id")) if user else "nobody"
        answer = ("approved" if given["chosen_options"] == [APPROVE] else "rejected") if user else "expired"
        reason = (given["params_input"] or {}).get("reason") or {"expired": "nobody answered in time"}.get(
            answer, "no reason given"
        )
        with core_step() as (bench, request):
            try:
                night.answer(bench, request.night, answer, by, reason)
            except night.SecondPersonNeeded as own:
                self.log.warning("%s", own)
                self.response_timeout = bench.settings.approval_time(datetime.now(UTC))
            else:
                return night.promote(bench, request.night)
        return super().execute(context)
