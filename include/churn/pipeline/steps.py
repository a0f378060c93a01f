"""The steps of a run as plain calls: what the DAGs wire, and what `churn run` does in one process.

Each step can be repeated, and passes ids and counts to the next. Heavy libraries are imported by the step that needs
them, because each Airflow task is a process of its own and pays for its imports.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from churn.errors import ChurnError, NothingToDo, Outage, require_reason
from churn.foundation.ledger import Ledger
from churn.foundation.records import Approval, Batch, DecisionRecord, ImageRecord, Snapshot, Thaw
from churn.foundation.wording import as_sentence_end, clear_task
from churn.pipeline.workspace import SERVING_LOCK, Request, Workspace
from churn.settings import git_commit

if TYPE_CHECKING:
    from churn.intake.arrival import Arrivals
    from churn.learning.training import Challenger
    from churn.pipeline.summary import RunSummary
    from churn.release.image import ImageSpec
    from churn.release.rollback import RolledBack

log = logging.getLogger(__name__)

_IMAGE_PROBLEMS = {
    "mismatch": "differs from the model",
    "faulty": "is not published, because it fails another check (libraries, files, invalid requests)",
    "failed": "could not be built",
}


class SecondPersonNeeded(ChurnError):  # noqa: N818 -- names the state
    """The person who started the run approved it, and the settings require someone else's approval."""


def arrive(workspace: Workspace, request: Request) -> Arrivals:
    """Claim the files that landed.

    Returns:
        What arrived. A repeated step lists the batches that this run has judged again, so that its tasks can be repeated too.

    Raises:
        NothingToDo: no batch waits for a verdict, no accepted batch waits for a training, and no retraining was requested.
    """
    from churn.intake.arrival import collect_arrivals

    arrivals = collect_arrivals(workspace.storage, workspace.ledger, workspace.settings.settle_seconds)
    judged = workspace.ledger.batches(night=request.night)
    if not judged and not request.retrain and not has_work(workspace):
        seen = (
            f" {len(arrivals.seen_before)} file(s) were accepted before and change nothing."
            if arrivals.seen_before
            else ""
        )
        growing = f" {len(arrivals.unfinished)} file(s) are still being written." if arrivals.unfinished else ""
        raise NothingToDo(
            f"Nothing new arrived in {workspace.storage.url('landing')}.{seen}{growing} "
            "Next: land a file with `churn land FILE`, or choose *Retrain even if nothing arrived* in the trigger form."
        )
    return replace(arrivals, batches=sorted([*judged, *arrivals.batches], key=lambda batch: batch.arrival))


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
        NothingToDo: nothing was accepted since the last training, and no retraining was requested.
        BatchRejected: every batch of this run was rejected.
        RegistryChanged: the registered model in MLflow is not the one that the ledger describes.
    """
    from churn.intake.acceptance import BatchRejected
    from churn.learning.snapshot import take_snapshot
    from churn.learning.training import TrainingSpec, train_challenger
    from churn.release.agreement import require_same_registry
    from churn.release.mirror import read_registry

    decided = workspace.ledger.decision(request.night)
    if decided is None and not request.retrain and not _untrained(workspace):
        arrived = workspace.ledger.batches(night=request.night)
        if arrived:
            raise BatchRejected(
                f"{'The batch' if len(arrived) == 1 else f'All {len(arrived)} batches'} of run {request.night} "
                f"{'was' if len(arrived) == 1 else 'were'} rejected, so nothing is trained. `churn batches` shows why."
            )
        raise NothingToDo("No batch was accepted since the last training.")
    snapshot = (workspace.ledger.snapshot(decided.snapshot) if decided else None) or take_snapshot(
        workspace.storage, workspace.ledger, workspace.contract, workspace.sampling
    )
    # Before anything is trained: in another registry, a new version would get a number that the ledger knows.
    rows = workspace.ledger.promotions(workspace.settings.model_name)
    require_same_registry(rows, read_registry(workspace.tracking), workspace.ledger, workspace.tracking)
    settings = workspace.settings
    spec = TrainingSpec(settings.min_training_rows, settings.cv_folds, settings.seed, git_commit(), SERVING_LOCK)
    return train_challenger(
        request.night, snapshot, workspace.storage, workspace.ledger, workspace.contract, workspace.tracking, spec
    )


def compare(workspace: Workspace, request: Request, challenger: Challenger) -> DecisionRecord:
    """Compare the challenger with the champion and record the decision; see `deciding.decide_run`."""
    from churn.pipeline.deciding import decide_run

    return decide_run(workspace, request, challenger)


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


def promote(workspace: Workspace, night: str) -> int:
    """Act on the decision of a run.

    Returns:
        The version that was put into production.

    Raises:
        NothingToDo: the decision is a hold, was a dry run, or was not approved.
        PromotionConflict: production is no longer the champion of the comparison.
    """
    from churn.release import promotion

    decision, approval = decision_of(workspace, night), workspace.ledger.approval(night)
    if promotion.promote(decision, approval, workspace.ledger, workspace.tracking) is None:
        raise NothingToDo(f"Held ({_why_held(decision, approval)}): {decision.sentence}")
    return decision.challenger


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
    raise NothingToDo(f"Nothing was promoted ({_why_held(decision, approval)}), so no image is built.")


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


def roll_back(workspace: Workspace, to: int | None, reason: str, by: str, night: str) -> RolledBack:
    """Put an earlier version back into production; see `release.rollback.roll_back`."""
    from churn.release.rollback import roll_back as back

    return back(to, require_reason(reason), by, night, workspace.ledger, workspace.tracking, workspace.image_spec)


def unfreeze(workspace: Workspace, reason: str, by: str) -> bool:
    """Turn automatic promotion on again; False if it was on."""
    reason, freeze = require_reason(reason), workspace.ledger.freeze(workspace.settings.model_name)
    if freeze:
        workspace.ledger.thaw(Thaw(freeze.model, freeze.sequence, reason, by, datetime.now(UTC)))
    return freeze is not None


def reconcile(workspace: Workspace) -> list[str]:
    """Bring the MLflow registry into line with the ledger; returns what differed, in sentences."""
    from churn.release.agreement import describe_difference, describe_missing, require_same_registry
    from churn.release.mirror import mirror, read_registry

    rows = workspace.ledger.promotions(workspace.settings.model_name)
    if not rows:
        return ["Nothing has ever been in production, so there is nothing to reconcile."]
    state = read_registry(workspace.tracking)
    require_same_registry(rows, state, workspace.ledger, workspace.tracking)
    difference = describe_difference(rows, state)
    mirror(workspace.ledger, workspace.tracking)
    restored = [difference, "The MLflow registry agrees with the ledger again."] if difference else []
    return restored + describe_missing(rows, state)


def close(workspace: Workspace, request: Request, ingested: bool = True) -> str:
    """Check that the run is complete.

    Args:
        workspace: the clients of the steps.
        request: how the run was requested.
        ingested: whether the files in landing were ingested. They were not if `arrive` failed, or was only marked as success.

    Returns:
        The verdict in a sentence.

    Raises:
        NothingToDo: the run had nothing to do.
        ChurnError: the files in landing were not ingested, a batch was rejected or has no verdict, or the run has no decision.
    """
    arrived = workspace.ledger.batches(night=request.night)
    faults = [batch.reason for batch in arrived if batch.state == "rejected" and batch.reason]
    if not ingested:
        faults.append(
            f"Run {request.night} has not ingested the files in landing, because its task `arrive` failed or was marked as success "
            f"before it ran. {clear_task('arrive')} Otherwise, the next run ingests them."
        )
    else:
        faults += [
            f"Batch {batch.batch[:12]} ({batch.name}) has no verdict. If its task `validate` failed, its log shows the cause. {clear_task('validate')}"
            for batch in workspace.ledger.batches(state="arrived")
        ]
    decision = workspace.ledger.decision(request.night)
    if decision is None and (request.retrain or arrived or _untrained(workspace)):
        faults.append(
            f"Run {request.night} has no decision. Open the log of its failed task and fix the cause. Then clear that task, with its downstream tasks."
        )
        try:
            workspace.tracking.fail_runs(request.night)
        except Outage as error:
            faults.append(str(error))
    if faults:
        raise ChurnError("\n".join(faults))
    if decision is None:
        raise NothingToDo("Nothing new arrived, so there is nothing to check.")
    return f"{decision.verdict} ({decision.code}): {decision.sentence}"


def run_night(workspace: Workspace, request: Request) -> DecisionRecord:
    """Do a whole run in this process, including the image, with the calls that the DAGs make.

    Raises:
        NothingToDo: there is nothing to do.
        ChurnError: a step failed. A rejected batch is raised at the end, after the other batches.
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
    if rejected and not request.retrain and not _untrained(workspace):
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


def summarise(workspace: Workspace, night: str) -> RunSummary:
    """What the ledger knows of a run, with links to its pages."""
    from churn.pipeline.summary import RunSummary
    from churn.release.withdrawal import say_flags

    model = workspace.settings.model_name
    decision, promotion = workspace.ledger.decision(night), workspace.ledger.in_production(model)
    image = workspace.ledger.image(model, promotion.version) if promotion and promotion.version else None
    links = {"Comparison in MLflow": workspace.tracking.run_link(decision.run_id)} if decision else {}
    flags = say_flags(promotion.version, workspace.ledger, model) if promotion and promotion.version else []
    return RunSummary(night, workspace.ledger.batches(night=night), decision, promotion, image, links, flags)


def counts(batch: Batch) -> dict[str, Any]:
    """The counts of a batch that tasks may pass on."""
    return {
        "batch": batch.batch,
        "arrived": batch.arrived_rows,
        "accepted": batch.accepted_rows,
        "quarantined": batch.quarantined_rows,
        "unlabelled": batch.unlabelled_rows,
    }


def find_disagreements(workspace: Workspace) -> list[str]:
    """Where MLflow registry, ledger and image disagree about production, and what is missing in MLflow; empty if all is well."""
    from churn.foundation.artifacts import ArtifactChanged, downloaded, require_registered
    from churn.foundation.tracking import TrackingGone
    from churn.release.agreement import describe_difference, describe_missing, require_same_registry
    from churn.release.mirror import read_registry

    rows = workspace.ledger.promotions(workspace.settings.model_name)
    promotion = rows[0] if rows else None
    expected = promotion.version if promotion else None
    state = read_registry(workspace.tracking)
    require_same_registry(rows, state, workspace.ledger, workspace.tracking)
    difference = describe_difference(rows, state)
    problems = [f"{difference} `churn reconcile` restores what the ledger says."] if difference else []
    problems += describe_missing(rows, state) + workspace.tracking.describe_deleted_experiment()
    if expected is not None:
        problem = _image_problem(
            expected, workspace.ledger.image(workspace.settings.model_name, expected), workspace.image_spec
        )
        problems += [f"The image of version {expected}, which is in production, {problem}"] if problem else []
    if expected is not None and expected in state.versions:
        try:
            with downloaded(expected, workspace.tracking) as files:
                require_registered(expected, files, workspace.ledger, workspace.settings.model_name)
        except (ArtifactChanged, TrackingGone) as changed:
            problems.append(f"Version {expected} is in production, but: {changed}")
    return problems


def _image_problem(version: int, image: ImageRecord | None, spec: ImageSpec) -> str | None:
    """Describe what is wrong with the image in production, as the end of a sentence. It is only looked for if an engine answers."""
    from churn.release.engine import Engine, EngineFailed
    from churn.release.publishing import find_change

    if image is None:
        return (
            f"does not exist: its run failed or has not ended. Clear the run image-of-version-{version} of churn_image_build in Airflow, trigger "
            f"that DAG with the version, or run `churn image build --version {version}`."
        )
    if image.state in _IMAGE_PROBLEMS:
        return f"{_IMAGE_PROBLEMS[image.state]}: {image.detail}"
    try:
        changed = find_change(image, spec) if Engine.find(spec.engine) else None
    except EngineFailed as error:
        return f"could not be checked: {error}"
    return f"{changed}. Run `churn image build --version {version}`." if changed else None


def has_work(workspace: Workspace) -> bool:
    """Whether a batch waits for a verdict, or an accepted batch for a training."""
    return bool(workspace.ledger.hashes(state="arrived")) or _untrained(workspace)


def _untrained(workspace: Workspace) -> bool:
    """Whether the accepted batches differ from those that the last decision used. Dry runs do not count."""
    ledger = workspace.ledger
    last = ledger.last_decision(workspace.settings.model_name)
    seen = _snapshot(ledger, last.snapshot).batches if last else []
    return set(ledger.hashes(state="accepted")) != set(seen)


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


def _why_held(decision: DecisionRecord, approval: Approval | None) -> str:
    if decision.dry_run:
        return "dry run"
    if approval and approval.answer == "expired":
        return "nobody answered in time, so the promotion was rejected"
    if approval and approval.answer != "approved":
        return f"{approval.answer} by {approval.by}"
    waiting = f'waiting for an approval: `churn approve "{decision.night}" --reason ...`'
    return waiting if decision.approval else decision.code


def _snapshot(ledger: Ledger, name: str) -> Snapshot:
    snapshot = ledger.snapshot(name)
    if snapshot is None:
        raise ChurnError(f"The ledger has no snapshot {name}. Run the training again.")
    return snapshot
