"""The night's decision: evidence, history and policy make it, MLflow shows it, the ledger remembers it, once a night."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version as installed

from churn.decision import evidence_file
from churn.decision.comparison import Case, Comparison, Evidence, Force, History, compare
from churn.decision.curves import curves_of
from churn.decision.eligibility import Contest
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
from churn.pipeline.workspace import Request, Workspace
from churn.release.promotion import settle_champion
from churn.settings import git_commit

log = logging.getLogger(__name__)


def decide_night(workspace: Workspace, request: Request, challenger: Challenger) -> DecisionRecord:
    """Compare the challenger with the champion, decide, and remember it; once a night.

    Raises:
        ChampionDisagreement: registry and ledger name different champions.
        ModelUnloadable: a version's artifacts are missing.
        TrackingUnreachable: MLflow is away.
    """
    known = workspace.ledger.decision(request.night)
    if known:
        return known
    settle_champion(workspace.ledger, workspace.tracking, adopt=workspace.settings.hand_made_changes == "adopt")
    promotion = workspace.ledger.in_production(workspace.settings.model_name)
    snapshot = workspace.ledger.snapshot(challenger.snapshot)
    if snapshot is None:
        raise ChurnError(f"The ledger knows no snapshot {challenger.snapshot}. Run the training again.")
    now = datetime.now(UTC)
    history = read_history(workspace.ledger, workspace.settings.model_name, promotion, now, _force(request))
    text, policy, fault = _read_policy(workspace)
    if policy is None:
        case = Case(challenger.version, promotion.version if promotion else None, None, snapshot.snapshot, history)
        evidence, comparison, decision = None, compare(case, None, (), 1), hold_invalid_policy(fault)
    else:
        evidence, comparison = _measure(workspace, request, challenger, promotion, snapshot, history, policy)
        decision = decide(comparison, policy)
    return _remember(workspace, request, decision, comparison, evidence, policy, text)


def requires_approval(decision: Decision, request: Request, when: str, second_person: bool = False) -> bool:
    """Whether a person must agree before this decision is acted on.

    Args:
        decision: the decision.
        request: how the night was asked for.
        when: the setting: never, disputed or always.
        second_person: whether nobody promotes alone; to force is to promote.
    """
    disputed = decision.code is Reason.BATCH_DISPUTED
    forced = second_person and decision.code is Reason.FORCED
    wanted = request.approval or when == "always" or (disputed and when == "disputed") or forced
    return wanted and (disputed or decision.verdict is Verdict.PROMOTE)


def docs_link(workspace: Workspace, batch: str) -> str:
    """Where a person opens a batch's Data Docs."""
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
    """Score, compare, and count the look where the challenger is tested against the champion."""
    champion, anchor = (promotion.version, promotion.anchor) if promotion else (None, None)
    suspects = suspect_batches(workspace.ledger, snapshot, champion)
    contest = Contest(challenger.version, champion, anchor, snapshot, suspects)
    found = gather_evidence(contest, policy, workspace)
    case = Case(
        challenger=challenger.version,
        champion=champion,
        anchor=anchor,
        snapshot=snapshot.snapshot,
        history=history,
        window=found.window,
        suspects=suspects,
        leaks=found.leaks,
        refusal=found.refusal,
        anchor_refusal=found.anchor_refusal,
    )
    comparison = compare(case, found.evidence, slicings(workspace.contract), policy.slices.min_each_class)
    if promotion and found.evidence and tests_superiority(comparison, policy):
        model, timezone = workspace.settings.model_name, workspace.settings.timezone
        look = take_look(
            workspace.ledger, model, request.night, promotion, found.evidence, history.decided_at, timezone
        )
        counted = replace(history, looks_before=look.position)
        comparison = replace(comparison, case=replace(case, history=counted))
    return found.evidence, comparison


def _remember(
    workspace: Workspace,
    request: Request,
    decision: Decision,
    comparison: Comparison,
    evidence: Evidence | None,
    policy: Policy | None,
    policy_text: str,
) -> DecisionRecord:
    """Keep the scored rows, show the comparison in MLflow, and commit the decision, in this order."""
    sliced = slicings(workspace.contract)
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
        curves=curves_of(comparison, evidence),
        rules_version=RULES_VERSION,
    )
    record = replace(record, digests=digests | {"record": record_digest(record)})
    tonight = workspace.ledger.batches(night=request.night)
    review = Review(
        record=record,
        comparison=comparison,
        evidence=evidence,
        slicings=sliced,
        snapshot=workspace.ledger.snapshot(record.snapshot),
        past=[one for one in workspace.ledger.decisions(limit=30) if "case" in one.comparison],
        harm=-policy.slices.harm if policy else 0.0,
        drift={batch.batch: workspace.ledger.drift(batch.batch) for batch in tonight},
        context=_context(request) | _said_of_batches(tonight),
        links=_links(workspace, request, tonight),
    )
    record = replace(record, run_id=log_comparison(review, workspace.contract, workspace.tracking))
    log.info("%s (%s): %s", record.verdict, record.code, record.sentence)
    for alarm in decision.alarms:
        log.warning("Champion %s: %s", record.champion, alarm)
    return workspace.ledger.add_decision(record)


def _read_policy(workspace: Workspace) -> tuple[str, Policy | None, str]:
    """The policy's text, the policy, and why there is none."""
    text = ""
    try:
        text = load_policy_text(workspace.settings.policy_file)
        return text, Policy.read(text, workspace.settings.policy_file.name), ""
    except PolicyInvalid as error:
        log.error("%s", error)  # noqa: TRY400 -- the message says it all, and the decision keeps it
        return text, None, str(error)


def _force(request: Request) -> Force | None:
    return Force(request.requested_by or "somebody", request.force_reason) if request.force_reason else None


def _code_version() -> str:
    return f"{installed('churn')}+{git_commit() or 'unknown'}"


def _said_of_batches(batches: Sequence[Batch]) -> dict[str, str]:
    """What was said of tonight's batches, as lines of the note."""
    warnings = [f"{batch.name}: {warning}" for batch in batches for warning in batch.warnings or []]
    return {"Warnings": " ".join(warnings)} if warnings else {}


def _context(request: Request) -> dict[str, str]:
    lines = {"Note of the person who asked": request.note, "Asked for by": request.requested_by}
    return {title: text for title, text in lines.items() if text}


def _links(workspace: Workspace, request: Request, batches: Sequence[Batch]) -> dict[str, str]:
    """Pages to look further: the night's review and its run in Airflow, and each batch's."""
    pages = {f"Data Docs of {batch.name}": docs_link(workspace, batch.batch) for batch in batches}
    asked = {"DAG run": request.link} if request.link else {}
    return {"Review of the night": night_page(workspace.settings, request.night)} | asked | pages
