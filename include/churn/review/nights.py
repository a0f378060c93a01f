"""One night, and two nights side by side."""

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
from churn.review.changes import Change, find_changes
from churn.review.measures import (
    Budget,
    MetricLine,
    RuleLine,
    SliceLine,
    anchor_lines,
    budget_of,
    metric_lines,
    rule_lines,
    slice_lines,
    unseen_words,
)
from churn.review.presentation import (
    DRY,
    HELD,
    KIND_WORDS,
    LAPSED,
    NOT_CARRIED_OUT,
    OF_A_NIGHT,
    PROMOTED,
    REFUSED,
    UNDONE,
    WAITS,
    Link,
    fate_of,
    taken_away,
)
from churn.settings import Settings


@dataclass(frozen=True)
class BatchLine:
    """A batch that this night judged."""

    batch: str
    name: str
    state: str
    arrived: int | None
    accepted: int | None
    set_aside: int | None
    docs: str


@dataclass(frozen=True)
class Night:
    """The page of a night. Lists are empty, and values None, where nothing was measured or recorded; `gaps` say so in words."""

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
class Comparing:
    """Two nights side by side, the earlier on the left."""

    left: Night
    right: Night


@dataclass(frozen=True)
class NightFacts:
    """What the ledger says of a night.

    `champion_night` is the decision that made the champion; `made` is what the night has changed in production, `after` the
    change that followed.
    """

    record: DecisionRecord
    batches: Sequence[Batch]
    versions: dict[int, VersionRecord]
    snapshots: dict[str, Snapshot]
    champion_night: DecisionRecord | None
    made: Sequence[Promotion]
    looks: dict[int, int]
    answer: Approval | None
    open: bool
    after: Promotion | None = None


def load_night(ledger: Ledger, settings: Settings, name: str) -> Night | None:
    """Read a night; None where no decision bears this name."""
    record = ledger.decision(name)
    if record is None:
        return None
    model = record.model
    chosen = [version for version in (record.challenger, record.champion) if version is not None]
    versions = ledger.versions_numbered(model, chosen)
    theirs = versions.get(record.champion or 0)
    epoch = ledger.in_production(model, record.decided_at)
    made = ledger.promotions_of(model, name)
    policy, end = _policy(record), record.decided_at + timedelta(minutes=1)
    facts = NightFacts(
        record=record,
        batches=ledger.batches(night=name),
        versions=versions,
        snapshots=ledger.snapshots_named([record.snapshot, *([theirs.snapshot] if theirs else [])]),
        champion_night=ledger.decision(theirs.night) if theirs else None,
        made=made,
        looks=ledger.looks_by_position(model, epoch.sequence, end - timedelta(days=policy.superiority.nights), end)
        if epoch and policy
        else {},
        answer=ledger.approval(name),
        open=any(one.night == name for one in ledger.open_decisions(model)) if record.approval else False,
        after=ledger.promotion_after(made[-1]) if made else None,
    )
    return make_night(facts, settings)


def make_night(facts: NightFacts, settings: Settings) -> Night:
    """The page of what the ledger says; pure."""
    record, stored = facts.record, facts.record.comparison
    policy = _policy(record)
    case = stored.get("case", {})
    metrics = metric_lines(stored.get("evidence", {}), policy)
    changes, unknown = find_changes(facts.record, facts.versions, facts.snapshots, facts.champion_night)
    return Night(
        night=record.night,
        model=record.model,
        verdict=record.verdict,
        code=record.code,
        headline=_headline(facts),
        sentence=record.sentence,
        outcome=_outcome(facts),
        decided_at=record.decided_at,
        dry_run=record.dry_run,
        requested_by=record.requested_by,
        note=record.note,
        challenger=record.challenger,
        champion=record.champion,
        anchor=case.get("anchor"),
        rules=rule_lines(record.rules, record.code if record.verdict == "hold" else None),
        watch=rule_lines(record.watch, None),
        unseen=unseen_words(stored),
        metrics=metrics,
        anchor_deltas=anchor_lines(stored, policy),
        slices=slice_lines(stored),
        harm=-policy.slices.harm if policy else None,
        changes=changes,
        unrecorded=unknown,
        curves=record.curves,
        budget=budget_of(facts.looks, policy) if record.champion is not None else None,
        batches=[batch_line(one, settings) for one in facts.batches],
        approval_url=approval_page(settings, record.night) if facts.open else None,
        answer=facts.answer,
        gaps=_gaps(record, metrics, unknown),
        links=_links(record, case, settings),
        replay=f"churn replay {quote(record.night)}",
    )


def _policy(record: DecisionRecord) -> Policy | None:
    try:
        return Policy.read(record.policy, "the policy")
    except PolicyInvalid:  # it is why the night was held, or it is of an older form
        return None


def _made(facts: NightFacts) -> Promotion | None:
    return next((one for one in facts.made if one.kind in OF_A_NIGHT), None)


def _fate(facts: NightFacts) -> str:
    record, answer = facts.record, facts.answer.answer if facts.answer else None
    return fate_of(record.verdict, record.approval, answer, record.dry_run, _made(facts) is not None, facts.open)


def _headline(facts: NightFacts) -> str:
    """What became of the night; the verdict alone is no promotion."""
    record, fate = facts.record, _fate(facts)
    challenger, there = f"version {record.challenger}", record.champion is not None
    replaced = f"did not replace champion {record.champion}" if there else "did not go into production"
    to = f"replace champion {record.champion}" if there else "be the first champion"
    if fate == PROMOTED:
        how = "Promote" if record.verdict == "promote" else "Promoted on approval"
        return f"{how}: {challenger} {f'replaces champion {record.champion}' if there else 'is the first champion'}."
    if fate == HELD or (fate == DRY and record.verdict == "hold"):
        stays = f"champion {record.champion} stays, {challenger} does not replace it"
        return f"Hold: {stays if there else f'{challenger} does not go into production'}."
    return {
        DRY: f"Promote, dry run: {challenger} would {to}.",
        WAITS: f"Waits for a person: {challenger} is to {to}.",
        UNDONE: f"Not carried out: {challenger} {replaced}.",
        REFUSED: f"Not promoted, {facts.answer.answer if facts.answer else ''}: {challenger} {replaced}.",
        LAPSED: f"Not promoted, not answered: {challenger} {replaced}.",
    }[fate]


def _outcome(facts: NightFacts) -> str:
    """What became of the verdict, and of the version since."""
    answer, made, fate = facts.answer, _made(facts), _fate(facts)
    said = []
    if fate == DRY:
        return "A dry run: nothing was changed."
    if made:
        by = f" by {made.actor}" if made.actor else ""
        said.append(f"Version {made.version} was {KIND_WORDS[made.kind]}{by} {made.promoted_at:%Y-%m-%d %H:%M} UTC.")
        said.append(taken_away(made, facts.after))
    elif fate == WAITS:
        said.append("It waits for a person.")
    elif answer:
        said.append(f"It was {answer.answer} by {answer.by}: {answer.reason}")
    elif fate == LAPSED:
        said.append("Nobody answered, and a later night has decided.")
    if fate == UNDONE:
        said.append(NOT_CARRIED_OUT)
    return " ".join(one for one in said if one)


def batch_line(batch: Batch, settings: Settings) -> BatchLine:
    """A batch as a night shows it."""
    return BatchLine(
        batch.batch,
        batch.name,
        batch.state,
        batch.arrived_rows,
        batch.accepted_rows,
        batch.quarantined_rows,
        docs_page(settings, batch.batch),
    )


def _gaps(record: DecisionRecord, metrics: Sequence[MetricLine], unknown: bool) -> list[str]:
    refusal = record.comparison.get("case", {}).get("refusal")
    found = []
    if not metrics:
        found.append(f"Nothing was measured: {refusal['sentence'] if refusal else record.sentence}")
    elif record.curves is None:
        found.append("The curves of this night are older than their recording: the card in MLflow has them.")
    if metrics and record.champion is None:
        found.append("There was no champion to compare with: there are no differences and no groups of customers.")
    if unknown:
        found.append("What the two versions were made of was not recorded in full: MLflow has it.")
    return found


def _links(record: DecisionRecord, case: dict[str, Any], settings: Settings) -> list[Link]:
    named = [("Challenger", record.challenger), ("Champion", record.champion), ("Anchor", case.get("anchor"))]
    return [
        Link("DAG run", run_page(settings, RETRAINING, record.night)),
        Link("Comparison in MLflow", comparison_page(settings, record.run_id)),
        *(Link(f"{title} v{v}", version_page(settings, record.model, v)) for title, v in named if v is not None),
    ]
