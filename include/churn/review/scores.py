"""The lists of scores: the current one, whom it contacts and why, how it differs from the list before, and where it was delivered.

It shows counts and sums: no key of a customer, and no value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from churn.decision.policy_file import PolicyInvalid
from churn.foundation.ledger import Ledger
from churn.foundation.links import run_page
from churn.foundation.records import Delivery, ScoreList
from churn.foundation.wording import as_sentence
from churn.review.presentation import ROWS_SHOWN, Link
from churn.scoring.scoring_policy import load_policy
from churn.settings import Settings

PAGE = ROWS_SHOWN
_METHODS = {
    "exact": "exact",
    "trees": "TreeSHAP values",
    "rescaled": "rescaled to the score, which is an approximation",
    "estimated": "estimated from answers of the model",
}


@dataclass(frozen=True)
class ListLine:
    """A list in the table of all lists. `current` marks the newest of its campaign."""

    list_id: str
    campaign: str
    version: int
    source: str
    rows: int
    quarantined: int
    contact: int
    control: int
    expected_value: float
    published_at: datetime
    current: bool
    delivered: int
    failed: int


@dataclass(frozen=True)
class DeliveryLine:
    """A delivery of a list."""

    target: str
    place: str
    state: str
    rows: int | None
    attempts: int
    at: datetime
    detail: str


@dataclass(frozen=True)
class DriftLine:
    """A column of the customers, or the scores (`column` is None), with the population stability index and its bound."""

    column: str | None
    psi: float
    bound: float
    drifted: bool


@dataclass(frozen=True)
class Change:
    """How the contact group differs from that of the list before, and what differs between the lists."""

    before: str
    entered: int
    left: int
    stayed: int
    because: str


@dataclass(frozen=True)
class ListView:
    """One list in full. Values are None where the list has none, as lists of earlier versions of this software may."""

    line: ListLine
    stale: str
    age: timedelta
    arrived: int
    capacity: int
    excluded: int
    by_probability: float
    mean_probability: float | None
    deciles: list[float | None]
    distribution: list[int]
    estimated_auc: float | None
    estimated_brier: float | None
    checked: int
    scored_again: list[str]
    largest_difference: float
    reason_method: str
    reason_error: float | None
    reasons: list[tuple[str, int]]
    drift: list[DriftLine]
    change: Change | None
    deliveries: list[DeliveryLine]
    requested_by: str | None
    commands: list[str]
    links: list[Link]


@dataclass(frozen=True)
class Scores:
    """A page of lists, newest first, with one of them in full; `older` is the cursor of the next page, None at the end."""

    headline: str
    detail: str
    shown: ListView | None
    lines: list[ListLine]
    older: int | None
    first: bool
    commands: list[str] = field(default_factory=list)


def load_scores(
    ledger: Ledger,
    settings: Settings,
    now: datetime,
    name: str | None = None,
    before: int | None = None,
    limit: int = PAGE,
) -> Scores | None:
    """Read a page of lists.

    Args:
        ledger: the ledger.
        settings: which model, and where Airflow is.
        now: the time of the page.
        name: the id of the list that is shown in full; None for the current one of the scoring policy's campaign.
        before: the cursor of the page; None for the newest one.
        limit: lists on the page.

    Returns:
        The page; None if there is no list of that name.
    """
    model = settings.model_name
    rows = ledger.score_lists_page(model, limit + 1, before)
    shown = ledger.score_list(name) if name else _shown_first(ledger, settings, rows, before)
    if name and (shown is None or shown.model != model):
        return None
    current = ledger.current_lists(model)
    deliveries = ledger.deliveries_of([*(row.list_id for row in rows), *([shown.list_id] if shown else [])])
    promotion = ledger.in_production(model)
    champion = promotion.version if promotion else None
    return make_scores(rows, shown, current, deliveries, champion, settings, now, before is None, limit)


def _shown_first(ledger: Ledger, settings: Settings, rows: Sequence[ScoreList], before: int | None) -> ScoreList | None:
    """The list that a page shows if none is named: on the first page, the current one of the scoring policy's campaign."""
    newest = next(iter(rows), None)
    if before is not None:
        return newest
    try:
        campaign = load_policy(settings.scoring_policy_file).campaign.name
    except PolicyInvalid:
        return newest  # the next scoring run says what is wrong with the file
    return next(iter(ledger.score_lists(settings.model_name, campaign, limit=1)), newest)


def make_scores(
    rows: Sequence[ScoreList],
    shown: ScoreList | None,
    current: frozenset[str],
    deliveries: Mapping[str, Sequence[Delivery]],
    champion: int | None,
    settings: Settings,
    now: datetime,
    first: bool = True,
    limit: int = PAGE,
) -> Scores:
    """Make a page from what the ledger says; pure.

    Args:
        rows: lists, newest first; one more than `limit` if there is another page.
        shown: the list that is shown in full.
        current: the ids of the newest list of each campaign.
        deliveries: of these lists, by id.
        champion: the version in production.
        settings: where Airflow is.
        now: the time of the page.
        first: whether this is the newest page.
        limit: lists on the page.
    """
    lines = [_make_line(row, current, deliveries.get(row.list_id, ())) for row in rows[:limit]]
    older = rows[limit - 1].sequence if len(rows) > limit else None
    if shown is None:
        detail = "After a promotion, the version in production scores the customers as soon as its image is verified."
        return Scores(
            "No list has been published yet.", detail, None, lines, older, first, ["churn score --from-accepted"]
        )
    view = _make_view(shown, current, deliveries.get(shown.list_id, ()), champion, settings, now)
    line = view.line
    headline = f"{line.contact:,} customers are to be contacted, and {line.control:,} are left alone for comparison."
    detail = (
        f"List {line.list_id[:12]} of campaign {line.campaign} was made by version {line.version} on {line.published_at:%Y-%m-%d %H:%M}. "
        f"{view.arrived:,} customers arrived: {line.rows:,} were scored and {line.quarantined:,} quarantined."
    )
    return Scores(headline, detail, view, lines, older, first)


def _make_line(row: ScoreList, current: frozenset[str], deliveries: Sequence[Delivery]) -> ListLine:
    states = [delivery.state for delivery in deliveries]
    return ListLine(
        row.list_id,
        row.campaign,
        row.version,
        "all accepted customers" if row.source == "accepted" else row.source_name,
        row.rows,
        row.quarantined_rows,
        row.contact,
        row.control,
        float(row.summary.get("expected_value", 0.0)),
        row.published_at,
        row.list_id in current,
        states.count("delivered"),
        states.count("failed"),
    )


def _make_view(
    row: ScoreList,
    current: frozenset[str],
    deliveries: Sequence[Delivery],
    champion: int | None,
    settings: Settings,
    now: datetime,
) -> ListView:
    summary, short = row.summary, row.list_id[:12]
    estimated, reasons = summary.get("estimated") or {}, summary.get("reasons") or {}
    return ListView(
        line=_make_line(row, current, deliveries),
        stale=_why_stale(row, current, champion),
        age=now - row.published_at,
        arrived=row.arrived_rows,
        capacity=int(summary.get("capacity", 0)),
        excluded=int(summary.get("excluded", 0)),
        by_probability=float(summary.get("by_probability", 0.0)),
        mean_probability=summary.get("mean_probability"),
        deciles=summary.get("deciles", []),
        distribution=summary.get("distribution", []),
        estimated_auc=estimated.get("roc_auc"),
        estimated_brier=estimated.get("brier"),
        checked=int(summary.get("checked", 0)),
        scored_again=summary.get("scored_again", ["in another process"]),
        largest_difference=float(summary.get("largest_difference", 0.0)),
        reason_method=_METHODS.get(reasons.get("method", ""), ""),
        reason_error=reasons.get("error"),
        reasons=[(column, int(count)) for column, count in reasons.get("first", [])],
        drift=_list_drift(summary.get("drift") or {}),
        change=Change(**summary["change"]) if summary.get("change") else None,
        deliveries=[
            DeliveryLine(
                delivery.target,
                delivery.place,
                delivery.state,
                delivery.rows,
                delivery.attempts,
                delivery.at,
                as_sentence(delivery.detail) if delivery.detail else "",
            )
            for delivery in deliveries
        ],
        requested_by=row.requested_by,
        commands=[f"churn scores show {short}", f"churn scores export {short} --group contact --to contacts.csv"],
        links=[Link("Scoring runs in Airflow", run_page(settings, "churn_scoring"))],
    )


def _why_stale(row: ScoreList, current: frozenset[str], champion: int | None) -> str:
    """Why the list is not what the bank acts on now; empty if it is."""
    if row.list_id not in current:
        return "A newer list of this campaign has replaced it."
    if champion is not None and champion != row.version:
        return f"Version {champion} is in production now. Its list follows as soon as its image is verified."
    return ""


def _list_drift(drift: Mapping[str, Any]) -> list[DriftLine]:
    lines = [
        DriftLine(column["column"], float(column["psi"]), float(column["bound"]), bool(column["drifted"]))
        for column in drift.get("columns", [])
    ]
    if drift.get("scores") is not None:
        psi, bound = float(drift["scores"]), float(drift["bound"])
        lines.insert(0, DriftLine(None, psi, bound, psi > bound))
    return sorted(lines, key=lambda line: not line.drifted)
