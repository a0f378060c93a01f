"""What happened afterwards: promotions and whether later rows confirmed them, the champion's health, and what became of lists.

It shows counts, shares and intervals: no key of a customer, and no value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from churn.foundation.ledger import Ledger
from churn.foundation.records import ListResult, OutcomeLook, Promotion, ScoreList
from churn.outcomes.states import PROMOTIONS, State, due_dates
from churn.release.lineage import predecessor
from churn.review.presentation import ROWS_SHOWN, Interval
from churn.settings import Settings

PAGE = ROWS_SHOWN
STATES = {
    State.UNCONFIRMED: ("plain", "unconfirmed", "Later rows have neither confirmed nor refuted it yet."),
    State.CONFIRMED: ("promote", "confirmed", "Rows that came after the promotion confirm it."),
    State.REFUTED: ("fail", "refuted", "Rows that came after the promotion say that the version before does better."),
    State.UNDECIDED: ("look", "undecided", "The days of CHURN_CONFIRMATION_DAYS have passed without a conclusion."),
    State.NOT_COMPARABLE: ("plain", "not comparable", "There was no earlier version to compare it with."),
}
"""For each state: the look of its mark, the words, and what it means."""
_MEASURES = {"roc_auc": "ROC AUC", "brier": "Brier score"}


@dataclass(frozen=True)
class Gain:
    """What a promoted version gains over the one before: later, with bounds that are always valid, and by the evidence of its decision."""

    measure: str
    later: Interval
    margin: float
    promised: Interval | None


@dataclass(frozen=True)
class PromotionOutcome:
    """A promotion, and what later rows say of it. `night` is the run that promoted."""

    sequence: int
    version: int
    before: int | None
    night: str
    promoted_at: datetime
    state: str
    look: str
    words: str
    meaning: str
    rows: int
    events: int
    gains: list[Gain]
    excluded: list[tuple[str, int]]
    contacted: bool
    looked_at: datetime | None


@dataclass(frozen=True)
class HealthPoint:
    """The health of the version in production at a look: ROC AUC so far."""

    night: str
    looked_at: datetime
    roc_auc: Interval | None


@dataclass(frozen=True)
class Health:
    """How the version in production does on rows that came after its promotion; figures are None until there are enough rows."""

    version: int
    rows: int
    events: int
    missing_rows: int
    missing_events: int
    contacted: bool
    roc_auc: Interval | None
    brier: Interval | None
    observed_expected: Interval | None
    calibration: list[dict[str, float]]


@dataclass(frozen=True)
class Shadow:
    """A held challenger, and how much better than the champion it would have done; intervals are adjusted for their number."""

    version: int
    rows: int
    missing_rows: int
    roc_auc: Interval | None
    brier: Interval | None
    better: bool


@dataclass(frozen=True)
class ListOutcome:
    """What became of the customers of a list, as far as their labels are known."""

    list_id: str
    campaign: str
    version: int
    published_at: datetime
    revision: int
    known: int
    of: int
    events: int
    lift: float | None
    precision: float | None
    recall: float | None
    contact: int
    control: int
    contact_rate: float | None
    control_rate: float | None
    effect: Interval | None
    tells: bool
    value: Interval | None
    affected: bool
    deciles: list[dict[str, float]]


@dataclass(frozen=True)
class Waiting:
    """Rows that wait for their label: how many in all, those whose horizon has passed, and the first dates on which others are due."""

    rows: int
    overdue: int
    dates: list[tuple[date, int]]

    @property
    def words(self) -> str:
        """What there is to wait for, in sentences."""
        if not self.rows:
            return "Every label is known."
        overdue = (
            f" The horizon of {self.overdue:,} has passed: their labels, or a file of leavers for that time, have not arrived or were rejected. "
            "`churn batches` shows which files came."
            if self.overdue
            else ""
        )
        due = f" The next labels are due on {self.dates[0][0]}." if self.dates else ""
        due = due or ("" if self.overdue else " The log of the newest run says when the first are due.")
        return f"{self.rows:,} rows wait for their label.{overdue}{due}"


@dataclass(frozen=True)
class Outcomes:
    """A page of promotions, newest first; `older` is the cursor of the next page, None at the end."""

    headline: str
    detail: str
    health: Health | None
    history: list[HealthPoint]
    shadows: list[Shadow]
    promotions: list[PromotionOutcome]
    lists: list[ListOutcome]
    waiting: Waiting | None
    older: int | None
    first: bool
    commands: list[str] = field(default_factory=list)


def load_outcomes(
    ledger: Ledger, settings: Settings, now: datetime, before: int | None = None, limit: int = PAGE
) -> Outcomes:
    """Read a page.

    Args:
        ledger: the ledger.
        settings: which model.
        now: the time of the page.
        before: the cursor of the page; None for the newest one.
        limit: promotions, and lists, on the page.
    """
    model = settings.model_name
    rows = ledger.promotions(model)
    changes = [row for row in rows if row.kind in PROMOTIONS and row.version is not None]
    shown = [row for row in changes if before is None or row.sequence < before][: limit + 1]
    looks = {look.sequence: look for look in ledger.last_looks(model, [row.sequence for row in shown])}
    current = ledger.in_production(model)
    history = ledger.looks_since(model, current.sequence, limit) if current else []
    lists = ledger.score_lists_page(model, limit)
    results = ledger.list_results([row.list_id for row in lists])
    waiting = _waiting(ledger, settings, now)
    return make_outcomes(
        shown, looks, current, predecessor(rows), history, lists, results, waiting, before is None, limit
    )


def make_outcomes(
    changes: Sequence[Promotion],
    looks: Mapping[int, OutcomeLook],
    current: Promotion | None,
    previous: int | None,
    history: Sequence[OutcomeLook],
    lists: Sequence[ScoreList],
    results: Mapping[str, ListResult],
    waiting: Waiting | None,
    first: bool = True,
    limit: int = PAGE,
) -> Outcomes:
    """Make a page from what the ledger says; pure.

    Args:
        changes: promotions, newest first; one more than `limit` if there is another page.
        looks: what was last found of each promotion, by its sequence number.
        current: what is in production.
        previous: the version before it; None if there was none.
        history: looks at the promotion in force, in order.
        lists: the newest lists.
        results: their results, by id.
        waiting: the rows that wait for their label; None without a horizon.
        first: whether this is the newest page.
        limit: promotions on the page.
    """
    lines = [
        _promotion(row, looks.get(row.sequence), previous if current and row.sequence == current.sequence else None)
        for row in changes[:limit]
    ]
    older = changes[limit - 1].sequence if len(changes) > limit else None
    last = history[-1] if history else None
    health = _health(last) if last else None
    headline, detail = _answer(lines, current, health, waiting)
    return Outcomes(
        headline=headline,
        detail=detail,
        health=health,
        history=[_point(look) for look in history],
        shadows=[_shadow(found) for found in (last.figures.get("shadows", []) if last else [])],
        promotions=lines,
        lists=[_list(row, results[row.list_id]) for row in lists if row.list_id in results],
        waiting=waiting,
        older=older,
        first=first,
    )


def _answer(
    lines: Sequence[PromotionOutcome], current: Promotion | None, health: Health | None, waiting: Waiting | None
) -> tuple[str, str]:
    """The headline, and what follows it."""
    due = f" {waiting.words}" if waiting and waiting.rows else ""
    if current is None or current.version is None:
        return "Nothing is in production.", f"Outcomes are measured from the first promotion on.{due}"
    line = next((line for line in lines if line.sequence == current.sequence), None)
    if line is None:
        return (
            f"Version {current.version} is in production after a rollback.",
            f"A rollback returns to what is known.{due}",
        )
    if health is None or not health.rows:
        words = "No labels yet" if waiting and waiting.rows else "No later rows yet"
        return f"{words}: the promotion of version {line.version} is {line.words}.", f"{line.meaning}{due}"
    return f"The promotion of version {line.version} is {line.words}.", (
        f"{line.meaning} {line.rows:,} later rows compare it with version {line.before}, {line.events:,} of them with the event.{due}"
        if line.before is not None
        else f"{line.meaning}{due}"
    )


def _promotion(row: Promotion, look: OutcomeLook | None, before: int | None) -> PromotionOutcome:
    """`before` is the version before, if the promotion is in force: it may not have been looked at yet."""
    unseen = State.UNCONFIRMED if before is not None else State.NOT_COMPARABLE
    state = State(look.state) if look else unseen
    mark, words, meaning = STATES[state]
    figures = look.figures if look else {}
    promised = figures.get("promised") or {}
    excluded = figures.get("excluded") or {}
    return PromotionOutcome(
        row.sequence,
        row.version or 0,
        figures.get("before", before),
        row.night,
        row.promoted_at,
        state.value,
        mark,
        words,
        meaning,
        look.rows if look else 0,
        look.events if look else 0,
        [_gain(measure, promised) for measure in figures.get("measures") or []],
        [(reason, int(count)) for reason, count in excluded.items()],
        bool(figures.get("contacted")),
        look.looked_at if look else None,
    )


def _gain(measure: Mapping[str, Any], promised: Mapping[str, Any]) -> Gain:
    name = measure["name"]
    said = _interval(promised.get(name))
    if said and name == "brier":  # smaller is better
        said = Interval(-said.value, -said.upper, -said.lower)
    later = Interval(measure["gain"], measure["lower"], measure["upper"])
    return Gain(_MEASURES.get(name, name), later, measure["margin"], said)


def _health(look: OutcomeLook) -> Health:
    found = look.figures.get("health") or {}
    missing = found.get("missing") or {}
    return Health(
        int(look.figures.get("version") or 0),
        int(found.get("rows", 0)),
        int(found.get("events", 0)),
        int(missing.get("rows", 0)),
        int(missing.get("events", 0)),
        bool(found.get("contacted")),
        _interval(found.get("roc_auc")),
        _interval(found.get("brier")),
        _interval(found.get("observed_expected")),
        list(found.get("calibration", [])),
    )


def _point(look: OutcomeLook) -> HealthPoint:
    found = look.figures.get("health") or {}
    return HealthPoint(look.night, look.looked_at, _interval(found.get("roc_auc")))


def _shadow(found: Mapping[str, Any]) -> Shadow:
    missing = found.get("missing") or {}
    return Shadow(
        int(found["version"]),
        int(found.get("rows", 0)),
        int(missing.get("rows", 0)),
        _interval(found.get("roc_auc")),
        _interval(found.get("brier")),
        bool(found.get("better")),
    )


def _list(row: ScoreList, result: ListResult) -> ListOutcome:
    figures = result.figures
    effect, capacity = figures.get("effect") or {}, figures.get("at_capacity") or {}
    contact, control = effect.get("contact") or {}, effect.get("control") or {}
    return ListOutcome(
        row.list_id,
        row.campaign,
        row.version,
        row.published_at,
        result.revision,
        result.rows,
        row.rows,
        result.events,
        capacity.get("lift"),
        capacity.get("precision"),
        capacity.get("recall"),
        int(contact.get("customers", 0)),
        int(control.get("customers", 0)),
        contact.get("rate") if contact.get("customers") else None,
        control.get("rate") if control.get("customers") else None,
        _interval({**effect, "value": effect["kept_share"]} if "kept_share" in effect else None),
        bool(effect.get("tells")),
        _interval({**effect["value"], "value": effect["value"]["kept_share"]} if "value" in effect else None),
        bool(figures.get("contacted")),
        list(figures.get("deciles", [])),
    )


def _waiting(ledger: Ledger, settings: Settings, now: datetime) -> Waiting | None:
    if settings.contract.horizon_days is None:
        return None
    snapshot = next(iter(ledger.snapshots(limit=1)), None)
    if snapshot is None:  # a run whose rows all wait takes none
        return Waiting(sum(rows for rows, _ in ledger.accepted_sizes()), 0, [])
    due = due_dates(snapshot, settings.contract)
    today = now.astimezone(UTC).date()
    later = [(day, rows) for day, rows in due.items() if day >= today]
    return Waiting(sum(due.values()), sum(due.values()) - sum(rows for _, rows in later), later[:PAGE])


def _interval(found: Mapping[str, Any] | None) -> Interval | None:
    return Interval(float(found["value"]), float(found["lower"]), float(found["upper"])) if found else None
