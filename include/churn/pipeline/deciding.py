"""The decision of a run: made from evidence, history and policy, shown in MLflow, and recorded in the ledger once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version as installed

from churn.decision import evidence_file
from churn.decision.comparison import Case, Comparison, Evidence, Force, History, compare
from churn.decision.curves import curves_of
from churn.decision.eligibility import ComparedVersions
from churn.decision.evidence import gather_evidence
from churn.decision.history import read_history, suspect_batches, take_look
from churn.decision.policy import Decision, Verdict, decide, hold_invalid_policy, tests_superiority
from churn.decision.policy_file import Policy, PolicyInvalid, load_policy_text
from churn.decision.reasons import Reason
from churn.decision.replay import record_digest
from churn.decision.report import Review, log_comparison
from churn.decision.rule_forms import RULES_VERSION
from churn.decision.slices import slicings
from churn.errors import ChurnError
from churn.foundation.digests import json_digest, text_digest
from churn.foundation.links import docs_page, night_page
from churn.foundation.records import Batch, DecisionRecord, Promotion, Snapshot
from churn.learning.training import Challenger
from churn.outcomes.treated import read_treated
from churn.pipeline.answers import confirm_plausible
from churn.pipeline.workspace import Request, Workspace
from churn.release.promotion import settle_champion
from churn.scoring.score_list import read_policy as read_scoring_policy
from churn.settings import git_commit

log = logging.getLogger(__name__)
MOST_SHOWN = 5
"""Batches of a run that its comparison in MLflow links, and warnings that it repeats: a description there has at most 8,000 characters."""


def decide_run(workspace: Workspace, request: Request, challenger: Challenger) -> DecisionRecord:
    """Compare the challenger with the champion, decide, and record the decision. A run decides once.

    Raises:
        ChampionDisagreement: MLflow registry and ledger name different champions.
        ModelUnloadable: a version's artifacts are missing.
        TrackingUnreachable: MLflow is unavailable.
    """
    recorded = workspace.ledger.decision(request.night)
    if recorded:
        return recorded
    settle_champion(workspace.ledger, workspace.tracking, adopt=workspace.settings.hand_made_changes == "adopt")
    promotion = workspace.ledger.in_production(workspace.settings.model_name)
    snapshot = workspace.ledger.snapshot(challenger.snapshot)
    if snapshot is None:
        raise ChurnError(f"The ledger has no snapshot {challenger.snapshot}. Run the training again.")
    now = request.at or datetime.now(UTC)
    if request.plausible_reason:
        confirm_plausible(workspace, request.plausible_reason, request.requested_by or "someone")
    history = read_history(workspace.ledger, workspace.settings.model_name, promotion, now, _force(request))
    text, policy, fault = _read_policy(workspace)
    if policy is None:
        case = Case(challenger.version, promotion.version if promotion else None, None, snapshot.snapshot, history)
        evidence, comparison, decision = None, compare(case, None, (), 1), hold_invalid_policy(fault)
    else:
        evidence, comparison = _measure(workspace, request, challenger, promotion, snapshot, history, policy)
        decision = decide(comparison, policy)
    return _record(workspace, request, decision, comparison, evidence, policy, text)


def requires_approval(decision: Decision, request: Request, when: str, second_person: bool = False) -> bool:
    """Whether a decision needs a person's approval before it is carried out.

    Args:
        decision: the decision.
        request: how the run was requested.
        when: the setting `CHURN_APPROVAL`: never, disputed or always.
        second_person: the setting `CHURN_SECOND_PERSON`. A forced promotion then needs an approval too.
    """
    disputed = decision.code is Reason.BATCH_DISPUTED
    forced = second_person and decision.code is Reason.FORCED
    wanted = request.approval or when == "always" or (disputed and when == "disputed") or forced
    return wanted and (disputed or decision.verdict is Verdict.PROMOTE)


def leaves_out_contacted(workspace: Workspace) -> bool:
    """Whether the policy wants no training on customers whom a list had contacted; a policy that cannot be used wants nothing."""
    _, policy, _ = _read_policy(workspace)
    return policy is not None and policy.training.contacted == "leave_out"


def docs_link(workspace: Workspace, batch: str) -> str:
    """The address of a batch's Data Docs."""
    return docs_page(workspace.settings, batch)


def _measure(
    workspace: Workspace,
    request: Request,
    challenger: Challenger,
    promotion: Promotion | None,
    snapshot: Snapshot,
    history: History,
    policy: Policy,
) -> tuple[Evidence | None, Comparison]:
    """Score and compare; and count a look if the challenger is tested against the champion."""
    champion, anchor = (promotion.version, promotion.anchor) if promotion else (None, None)
    suspects = suspect_batches(workspace.ledger, workspace.settings.model_name, snapshot, champion)
    compared = ComparedVersions(challenger.version, champion, anchor, snapshot, suspects)
    gathered = gather_evidence(compared, policy, workspace, read_treated(workspace))
    case = Case(
        challenger=challenger.version,
        champion=champion,
        anchor=anchor,
        snapshot=snapshot.snapshot,
        history=history,
        window=gathered.window,
        suspects=suspects,
        leaks=gathered.leaks,
        refusal=gathered.refusal,
        anchor_refusal=gathered.anchor_refusal,
        contact=gathered.contact,
    )
    comparison = compare(case, gathered.evidence, slicings(workspace.contract), policy.slices.min_each_class)
    if promotion and gathered.evidence and tests_superiority(comparison, policy):
        model, timezone = workspace.settings.model_name, workspace.settings.timezone
        look = take_look(
            workspace.ledger, model, request.night, promotion, gathered.evidence, history.decided_at, timezone
        )
        counted = replace(history, looks_before=look.position)
        comparison = replace(comparison, case=replace(case, history=counted))
    return gathered.evidence, comparison


def _record(
    workspace: Workspace,
    request: Request,
    decision: Decision,
    comparison: Comparison,
    evidence: Evidence | None,
    policy: Policy | None,
    policy_text: str,
) -> DecisionRecord:
    """Store the scored rows, log the comparison to MLflow, and record the decision, in this order."""
    sliced, capacity = slicings(workspace.contract), _capacity(workspace, comparison)
    stored = comparison.as_dict()
    digests = {"policy": text_digest(policy_text), "case": json_digest(stored["case"])}
    if evidence is not None:
        parts = evidence_file.digests_of(evidence, sliced)
        evidence_file.write_evidence(evidence, sliced, parts["evidence"], workspace.storage)
        digests |= parts
    record = DecisionRecord(
        night=request.night,
        model=workspace.settings.model_name,
        challenger=comparison.case.challenger,
        champion=comparison.case.champion,
        snapshot=comparison.case.snapshot,
        verdict=decision.verdict.value,
        code=decision.code.value,
        sentence=decision.sentence,
        rules=decision.rules_as_dicts(),
        comparison=stored,
        policy=policy_text,
        dry_run=request.dry_run,
        note=request.note,
        run_id="",
        decided_at=comparison.case.history.decided_at,
        watch=decision.watch_as_dicts(),
        digests=digests,
        code_version=_code_version(),
        approval=requires_approval(decision, request, workspace.settings.approval, workspace.settings.second_person),
        requested_by=request.requested_by,
        curves=curves_of(comparison, evidence, capacity),
        rules_version=RULES_VERSION,
    )
    record = replace(record, digests=digests | {"record": record_digest(record)})
    batches = workspace.ledger.batches(night=request.night)
    review = Review(
        record=record,
        comparison=comparison,
        evidence=evidence,
        slicings=sliced,
        snapshot=workspace.ledger.snapshot(record.snapshot),
        past=[past for past in workspace.ledger.decisions(limit=30, model=record.model) if "case" in past.comparison],
        harm=-policy.slices.harm if policy else 0.0,
        drift={batch.batch: workspace.ledger.drift(batch.batch) for batch in batches},
        context=_context(request) | _of_batches(batches),
        links=_links(workspace, request, batches),
        capacity=capacity,
    )
    record = replace(record, run_id=log_comparison(review, workspace.contract, workspace.tracking))
    log.info("%s (%s): %s", record.verdict, record.code, record.sentence)
    for alarm in decision.alarms:
        log.warning("Champion %s: %s", record.champion, alarm)
    return workspace.ledger.add_decision(record)


def _capacity(workspace: Workspace, comparison: Comparison) -> float | None:
    """The capacity of the scoring policy as a share of the customers; None if it cannot be read, which holds nothing up."""
    snapshot = workspace.ledger.snapshot(comparison.case.snapshot)
    try:
        capacity = read_scoring_policy(workspace).capacity
    except PolicyInvalid as error:
        log.warning("Precision, recall and lift are not given at a capacity: %s", error)
        return None
    if capacity.customers is None:
        return capacity.share
    return min(1.0, capacity.customers / snapshot.rows) if snapshot and snapshot.rows else None


def _read_policy(workspace: Workspace) -> tuple[str, Policy | None, str]:
    """The text of the policy, the policy, and why it cannot be used."""
    text = ""
    try:
        text = load_policy_text(workspace.settings.policy_file)
        return text, Policy.read(text, workspace.settings.policy_file.name), ""
    except PolicyInvalid as error:
        log.error("%s", error)  # noqa: TRY400 -- the message is complete, and the decision keeps it
        return text, None, str(error)


def _force(request: Request) -> Force | None:
    return Force(request.requested_by or "someone", request.force_reason) if request.force_reason else None


def _code_version() -> str:
    return f"{installed('churn')}+{git_commit() or 'unknown'}"


def _of_batches(batches: Sequence[Batch]) -> dict[str, str]:
    """Lines of the note on this run's batches: their warnings, and how many are not linked there."""
    lines = {}
    warned = [f"{batch.name}: {warning}" for batch in batches for warning in batch.warnings or []]
    if len(batches) > MOST_SHOWN:
        lines["Batches"] = f"{len(batches):,}, of which the first {MOST_SHOWN} are linked here. The review has all."
    if warned:
        more = f" And {len(warned) - MOST_SHOWN:,} more: see the review." if len(warned) > MOST_SHOWN else ""
        lines["Warnings"] = " ".join(warned[:MOST_SHOWN]) + more
    return lines


def _context(request: Request) -> dict[str, str]:
    lines = {"Note": request.note, "Started by": request.requested_by}
    return {title: text for title, text in lines.items() if text}


def _links(workspace: Workspace, request: Request, batches: Sequence[Batch]) -> dict[str, str]:
    """Links to the review of the run, to Airflow, and to the Data Docs of its first batches."""
    pages = {f"Data Docs of {batch.name}": docs_link(workspace, batch.batch) for batch in batches[:MOST_SHOWN]}
    dag_run = {"DAG run": request.link} if request.link else {}
    return {"Review": night_page(workspace.settings, request.night)} | dag_run | pages
