"""The first page: what is in production and since when, how last night went, and what waits for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from churn.foundation.ledger import Ledger
from churn.foundation.links import RETRAINING, ROLLBACK, approval_page, run_page
from churn.foundation.records import (
    Batch,
    ImageRecord,
    NightRow,
    Promotion,
)
from churn.foundation.schedule import NEWS
from churn.release.lineage import predecessor
from churn.review.presentation import (
    IMAGE_STATES,
    KIND_WORDS,
    LINEAGE,
    OF_A_NIGHT,
    Interval,
    Link,
    Reign,
    interval,
    reigns,
    span_words,
)
from churn.review.tiles import OverviewFacts, Tile, make_tiles
from churn.settings import Settings

NIGHTS, CHANGES = 30, 12


@dataclass(frozen=True)
class NightPoint:
    """A night as the chart shows it: ROC AUC of both versions on the unseen customers of that night."""

    night: str
    decided_at: datetime
    verdict: str
    code: str
    promoted: bool
    challenger: int
    champion: int | None
    challenger_auc: Interval | None
    champion_auc: Interval | None


@dataclass(frozen=True)
class Pending:
    """A decision that waits for a person."""

    night: str
    challenger: int
    sentence: str
    asked_at: datetime
    url: str


@dataclass(frozen=True)
class Action:
    """Something that a person may do, in Airflow's form; `values` fill the form in."""

    title: str
    dag: str
    url: str
    values: dict[str, str | int]


@dataclass(frozen=True)
class Overview:
    """The page. `first_steps` is what to do where nothing has happened yet, else empty; `actions` are for those who may trigger."""

    model: str
    headline: str
    detail: str
    tiles: list[Tile]
    reigns: list[Reign]
    earlier_changes: bool
    nights: list[NightPoint]
    pending: list[Pending]
    actions: list[Action]
    first_steps: list[str]
    links: list[Link]


def load_overview(ledger: Ledger, settings: Settings, now: datetime) -> Overview:
    """Read the page from the ledger, in as many queries whatever its age."""
    model = settings.model_name
    changes = ledger.promotions(model, limit=LINEAGE)
    version = changes[0].version if changes else None
    newest = _newest_batches(ledger)
    facts = OverviewFacts(
        promotions=changes,
        nights=ledger.night_rows(model, NIGHTS),
        last=ledger.last_decision(model),
        open=ledger.open_decisions(model),
        batches=newest,
        waiting=ledger.count_batches("arrived"),
        drift=ledger.drift(newest[0].batch if newest else ""),
        image=ledger.image(model, version or 0),
        frozen=ledger.freeze(model),
        flags=ledger.flags(model, version or 0),
        failures=ledger.failures(RETRAINING, since=now - NEWS),
    )
    return make_overview(facts, settings, now)


def _newest_batches(ledger: Ledger) -> list[Batch]:
    """All of the newest night, and the newest that arrived; the newest first."""
    judged = ledger.last_judged()
    tonight = ledger.batches(night=(judged.night if judged else None) or "")
    waiting = [one for one in ledger.newest_batches(1) if one.state == "arrived"]
    return sorted((*tonight, *waiting), key=lambda one: -one.arrival)


def make_overview(facts: OverviewFacts, settings: Settings, now: datetime) -> Overview:
    """The page of what the ledger says; pure."""
    current = facts.promotions[0] if facts.promotions else None
    headline, detail = _production(current, facts.image, now)
    promoting = {one.night for one in facts.promotions if one.kind in OF_A_NIGHT}
    nothing_yet = not (facts.promotions or facts.nights or facts.batches or facts.waiting)
    return Overview(
        model=settings.model_name,
        headline=headline,
        detail=detail,
        tiles=make_tiles(facts, settings, now),
        reigns=reigns(facts.promotions)[:CHANGES],
        earlier_changes=len(facts.promotions) > CHANGES,
        nights=[_point(one, promoting) for one in reversed(facts.nights)],
        pending=[
            Pending(one.night, one.challenger, one.sentence, one.decided_at, approval_page(settings, one.night))
            for one in facts.open
        ],
        actions=_actions(facts.promotions, settings),
        first_steps=_FIRST_STEPS if nothing_yet else [],
        links=[
            Link("DAG churn_retraining", run_page(settings, RETRAINING)),
            Link("Versions in MLflow", f"{settings.mlflow_ui}/#/models/{settings.model_name}"),
        ],
    )


def _production(current: Promotion | None, image: ImageRecord | None, now: datetime) -> tuple[str, str]:
    if current is None:
        return (
            "Nothing is in production yet.",
            "The first night whose challenger meets the policy puts its version there.",
        )
    since = f"{current.promoted_at:%Y-%m-%d %H:%M} UTC"
    if current.version is None:
        return (
            f"Nothing is in production since {since}.",
            f"Version {current.previous} was taken back by {current.actor or 'the pipeline'}: {current.reason}",
        )
    state = IMAGE_STATES[image.state][1] if image else "no state yet"
    digest = f", {(image.digest or image.image_id or '')[:19]}" if image and (image.digest or image.image_id) else ""
    by = f" by {current.actor}" if current.actor else ""
    how = f"{KIND_WORDS.get(current.kind, current.kind)}{by}"
    rule = f" ({current.code})" if current.code and current.kind not in ("rollback", "take_back") else ""
    where = f" in night {current.night}" if current.kind in OF_A_NIGHT else ""
    reason = f" {current.reason}" if current.kind != "promotion" else ""
    return (
        f"Version {current.version} is in production since {since}.",
        f"It was {how}{rule}{where}, {span_words(now - current.promoted_at)} ago. Its image: {state}{digest}.{reason}",
    )


def _point(row: NightRow, promoting: set[str]) -> NightPoint:
    return NightPoint(
        row.night,
        row.decided_at,
        row.verdict,
        row.code,
        row.night in promoting,
        row.challenger,
        row.champion,
        interval((row.challenger_metrics or {}).get("roc_auc")),
        interval((row.champion_metrics or {}).get("roc_auc")),
    )


def _actions(changes: Sequence[Promotion], settings: Settings) -> list[Action]:
    found = [Action("Trigger a night", RETRAINING, run_page(settings, RETRAINING), {})]
    before = predecessor(changes)
    if before:
        found.append(
            Action(f"Roll back to version {before}", ROLLBACK, run_page(settings, ROLLBACK), {"version": before})
        )
    return found


_FIRST_STEPS = [
    "Put a CSV file of the contract's columns into landing: `churn land FILE`, `make land FILE=...` on the stack, or any copy into the landing folder.",
    "Trigger a night here, or wait for the schedule. `make run` does both with the sample.",
    "Come back: this page says what was accepted, how the version fares and whether it was promoted.",
]
