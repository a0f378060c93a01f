"""The first page: what is in production and since when, how the last run went, and what waits for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from churn.foundation.ledger import Ledger
from churn.foundation.links import RETRAINING, ROLLBACK, approval_page, run_page, version_page
from churn.foundation.records import (
    Batch,
    ImageRecord,
    NightRow,
    Promotion,
)
from churn.foundation.schedule import NEWS
from churn.foundation.wording import KIND_WORDS, REVERSALS, as_sentence_end
from churn.release.lineage import predecessor
from churn.review.presentation import (
    IMAGE_STATES,
    KINDS_OF_RUNS,
    LINEAGE,
    Interval,
    Link,
    Reign,
    interval,
    list_reigns,
    span_words,
)
from churn.review.tiles import OverviewFacts, Tile, make_tiles
from churn.settings import Settings

NIGHTS, CHANGES = 30, 12
"""How many of the newest runs the chart shows, and how many of the newest changes of production the timeline lists."""


@dataclass(frozen=True)
class NightPoint:
    """A run as the chart shows it: ROC AUC of both versions on the unseen customers of that run."""

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
    """A promotion that waits for a person's approval."""

    night: str
    challenger: int
    sentence: str
    asked_at: datetime
    url: str


@dataclass(frozen=True)
class Action:
    """A DAG that a person may trigger; `values` are prefilled in Airflow's trigger form."""

    title: str
    dag: str
    url: str
    values: dict[str, str | int]


@dataclass(frozen=True)
class Overview:
    """The first page. `first_steps` is empty once anything has happened; `actions` are for people who may trigger the DAGs."""

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
    """Read the page from the ledger. The number of queries does not grow with the ledger."""
    return make_overview(load_facts(ledger, settings, now), settings, now)


def load_facts(ledger: Ledger, settings: Settings, now: datetime) -> OverviewFacts:
    """Read what the first page needs."""
    model = settings.model_name
    changes = ledger.promotions(model, limit=LINEAGE)
    version = changes[0].version if changes else None
    newest = _load_newest_batches(ledger)
    return OverviewFacts(
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
        look=ledger.last_look(model, changes[0].sequence) if changes else None,
    )


def _load_newest_batches(ledger: Ledger) -> list[Batch]:
    """Read all batches of the newest run, and the newest batch if it is not validated yet; newest first."""
    last_judged = ledger.last_judged()
    of_newest_run = ledger.batches(night=(last_judged.night if last_judged else None) or "")
    waiting = [batch for batch in ledger.newest_batches(1) if batch.state == "arrived"]
    return sorted((*of_newest_run, *waiting), key=lambda batch: -batch.arrival)


def make_overview(facts: OverviewFacts, settings: Settings, now: datetime) -> Overview:
    """Make the page from what the ledger says; pure."""
    current = facts.promotions[0] if facts.promotions else None
    headline, detail = _describe_production(current, facts.image, now)
    promoting_runs = {change.night for change in facts.promotions if change.kind in KINDS_OF_RUNS}
    nothing_yet = not (facts.promotions or facts.nights or facts.batches or facts.waiting)
    return Overview(
        model=settings.model_name,
        headline=headline,
        detail=detail,
        tiles=make_tiles(facts, settings, now),
        reigns=list_reigns(facts.promotions)[:CHANGES],
        earlier_changes=len(facts.promotions) > CHANGES,
        nights=[_make_point(row, promoting_runs) for row in reversed(facts.nights)],
        pending=[
            Pending(
                decision.night,
                decision.challenger,
                decision.sentence,
                decision.decided_at,
                approval_page(settings, decision.night),
            )
            for decision in facts.open
        ],
        actions=_list_actions(facts.promotions, settings),
        first_steps=_FIRST_STEPS if nothing_yet else [],
        links=[
            Link("DAG churn_retraining", run_page(settings, RETRAINING)),
            Link("Versions in MLflow", version_page(settings.mlflow_ui, settings.model_name)),
        ],
    )


def _describe_production(current: Promotion | None, image: ImageRecord | None, now: datetime) -> tuple[str, str]:
    """Write the headline of what is in production, since when and how it came there, and the details."""
    if current is None:
        return (
            "Nothing is in production yet.",
            "The first challenger that meets the policy is promoted.",
        )
    since = f"{current.promoted_at:%Y-%m-%d %H:%M} UTC"
    if current.version is None:
        return (
            f"Nothing has been in production since {since}.",
            f"Version {current.previous} was {REVERSALS.get(current.kind, 'rolled back')} by "
            f"{current.actor or 'the pipeline'}: {current.reason}",
        )
    state = IMAGE_STATES[image.state][1] if image else "pending"
    digest = f", {(image.digest or image.image_id or '')[:19]}" if image and (image.digest or image.image_id) else ""
    by = f" by {current.actor}" if current.actor else ""
    how = f"{KIND_WORDS.get(current.kind, current.kind)}{by}"
    rule = f" ({current.code})" if current.code and current.kind not in ("rollback", "take_back") else ""
    where = f" in run {current.night}" if current.kind in KINDS_OF_RUNS else ""
    reason = f" Reason: {as_sentence_end(current.reason)}" if current.kind != "promotion" else ""
    return (
        f"Version {current.version} has been in production since {since}.",
        f"It was {how}{rule}{where}, {span_words(now - current.promoted_at)} ago. Image: {state}{digest}.{reason}",
    )


def _make_point(row: NightRow, promoting_runs: set[str]) -> NightPoint:
    return NightPoint(
        row.night,
        row.decided_at,
        row.verdict,
        row.code,
        row.night in promoting_runs,
        row.challenger,
        row.champion,
        interval((row.challenger_metrics or {}).get("roc_auc")),
        interval((row.champion_metrics or {}).get("roc_auc")),
    )


def _list_actions(changes: Sequence[Promotion], settings: Settings) -> list[Action]:
    actions = [Action("Trigger a run", RETRAINING, run_page(settings, RETRAINING), {})]
    target = predecessor(changes)
    if target:
        actions.append(
            Action(f"Roll back to version {target}", ROLLBACK, run_page(settings, ROLLBACK), {"version": target})
        )
    return actions


_FIRST_STEPS = [
    "Run `churn land FILE` (stack: `make stack DO=land FILE=...`), or copy a CSV file with the contract's columns into the landing folder.",
    "Trigger a run here, or wait for the schedule. `make run` does both steps with the sample data.",
    "Come back to this page. It shows what was accepted, how the new version performs and whether it was promoted.",
]
