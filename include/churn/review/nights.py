"""The page of one run, and of two runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from shlex import quote
from typing import Any

from churn.decision.policy_file import Policy, PolicyInvalid
from churn.foundation.ledger import Ledger
from churn.foundation.links import RETRAINING, approval_page, comparison_page, docs_page, run_page, version_page
from churn.foundation.records import (
    Approval,
    Batch,
    DecisionRecord,
    Promotion,
    Snapshot,
    VersionRecord,
)
from churn.foundation.wording import KIND_WORDS, as_sentence_end
from churn.review.changes import Change, find_changes
from churn.review.measures import (
    Budget,
    MetricLine,
    RuleLine,
    SliceLine,
    baseline_lines,
    describe_customers,
    metric_lines,
    rule_lines,
    slice_lines,
    sum_budget,
)
from churn.review.presentation import (
    DRY,
    HELD,
    KINDS_OF_RUNS,
    LAPSED,
    NOT_CARRIED_OUT,
    PROMOTED,
    REFUSED,
    UNDONE,
    WAITS,
    Link,
    describe_answer,
    describe_reversal,
    find_fate,
)
from churn.settings import Settings


@dataclass(frozen=True)
class BatchLine:
    """A batch that this run validated."""

    batch: str
    name: str
    state: str
    arrived: int | None
    accepted: int | None
    set_aside: int | None
    docs: str


@dataclass(frozen=True)
class Night:
    """The page of a run. Where nothing was measured or recorded, lists are empty and values None, and `gaps` explains why."""

    night: str
    model: str
    verdict: str
    code: str
    headline: str
    sentence: str
    outcome: str
    decided_at: datetime
    dry_run: bool
    requested_by: str | None
    note: str | None
    challenger: int
    champion: int | None
    anchor: int | None
    rules: list[RuleLine]
    watch: list[RuleLine]
    unseen: str
    metrics: list[MetricLine]
    anchor_deltas: list[MetricLine]
    slices: list[SliceLine]
    harm: float | None
    changes: list[Change]
    unrecorded: bool
    curves: dict[str, Any] | None
    budget: Budget | None
    batches: list[BatchLine]
    approval_url: str | None
    answer: Approval | None
    gaps: list[str]
    links: list[Link]
    replay: str


@dataclass(frozen=True)
class ComparedRuns:
    """Two runs side by side, the earlier one on the left."""

    left: Night
    right: Night


@dataclass(frozen=True)
class NightFacts:
    """What the ledger knows about a run.

    `champion_night` is the decision of the run that trained the champion. `promotions` are this run's changes of production,
    and `following` is the change after them. `open` is whether a person may still answer.
    """

    record: DecisionRecord
    batches: Sequence[Batch]
    versions: dict[int, VersionRecord]
    snapshots: dict[str, Snapshot]
    champion_night: DecisionRecord | None
    promotions: Sequence[Promotion]
    looks: dict[int, int]
    answer: Approval | None
    open: bool
    following: Promotion | None = None


def load_night(ledger: Ledger, settings: Settings, name: str) -> Night | None:
    """Read the page of a run; None if no decision has this name."""
    record = ledger.decision(name)
    if record is None:
        return None
    model = record.model
    numbers = [version for version in (record.challenger, record.champion) if version is not None]
    versions = ledger.versions_numbered(model, numbers)
    champion = versions.get(record.champion or 0)
    epoch = ledger.in_production(model, record.decided_at)
    promotions = ledger.promotions_of(model, name)
    policy, end = _read_policy(record), record.decided_at + timedelta(minutes=1)
    facts = NightFacts(
        record=record,
        batches=ledger.batches(night=name),
        versions=versions,
        snapshots=ledger.snapshots_named([record.snapshot, *([champion.snapshot] if champion else [])]),
        champion_night=ledger.decision(champion.night) if champion else None,
        promotions=promotions,
        looks=ledger.looks_by_position(model, epoch.sequence, end - timedelta(days=policy.superiority.nights), end)
        if epoch and policy
        else {},
        answer=ledger.approval(name),
        open=any(decision.night == name for decision in ledger.open_decisions(model)) if record.approval else False,
        following=ledger.promotion_after(promotions[-1]) if promotions else None,
    )
    return make_night(facts, settings)


def make_night(facts: NightFacts, settings: Settings) -> Night:
    """Make the page from what the ledger says; pure."""
    record, stored = facts.record, facts.record.comparison
    policy = _read_policy(record)
    case = stored.get("case", {})
    metrics = metric_lines(stored.get("evidence", {}), policy)
    changes, unrecorded = find_changes(facts.record, facts.versions, facts.snapshots, facts.champion_night)
    return Night(
        night=record.night,
        model=record.model,
        verdict=record.verdict,
        code=record.code,
        headline=_write_headline(facts),
        sentence=record.sentence,
        outcome=_describe_outcome(facts),
        decided_at=record.decided_at,
        dry_run=record.dry_run,
        requested_by=record.requested_by,
        note=record.note,
        challenger=record.challenger,
        champion=record.champion,
        anchor=case.get("anchor"),
        rules=rule_lines(record.rules, record.code if record.verdict == "hold" else None),
        watch=rule_lines(record.watch, None),
        unseen=describe_customers(stored, settings.contract.event_names),
        metrics=metrics,
        anchor_deltas=baseline_lines(stored, policy),
        slices=slice_lines(stored),
        harm=-policy.slices.harm if policy else None,
        changes=changes,
        unrecorded=unrecorded,
        curves=record.curves,
        budget=sum_budget(facts.looks, policy) if record.champion is not None else None,
        batches=[batch_line(batch, settings) for batch in facts.batches],
        approval_url=approval_page(settings, record.night) if facts.open else None,
        answer=facts.answer,
        gaps=_describe_gaps(record, metrics, unrecorded),
        links=_list_links(record, case, settings),
        replay=f"churn replay {quote(record.night)}",
    )


def _read_policy(record: DecisionRecord) -> Policy | None:
    try:
        return Policy.read(record.policy, "the policy")
    except PolicyInvalid:  # the reason why the run was held, or a policy of an older format
        return None


def _find_promotion(facts: NightFacts) -> Promotion | None:
    return next((change for change in facts.promotions if change.kind in KINDS_OF_RUNS), None)


def _find_fate(facts: NightFacts) -> str:
    record, answer = facts.record, facts.answer.answer if facts.answer else None
    promoted = _find_promotion(facts) is not None
    return find_fate(record.verdict, record.approval, answer, record.dry_run, promoted, facts.open)


def _write_headline(facts: NightFacts) -> str:
    """Say what became of the run; a verdict alone is not a promotion."""
    record, fate = facts.record, _find_fate(facts)
    challenger, has_champion = f"version {record.challenger}", record.champion is not None
    not_promoted = f"did not replace champion {record.champion}" if has_champion else "did not go into production"
    intent = f"replace champion {record.champion}" if has_champion else "become the first champion"
    if fate == PROMOTED:
        how = "Promoted" if record.verdict == "promote" else "Promoted on approval"
        effect = f"replaced champion {record.champion}" if has_champion else "became the first champion"
        return f"{how}: {challenger} {effect}."
    if fate == HELD or (fate == DRY and record.verdict == "hold"):
        effect = f"does not replace champion {record.champion}" if has_champion else "does not go into production"
        return f"Hold: {challenger} {effect}."
    return {
        DRY: f"Promote, dry run: {challenger} would {intent}.",
        WAITS: f"Waiting for approval: {challenger} is to {intent}.",
        UNDONE: f"Not carried out: {challenger} {not_promoted}.",
        REFUSED: f"Not promoted, {describe_answer(facts.answer.answer if facts.answer else '')}: {challenger} {not_promoted}.",
        LAPSED: f"Not promoted, no answer: {challenger} {not_promoted}.",
    }[fate]


def _describe_outcome(facts: NightFacts) -> str:
    """Say what became of the verdict, and of the version since."""
    answer, promotion, fate = facts.answer, _find_promotion(facts), _find_fate(facts)
    sentences = []
    if fate == DRY:
        return "This was a dry run: nothing was changed."
    if promotion:
        by = f" by {promotion.actor}" if promotion.actor else ""
        when = f"{promotion.promoted_at:%Y-%m-%d %H:%M} UTC"
        sentences.append(f"Version {promotion.version} was {KIND_WORDS[promotion.kind]}{by} on {when}.")
        sentences.append(describe_reversal(promotion, facts.following))
    elif fate == WAITS:
        sentences.append("The promotion waits for a person's approval.")
    elif answer and answer.answer == "expired":
        sentences.append("Nobody answered in time, so the promotion was rejected.")
    elif answer:
        sentences.append(f"The promotion was {answer.answer} by {answer.by}: {as_sentence_end(answer.reason)}")
    elif fate == LAPSED:
        sentences.append("Nobody answered before a later run decided.")
    if fate == UNDONE:
        sentences.append(NOT_CARRIED_OUT)
    return " ".join(sentence for sentence in sentences if sentence)


def batch_line(batch: Batch, settings: Settings) -> BatchLine:
    """Describe a batch as the page of a run lists it."""
    return BatchLine(
        batch.batch,
        batch.name,
        batch.state,
        batch.arrived_rows,
        batch.accepted_rows,
        batch.quarantined_rows,
        docs_page(settings, batch.batch),
    )


def _describe_gaps(record: DecisionRecord, metrics: Sequence[MetricLine], unrecorded: bool) -> list[str]:
    refusal = record.comparison.get("case", {}).get("refusal")
    gaps = []
    if not metrics:
        gaps.append(f"Nothing was measured: {refusal['sentence'] if refusal else record.sentence}")
    elif record.curves is None:
        gaps.append("The ledger did not record curves yet when this run decided. The card in MLflow has them.")
    if metrics and record.champion is None:
        gaps.append("There was no champion to compare with, so there are no differences and no slices.")
    if unrecorded:
        gaps.append(
            "The ledger's record of the two versions' parameters and data is incomplete. MLflow has both in full."
        )
    return gaps


def _list_links(record: DecisionRecord, case: dict[str, Any], settings: Settings) -> list[Link]:
    versions = [("Challenger", record.challenger), ("Champion", record.champion), ("Baseline", case.get("anchor"))]
    return [
        Link("DAG run", run_page(settings, RETRAINING, record.night)),
        Link("Comparison in MLflow", comparison_page(settings.mlflow_ui, record.run_id)),
        *(
            Link(f"{title} v{version}", version_page(settings.mlflow_ui, record.model, version))
            for title, version in versions
            if version is not None
        ),
    ]
