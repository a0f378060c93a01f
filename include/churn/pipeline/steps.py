"""The whole night as plain calls: what the DAGs wire, and what `churn run` does in one process.

Each step can be run again; what crosses from one to the next is ids and counts. Heavy libraries are
imported by the step that needs them: each Airflow task is a process of its own and pays for its imports.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from churn.errors import ChurnError, NothingToDo, Outage, stated
from churn.foundation.ledger import Ledger
from churn.foundation.records import Approval, Batch, DecisionRecord, ImageRecord, Snapshot, Thaw
from churn.pipeline.workspace import SERVING_LOCK, Request, Workspace
from churn.settings import git_commit

if TYPE_CHECKING:
    from churn.intake.arrival import Arrivals
    from churn.learning.training import Challenger
    from churn.pipeline.summary import NightSummary
    from churn.release.image import ImageSpec
    from churn.release.rollback import RolledBack

log = logging.getLogger(__name__)

_IMAGE_PROBLEMS = {
    "mismatch": "is not the model",
    "faulty": "is not published, since it is not what an image has to be",
    "failed": "is not there yet",
}


class SecondPersonNeeded(ChurnError):  # noqa: N818 -- it says what is the matter
    """The yes came from the person who asked for the night, and the settings want somebody else's."""


def arrive(workspace: Workspace, request: Request) -> Arrivals:
    """Claim what landed.

    Raises:
        NothingToDo: nothing waits for a verdict, nothing accepted waits for a training, and no
            retraining was asked for.
    """
    from churn.intake.arrival import collect_arrivals

    found = collect_arrivals(workspace.storage, workspace.ledger, workspace.settings.settle_seconds)
    if not request.retrain and not has_work(workspace.ledger):
        seen = (
            f" {len(found.seen_before)} file(s) were taken in before and change nothing." if found.seen_before else ""
        )
        growing = f" {len(found.unfinished)} file(s) are still being written." if found.unfinished else ""
        raise NothingToDo(
            f"Nothing new arrived in {workspace.storage.url('landing')}.{seen}{growing} "
            "`churn land FILE` lands a file; the trigger form can retrain all the same."
        )
    return found


def validate(workspace: Workspace, request: Request, batch: str) -> Batch:
    """Judge one batch; see `intake.acceptance.accept_batch`."""
    from churn.intake.acceptance import accept_batch
    from churn.intake.table_rules import IntakeLimits

    settings = workspace.settings
    limits = IntakeLimits(
        max_rejected_share=settings.max_rejected_share,
        memory_limit=settings.duckdb_memory_limit,
        max_disputed_share=settings.max_disputed_share,
        max_size_ratio=settings.max_size_ratio,
        drift_limit=settings.drift_limit,
    )
    return accept_batch(
        batch, request.night, workspace.storage, workspace.ledger, workspace.contract, limits, request.link
    )


def train(workspace: Workspace, request: Request) -> Challenger:
    """Take a snapshot and train a challenger on it.

    Raises:
        NothingToDo: nothing was accepted since the last training, and no retraining was asked for.
        BatchRejected: every batch of this night was.
    """
    from churn.intake.acceptance import BatchRejected
    from churn.learning.snapshot import take_snapshot
    from churn.learning.training import TrainingSpec, train_challenger

    decided = workspace.ledger.decision(request.night)
    if decided is None and not request.retrain and not _untrained(workspace.ledger):
        tonight = workspace.ledger.batches(night=request.night)
        if tonight:
            raise BatchRejected(
                f"All {len(tonight)} batches of night {request.night} were rejected: nothing is trained. `churn batches` says why."
            )
        raise NothingToDo("No batch was accepted since the last training.")
    snapshot = (workspace.ledger.snapshot(decided.snapshot) if decided else None) or take_snapshot(
        workspace.storage, workspace.ledger, workspace.contract, workspace.sampling
    )
    settings = workspace.settings
    spec = TrainingSpec(settings.min_training_rows, settings.cv_folds, settings.seed, git_commit(), SERVING_LOCK)
    return train_challenger(
        request.night, snapshot, workspace.storage, workspace.ledger, workspace.contract, workspace.tracking, spec
    )


def compare(workspace: Workspace, request: Request, challenger: Challenger) -> DecisionRecord:
    """Compare the challenger with the champion, decide, and remember it; see `deciding.decide_night`."""
    from churn.pipeline.deciding import decide_night

    return decide_night(workspace, request, challenger)


def decision_of(workspace: Workspace, night: str) -> DecisionRecord:
    """What the night decided.

    Raises:
        ChurnError: it has not decided.
    """
    decision = workspace.ledger.decision(night)
    if decision is None:
        raise ChurnError(f"Night {night} has no decision. Run its comparison first.")
    return decision


def needs_approval(workspace: Workspace, night: str) -> bool:
    """Whether the night's decision waits for a person."""
    decision = decision_of(workspace, night)
    return decision.approval and not decision.dry_run and workspace.ledger.approval(night) is None


def answer(workspace: Workspace, night: str, answer: str, by: str, reason: str) -> Approval:
    """Remember a person's answer to the night's decision; the first one counts, and the same again changes nothing.

    Raises:
        SecondPersonNeeded: whoever asked for the night says yes to it, and `CHURN_SECOND_PERSON` is on.
        ChurnError: it was answered otherwise before; there is nothing to answer: the decision is no promotion and no dispute; or a yes comes too late,
            since a later night has decided.
    """
    from churn.decision.reasons import Reason

    decision = decision_of(workspace, night)
    known = workspace.ledger.approval(night)
    if known and known.answer == answer:
        return known
    if known:
        raise ChurnError(
            f"Night {night} was {known.answer} already, by {known.by}: {known.reason} The first answer counts."
        )
    last = workspace.ledger.last_decision()
    if decision.dry_run or not (decision.approval or decision.code == Reason.BATCH_DISPUTED):
        raise ChurnError(f"Night {night} asks for no approval: it is {decision.verdict} ({decision.code}).")
    if answer == "approved" and last and last.night != night:
        raise ChurnError(f"Night {night} is history: night {last.night} has decided since. Its decision counts now.")
    if answer == "approved" and workspace.settings.second_person:
        _require_second_person(decision, by)
    return workspace.ledger.answer(Approval(night, answer, by, stated(reason), datetime.now(UTC)))


def promote(workspace: Workspace, night: str) -> int:
    """Act on the night's decision.

    Returns:
        The version that this night put into production.

    Raises:
        NothingToDo: the decision is a hold, was a dry run, or a person has not agreed.
        PromotionConflict: production is no longer the champion of the comparison.
    """
    from churn.release import promotion

    decision, approval = decision_of(workspace, night), workspace.ledger.approval(night)
    if promotion.promote(decision, approval, workspace.ledger, workspace.tracking) is None:
        raise NothingToDo(f"Held ({_why_held(decision, approval)}): {decision.sentence}")
    return decision.challenger


def roll_back(workspace: Workspace, to: int | None, reason: str, by: str, night: str) -> RolledBack:
    """Put an earlier version back into production; see `release.rollback.roll_back`."""
    from churn.release.rollback import roll_back as back

    return back(to, stated(reason), by, night, workspace.ledger, workspace.tracking, workspace.image_spec)


def unfreeze(workspace: Workspace, reason: str, by: str) -> bool:
    """Turn automatic promotion on again; False if it was on."""
    reason, freeze = stated(reason), workspace.ledger.freeze(workspace.settings.model_name)
    if freeze:
        workspace.ledger.thaw(Thaw(freeze.model, freeze.sequence, reason, by, datetime.now(UTC)))
    return freeze is not None


def reconcile(workspace: Workspace) -> list[str]:
    """Bring the registry to the ledger; what was otherwise, in sentences."""
    from churn.release.mirror import mirror, read_registry
    from churn.release.promotion import describe_difference

    rows = workspace.ledger.promotions(workspace.settings.model_name)
    if not rows:
        return ["Nothing has ever been in production: there is nothing to reconcile."]
    moved = describe_difference(rows, read_registry(workspace.tracking))
    mirror(workspace.ledger, workspace.tracking)
    return [moved, "The registry follows the ledger again."] if moved else []


def close(workspace: Workspace, request: Request) -> str:
    """Check that the night is whole.

    Returns:
        The verdict in a sentence.

    Raises:
        NothingToDo: the night had nothing to do.
        ChurnError: a batch was rejected or has no verdict, or the night has no decision.
    """
    tonight = workspace.ledger.batches(night=request.night)
    faults = [batch.reason for batch in tonight if batch.state == "rejected" and batch.reason]
    faults += [
        f"Batch {batch.batch[:12]} ({batch.name}) has no verdict: see its validate task."
        for batch in workspace.ledger.batches(state="arrived")
    ]
    decision = workspace.ledger.decision(request.night)
    if decision is None and (request.retrain or tonight or _untrained(workspace.ledger)):
        faults.append(f"Night {request.night} has no decision: see its failed task.")
        try:
            workspace.tracking.fail_runs(request.night)
        except Outage as error:
            faults.append(str(error))
    if faults:
        raise ChurnError("\n".join(faults))
    if decision is None:
        raise NothingToDo("Nothing new arrived, so there is nothing to close.")
    return f"{decision.verdict} ({decision.code}): {decision.sentence}"


def run_night(workspace: Workspace, request: Request) -> DecisionRecord:
    """The whole night in this process, image included: the same calls that the DAGs make.

    Raises:
        NothingToDo: there is nothing to do tonight.
        ChurnError: a step failed; a rejected batch is raised at the end, after the others went on.
    """
    from churn.intake.acceptance import BatchRejected
    from churn.pipeline.shipping import ship

    rejected = []
    for batch in arrive(workspace, request).batches:
        try:
            validate(workspace, request, batch.batch)
        except BatchRejected as error:
            log.error("%s", error)  # noqa: TRY400 -- the message says it all, and it is raised again below
            rejected.append(error)
    if rejected and not request.retrain and not _untrained(workspace.ledger):
        raise rejected[0]
    decision = compare(workspace, request, train(workspace, request))
    try:
        promoted = promote(workspace, request.night)
    except NothingToDo as held:
        log.info("%s", held)
    else:
        ship(workspace, promoted)
    if rejected:
        raise rejected[0]
    return decision


def summarise(workspace: Workspace, night: str) -> NightSummary:
    """What the ledger knows of a night, with the pages to look at."""
    from churn.pipeline.summary import NightSummary
    from churn.release.withdrawal import say_flags

    model = workspace.settings.model_name
    decision, promotion = workspace.ledger.decision(night), workspace.ledger.in_production(model)
    image = workspace.ledger.image(model, promotion.version) if promotion and promotion.version else None
    links = {"Comparison in MLflow": workspace.tracking.run_link(decision.run_id)} if decision else {}
    flags = say_flags(promotion.version, workspace.ledger, model) if promotion and promotion.version else []
    return NightSummary(night, workspace.ledger.batches(night=night), decision, promotion, image, links, flags)


def counts(batch: Batch) -> dict[str, Any]:
    """What may cross from task to task of a batch."""
    return {
        "batch": batch.batch,
        "arrived": batch.arrived_rows,
        "accepted": batch.accepted_rows,
        "quarantined": batch.quarantined_rows,
        "unlabelled": batch.unlabelled_rows,
    }


def find_disagreements(workspace: Workspace) -> list[str]:
    """Where registry, ledger and image differ about what is in production; empty when they agree."""
    from churn.foundation.artifacts import ArtifactChanged, downloaded, require_registered
    from churn.release.mirror import read_registry
    from churn.release.promotion import describe_difference

    rows = workspace.ledger.promotions(workspace.settings.model_name)
    promotion = rows[0] if rows else None
    expected = promotion.version if promotion else None
    moved = describe_difference(rows, read_registry(workspace.tracking))
    problems = [f"{moved} `churn reconcile` puts the registry back to the ledger."] if moved else []
    if promotion and expected is not None:
        found = _image_problem(workspace.ledger.image(workspace.settings.model_name, expected), workspace.image_spec)
        problems += [f"The image of version {expected}, which is in production, {found}"] if found else []
        try:
            with downloaded(expected, workspace.tracking) as files:
                require_registered(expected, files, workspace.ledger, workspace.settings.model_name)
        except ArtifactChanged as changed:
            problems.append(f"In production is version {expected}: {changed}")
    return problems


def _image_problem(image: ImageRecord | None, spec: ImageSpec) -> str | None:
    """What is the matter with the image in production; where no engine answers nobody can look for it."""
    from churn.release.engine import Engine, EngineFailed
    from churn.release.publishing import find_change

    if image is None:
        return (
            "has no state: the image run has not ended well. Clear its run image-of-version-... of churn_image_build in Airflow, or trigger "
            "that DAG with the version; without Airflow `churn image build`."
        )
    if image.state in _IMAGE_PROBLEMS:
        return f"{_IMAGE_PROBLEMS[image.state]}: {image.detail}"
    try:
        changed = find_change(image, spec) if Engine.find(spec.engine) else None
    except EngineFailed as error:
        return f"cannot be looked for: {error}"
    return f"{changed}. `churn image build` mends that." if changed else None


def has_work(ledger: Ledger) -> bool:
    """Whether a batch waits for its verdict, or what is accepted for a training."""
    return bool(ledger.hashes(state="arrived")) or _untrained(ledger)


def _untrained(ledger: Ledger) -> bool:
    """Whether the accepted batches are others than the last decision saw; a dry run does not count."""
    last = ledger.last_decision()
    seen = _snapshot(ledger, last.snapshot).batches if last else []
    return set(ledger.hashes(state="accepted")) != set(seen)


def _require_second_person(decision: DecisionRecord, by: str) -> None:
    """Nobody promotes alone: who asked for the night does not agree to it, and who forced it has a name.

    Names are compared as a login form reads them. A night of the schedule was asked for by nobody, so anybody's yes is a second opinion.
    """
    from churn.decision.reasons import Reason

    asked = (decision.requested_by or "").strip()
    if not by.strip() or (decision.code == Reason.FORCED and not asked):
        raise ChurnError(
            f"By CHURN_SECOND_PERSON two people promote, and of night {decision.night} it is not known who "
            f"{'forced it' if by.strip() else 'says yes'}. Log in under a name of your own and ask for the night again."
        )
    if by.strip().casefold() == asked.casefold():
        raise SecondPersonNeeded(
            f"Night {decision.night} was asked for by {asked}: by CHURN_SECOND_PERSON somebody else has to agree. "
            "The decision still waits: another person approves it in Airflow or by `churn approve`, or anybody rejects it."
        )


def _why_held(decision: DecisionRecord, approval: Approval | None) -> str:
    if decision.dry_run:
        return "dry run"
    if approval and approval.answer != "approved":
        return f"{approval.answer} by {approval.by}"
    return "waits for an approval: `churn approve`" if decision.approval else decision.code


def _snapshot(ledger: Ledger, name: str) -> Snapshot:
    snapshot = ledger.snapshot(name)
    if snapshot is None:
        raise ChurnError(f"The ledger knows no snapshot {name}. Run the training again.")
    return snapshot
