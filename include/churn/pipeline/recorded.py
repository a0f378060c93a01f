"""What a run has done so far, by the ledger: a task that a person marked as success passes nothing on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from churn.errors import ChurnError, NothingToDo
from churn.foundation.records import Approval, DecisionRecord
from churn.foundation.wording import clear_task
from churn.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from churn.learning.training import Challenger


def challenger_of(workspace: Workspace, night: str) -> Challenger:
    """The challenger that a run has trained. It comes from the ledger, because a task marked as success passes nothing on.

    Raises:
        ChurnError: it has trained none.
    """
    from churn.learning.training import Challenger

    record = workspace.ledger.version_of_run(workspace.settings.model_name, night)
    if record is None:
        raise ChurnError(f"Run {night} has not trained a version. {clear_task('train')}")
    return Challenger(record.version, record.run_id, (record.parameters or {}).get("kind", ""), record.snapshot)


def decision_of(workspace: Workspace, night: str) -> DecisionRecord:
    """The decision of a run.

    Raises:
        ChurnError: it has none.
    """
    decision = workspace.ledger.decision(night)
    if decision is None:
        raise ChurnError(f"Run {night} has no decision. {clear_task('compare')}")
    return decision


def needs_approval(workspace: Workspace, night: str) -> bool:
    """Whether the decision of a run waits for a person."""
    decision = decision_of(workspace, night)
    return decision.approval and not decision.dry_run and workspace.ledger.approval(night) is None


def promoted_version(workspace: Workspace, night: str) -> int:
    """The version that a run has promoted.

    Raises:
        NothingToDo: it had nothing to promote.
        ChurnError: it has no decision, or has not acted on it.
    """
    from churn.release.promotion import may_promote

    for row in workspace.ledger.promotions_of(workspace.settings.model_name, night):
        if row.kind in ("promotion", "forced") and row.version is not None:
            return row.version
    decision, approval = decision_of(workspace, night), workspace.ledger.approval(night)
    if may_promote(decision, approval) or needs_approval(workspace, night):
        raise ChurnError(f"Run {night} has not promoted version {decision.challenger}. {clear_task('promote')}")
    raise NothingToDo(f"Nothing was promoted ({why_held(decision, approval)}), so no image is built.")


def restored_version(workspace: Workspace, night: str) -> int:
    """The version that a rollback has restored.

    Raises:
        ChurnError: it has restored none.
    """
    for row in workspace.ledger.promotions_of(workspace.settings.model_name, night):
        if row.kind == "rollback" and row.version is not None:
            return row.version
    raise ChurnError(f"Run {night} has not rolled back. {clear_task('roll_back')}")


def find_lost_image(workspace: Workspace, night: str, has_image: bool) -> int:
    """The version that a rollback has restored, if its image may have to be built.

    Args:
        workspace: the clients of the steps.
        night: the id of the rollback.
        has_image: whether the rollback found the image. If that is unknown, the build finds out.

    Raises:
        NothingToDo: the image exists.
        ChurnError: the rollback has restored no version.
    """
    version = restored_version(workspace, night)
    if has_image:
        raise NothingToDo(f"The image of version {version} exists, so nothing has to be built.")
    return version


def why_held(decision: DecisionRecord, approval: Approval | None) -> str:
    """Why a decision is not carried out, in a few words."""
    if decision.dry_run:
        return "dry run"
    if approval and approval.answer == "expired":
        return "nobody answered in time, so the promotion was rejected"
    if approval and approval.answer != "approved":
        return f"{approval.answer} by {approval.by}"
    waiting = f'waiting for an approval: `churn approve "{decision.night}" --reason ...`'
    return waiting if decision.approval else decision.code
