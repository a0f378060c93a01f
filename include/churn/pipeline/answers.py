"""What people answer, for the record: to a decision, to the end of a freeze, and to a very high ROC AUC."""

from __future__ import annotations

from datetime import UTC, datetime

from churn.errors import ChurnError, require_reason
from churn.foundation.records import Approval, Confirmation, DecisionRecord, Thaw
from churn.foundation.wording import as_sentence_end
from churn.pipeline.recorded import decision_of
from churn.pipeline.workspace import Workspace


class SecondPersonNeeded(ChurnError):  # noqa: N818 -- names the state
    """The person who started the run approved it, and the settings require someone else's approval."""


def answer(workspace: Workspace, night: str, answer: str, by: str, reason: str) -> Approval:
    """Record a person's answer to a decision. The first answer counts, and repeating it changes nothing.

    Raises:
        SecondPersonNeeded: the person who started the run approves it, and `CHURN_SECOND_PERSON` is on.
        ChurnError: it was answered differently before; the decision is neither a promotion nor a dispute; or the approval is
            too late, because a later run has decided.
    """
    from churn.decision.reasons import Reason

    decision = decision_of(workspace, night)
    earlier = workspace.ledger.approval(night)
    if earlier and earlier.answer == answer:
        return earlier
    if earlier and earlier.answer == "expired":
        raise ChurnError(
            f"Run {night} can no longer be answered: nobody answered in time, so the promotion was rejected."
        )
    if earlier:
        raise ChurnError(
            f"Run {night} has already been {earlier.answer} by {earlier.by}: {as_sentence_end(earlier.reason)} The first answer counts."
        )
    last = workspace.ledger.last_decision(decision.model)
    if decision.dry_run or not (decision.approval or decision.code == Reason.BATCH_DISPUTED):
        raise ChurnError(
            f"Run {night} is not waiting for an approval: its decision is {decision.verdict} ({decision.code})."
        )
    if answer == "approved" and last and last.night != night:
        raise ChurnError(
            f"Run {night} can no longer be approved: run {last.night} has decided since, and its decision counts."
        )
    if answer == "approved" and workspace.settings.second_person:
        _require_second_person(decision, by)
    return workspace.ledger.answer(Approval(night, answer, by, require_reason(reason), datetime.now(UTC)))


def unfreeze(workspace: Workspace, reason: str, by: str) -> bool:
    """Turn automatic promotion on again; False if it was on."""
    reason, freeze = require_reason(reason), workspace.ledger.freeze(workspace.settings.model_name)
    if freeze:
        workspace.ledger.thaw(Thaw(freeze.model, freeze.sequence, reason, by, datetime.now(UTC)))
    return freeze is not None


def _require_second_person(decision: DecisionRecord, by: str) -> None:
    """Check that two people promote: the person who started the run does not approve it, and a forced run has a name.

    Names are compared without case and surrounding blanks, as in a login form. No person started a scheduled run, so anyone may approve it.
    """
    from churn.decision.reasons import Reason

    asked = (decision.requested_by or "").strip()
    if not by.strip() or (decision.code == Reason.FORCED and not asked):
        raise ChurnError(
            f"CHURN_SECOND_PERSON requires two people, but the person who {'forced' if by.strip() else 'approved'} run {decision.night} is unknown. "
            "Log in under your own name and start the run again."
        )
    if by.strip().casefold() == asked.casefold():
        raise SecondPersonNeeded(
            f"{asked} started run {decision.night}, and CHURN_SECOND_PERSON requires someone else's approval. The decision is still waiting: "
            "another person can approve it in Airflow or with `churn approve`, and anyone can reject it."
        )


def confirm_plausible(workspace: Workspace, reason: str, by: str) -> Confirmation:
    """Record that a ROC AUC above `sanity.max_model_auc` is plausible for the registered model; the first confirmation counts.

    Raises:
        ChurnError: the reason is empty.
    """
    model = workspace.settings.model_name
    return workspace.ledger.confirm(Confirmation(model, require_reason(reason), by, datetime.now(UTC)))
