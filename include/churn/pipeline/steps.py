"""The steps of a run as plain calls: what the DAGs wire, and what `churn run` does in one process.

Each step can be repeated, and passes ids and counts to the next. Heavy libraries are imported by the step that needs
them, because each Airflow task is a process of its own and pays for its imports.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from churn.errors import ChurnError, NothingToDo, Outage, require_reason
from churn.foundation.ledger import Ledger
from churn.foundation.records import Batch, DecisionRecord, Snapshot
from churn.foundation.wording import clear_task
from churn.pipeline import recorded
from churn.pipeline.workspace import EXTRA_LOCK, SERVING_LOCK, Request, Workspace
from churn.settings import git_commit

if TYPE_CHECKING:
    from churn.intake.arrival import Arrivals
    from churn.learning.training import Challenger
    from churn.pipeline.summary import RunSummary
    from churn.release.rollback import RolledBack

log = logging.getLogger(__name__)
MOST_FRESH = 50
"""After this number of accepted batches without a snapshot, one is taken before the next batch is judged."""


def arrive(workspace: Workspace, request: Request) -> Arrivals:
    """Claim the files that landed.

    Returns:
        What arrived. A repeated step lists the batches that this run has judged again, so that its tasks can be repeated too.

    Raises:
        NothingToDo: no batch waits for a verdict, no accepted batch waits for a training, and no retraining was requested.
    """
    from churn.intake.arrival import collect_arrivals

    cutoff_of_run(workspace, request)
    settings = workspace.settings
    arrivals = collect_arrivals(
        workspace.storage, workspace.ledger, settings.settle_seconds, settings.part_size, workspace.spread
    )
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


def validate_all(workspace: Workspace, request: Request, batches: Sequence[str]) -> list[Batch]:
    """Judge batches, one after the other. A fault of one leaves the others their verdict.

    Raises:
        Outage: a service does not answer. The rest waits for the next attempt.
        ChurnError: a batch has no verdict.
        BatchRejected: every batch has a verdict, and some are rejected.
    """
    from churn.intake.acceptance import BatchRejected

    judged: list[Batch] = []
    rejected: list[BatchRejected] = []
    faults: list[ChurnError] = []
    for batch in batches:
        try:
            judged.append(validate(workspace, request, batch))
        except BatchRejected as error:
            log.error("%s", error)  # noqa: TRY400 -- the message says it all, and it is raised again below
            rejected.append(error)
        except Outage:
            raise
        except ChurnError as error:
            log.error("%s", error)  # noqa: TRY400 -- as above
            faults.append(error)
    if faults:
        raise faults[0]
    if rejected:
        raise rejected[0] if len(rejected) == 1 else BatchRejected("\n".join(map(str, rejected)))
    return judged


def validate(workspace: Workspace, request: Request, batch: str) -> Batch:
    """Judge one batch; see `intake.acceptance.accept_batch`. Before that, a snapshot is taken if many batches wait for one."""
    from churn.intake.acceptance import accept_batch
    from churn.intake.table_rules import IntakeLimits

    _shorten_history(workspace, request)
    limits = IntakeLimits.of(workspace.settings)
    return accept_batch(
        batch, request.night, workspace.storage, workspace.ledger, workspace.contract, limits, request.link
    )


def train(workspace: Workspace, request: Request) -> Challenger:
    """Let the living versions score what arrived, take a snapshot, look at what became of promotions and lists, and train a challenger.

    Raises:
        NothingToDo: nothing was accepted since the last training, and no retraining was requested.
        BatchRejected: every batch of this run was rejected.
        RegistryChanged: the registered model in MLflow is not the one that the ledger describes.
    """
    from churn.intake.acceptance import BatchRejected
    from churn.learning.fitting_process import Limits
    from churn.learning.selection import SearchSpec
    from churn.learning.snapshot import take_snapshot
    from churn.learning.training import TrainingSpec, train_challenger
    from churn.outcomes.treated import read_treated
    from churn.pipeline.deciding import leaves_out_contacted
    from churn.pipeline.observing import observe, score_first
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
    if decided is None:
        score_first(workspace, request.night)
    snapshot = (workspace.ledger.snapshot(decided.snapshot) if decided else None) or take_snapshot(
        workspace.storage,
        workspace.ledger,
        workspace.contract,
        workspace.sampling,
        cutoff=cutoff_of_run(workspace, request),
    )
    if decided is None:
        observe(workspace, request.night, snapshot, request.at)
    # Before anything is trained: in another registry, a new version would get a number that the ledger knows.
    rows = workspace.ledger.promotions(workspace.settings.model_name)
    require_same_registry(rows, read_registry(workspace.tracking), workspace.ledger, workspace.tracking)
    settings = workspace.settings
    search = SearchSpec(
        settings.candidates,
        settings.cv_folds,
        settings.seed,
        settings.max_training_rows,
        Limits(settings.candidate_memory, settings.candidate_timeout),
        SERVING_LOCK,
        EXTRA_LOCK,
    )
    return train_challenger(
        request.night,
        snapshot,
        workspace.storage,
        workspace.ledger,
        workspace.contract,
        workspace.sampling,
        workspace.tracking,
        TrainingSpec(
            settings.min_training_rows, git_commit(), search, read_treated(workspace), leaves_out_contacted(workspace)
        ),
    )


def compare(workspace: Workspace, request: Request, challenger: Challenger) -> DecisionRecord:
    """Compare the challenger with the champion and record the decision; see `deciding.decide_run`."""
    from churn.pipeline.deciding import decide_run

    return decide_run(workspace, request, challenger)


def promote(workspace: Workspace, night: str, at: datetime | None = None) -> int:
    """Act on the decision of a run. `at` is the time of a run that is replayed.

    Returns:
        The version that was put into production.

    Raises:
        NothingToDo: the decision is a hold, was a dry run, or was not approved.
        PromotionConflict: production is no longer the champion of the comparison.
    """
    from churn.release import promotion

    decision, approval = recorded.decision_of(workspace, night), workspace.ledger.approval(night)
    if promotion.promote(decision, approval, workspace.ledger, workspace.tracking, at) is None:
        raise NothingToDo(f"Held ({recorded.why_held(decision, approval)}): {decision.sentence}")
    return decision.challenger


def roll_back(workspace: Workspace, to: int | None, reason: str, by: str, night: str) -> RolledBack:
    """Put an earlier version back into production; see `release.rollback.roll_back`."""
    from churn.release.rollback import roll_back as back

    return back(to, require_reason(reason), by, night, workspace.ledger, workspace.tracking, workspace.image_spec)


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
    if decision is None and not faults:
        _require_rows_that_count(workspace, request)
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

    rejected: BatchRejected | None = None
    try:
        validate_all(workspace, request, [batch.batch for batch in arrive(workspace, request).batches])
    except BatchRejected as error:
        rejected = error
        if not request.retrain and not _untrained(workspace):
            raise
    decision = compare(workspace, request, train(workspace, request))
    try:
        promoted = promote(workspace, request.night)
    except NothingToDo as held:
        log.info("%s", held)
    else:
        ship(workspace, promoted)
    if rejected:
        raise rejected
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
    trained = workspace.ledger.version(model, decision.challenger) if decision else None
    left_out = (trained.parameters or {}).get("left_out", "") if trained else ""
    return RunSummary(night, workspace.ledger.batches(night=night), decision, promotion, image, links, flags, left_out)


def counts(batch: Batch) -> dict[str, Any]:
    """The counts of a batch that tasks may pass on."""
    return {
        "batch": batch.batch,
        "arrived": batch.arrived_rows,
        "accepted": batch.accepted_rows,
        "quarantined": batch.quarantined_rows,
        "unlabelled": batch.unlabelled_rows,
    }


def cutoff_of_run(workspace: Workspace, request: Request) -> date:
    """The cut-off date of a run: that of its first step, which a repeated step uses again."""
    now = request.at or datetime.now(UTC)
    today = now.astimezone(ZoneInfo(workspace.settings.timezone)).date()
    return workspace.ledger.fix_cutoff(request.night, today)


def _shorten_history(workspace: Workspace, request: Request) -> None:
    """Take a snapshot if many accepted batches are in none, because each further batch is compared with every one of them."""
    from churn.intake.history import count_fresh
    from churn.learning.snapshot import take_snapshot

    fresh = count_fresh(workspace.storage, workspace.ledger, workspace.contract)
    if not fresh or fresh % MOST_FRESH:
        return
    cutoff = cutoff_of_run(workspace, request)
    try:
        take_snapshot(workspace.storage, workspace.ledger, workspace.contract, workspace.sampling, cutoff=cutoff)
    except Outage:
        raise
    except ChurnError as error:  # the batch gets its verdict all the same, and the training says what is wrong
        log.warning("No snapshot was taken of %d batches: %s", fresh, error)


def _require_rows_that_count(workspace: Workspace, request: Request) -> None:
    """Check that something can be trained on.

    Raises:
        NothingToDo: every accepted row waits for its label.
    """
    from churn.learning.snapshot import take_snapshot

    if workspace.contract.horizon_days is None or not workspace.ledger.hashes(state="accepted"):
        return
    cutoff = cutoff_of_run(workspace, request)
    take_snapshot(workspace.storage, workspace.ledger, workspace.contract, workspace.sampling, cutoff=cutoff)


def has_work(workspace: Workspace) -> bool:
    """Whether a batch waits for a verdict, or an accepted batch, or rows whose labels have become final, for a training."""
    return bool(workspace.ledger.hashes(state="arrived")) or _untrained(workspace)


def _untrained(workspace: Workspace) -> bool:
    """Whether the accepted batches differ from those that the last decision used, or other rows of them count. Dry runs do not count."""
    ledger = workspace.ledger
    last = ledger.last_decision(workspace.settings.model_name)
    seen = _snapshot(ledger, last.snapshot) if last else None
    if set(ledger.hashes(state="accepted")) != set(seen.batches if seen else []):
        return True
    if seen is None or workspace.contract.horizon_days is None:
        return False
    from churn.learning.snapshot import counts_others

    today = datetime.now(ZoneInfo(workspace.settings.timezone)).date()
    return counts_others(workspace.storage, ledger, seen, workspace.contract, today)


def _snapshot(ledger: Ledger, name: str) -> Snapshot:
    snapshot = ledger.snapshot(name)
    if snapshot is None:
        raise ChurnError(f"The ledger has no snapshot {name}. Run the training again.")
    return snapshot
