"""The first page: what is in production and since when, how last night went, and what waits for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter  # type: ignore[import-untyped]

from churn.foundation.addresses import RETRAINING, ROLLBACK, approval_page, run_page
from churn.foundation.ledger import Ledger
from churn.foundation.records import (
    Alert,
    Batch,
    DecisionRecord,
    Drift,
    ImageRecord,
    NightRow,
    Promotion,
    VersionFlag,
)
from churn.release.lineage import predecessor
from churn.review.views import (
    BAD,
    GOOD,
    IMAGE_STATES,
    KIND_WORDS,
    LINEAGE,
    LOOK,
    UNMONITORED,
    Interval,
    Link,
    Reign,
    counted,
    interval,
    reigns,
    span_words,
)
from churn.settings import Settings

NIGHTS, CHANGES = 30, 12
UNFINISHED = timedelta(hours=6)
"""A night that began so recently may still bring a verdict."""


@dataclass(frozen=True)
class Tile:
    """One answer: what was looked at, its state, the answer in a word or two, and more."""

    name: str
    state: str
    answer: str
    detail: str


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


@dataclass(frozen=True)
class OverviewFacts:
    """What the ledger says, newest first."""

    promotions: Sequence[Promotion]
    nights: Sequence[NightRow]
    last: DecisionRecord | None
    open: Sequence[DecisionRecord]
    batches: Sequence[Batch]
    waiting: int
    drift: Sequence[Drift]
    image: ImageRecord | None
    frozen: Promotion | None
    flags: Sequence[VersionFlag]
    alerts: Sequence[Alert]


def load_overview(ledger: Ledger, settings: Settings, now: datetime) -> Overview:
    """Read the page from the ledger, in as many queries whatever its age."""
    model = settings.model_name
    changes = ledger.promotions(model, limit=LINEAGE)
    version = changes[0].version if changes else None
    newest = ledger.newest_batches(1)
    facts = OverviewFacts(
        promotions=changes,
        nights=ledger.night_rows(model, NIGHTS),
        last=ledger.last_decision(),
        open=ledger.open_decisions(model),
        batches=newest,
        waiting=ledger.count_batches("arrived"),
        drift=ledger.drift(newest[0].batch if newest else ""),
        image=ledger.image(model, version or 0),
        frozen=ledger.freeze(model),
        flags=ledger.flags(model, version or 0),
        alerts=ledger.alerts(since=now - timedelta(days=3), limit=20),
    )
    return make_overview(facts, settings, now)


def make_overview(facts: OverviewFacts, settings: Settings, now: datetime) -> Overview:
    """The page of what the ledger says; pure."""
    current = facts.promotions[0] if facts.promotions else None
    headline, detail = _production(current, facts.image, now)
    promoting = {one.night for one in facts.promotions if one.kind in ("promotion", "forced")}
    nothing_yet = not (facts.promotions or facts.nights or facts.batches or facts.waiting)
    return Overview(
        model=settings.model_name,
        headline=headline,
        detail=detail,
        tiles=[
            _night_tile(facts, settings, now),
            _intake_tile(facts),
            _drift_tile(facts),
            _image_tile(current, facts.image),
            _health_tile(current, facts),
            _freeze_tile(facts.frozen),
        ],
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


def expected_night(settings: Settings, now: datetime) -> datetime | None:
    """When the newest night that must have ended by now was due; None without a schedule."""
    if settings.schedule is None:
        return None
    ended = (now - UNFINISHED).astimezone(ZoneInfo(settings.timezone))
    due: datetime = croniter(settings.schedule, ended).get_prev(datetime)
    return due


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
    reason = f" {current.reason}" if current.kind != "promotion" else ""
    return (
        f"Version {current.version} is in production since {since}.",
        f"It was {how}{rule} in night {current.night}, {span_words(now - current.promoted_at)} ago. Its image: {state}{digest}.{reason}",
    )


def _night_tile(facts: OverviewFacts, settings: Settings, now: datetime) -> Tile:
    last = facts.nights[0] if facts.nights else None
    due = expected_night(settings, now)
    if last is None:
        return Tile("Last night", UNMONITORED, "none yet", "No night has decided anything.")
    since = due if due and due > last.decided_at else last.decided_at
    failed = next((one for one in facts.alerts if one.kind == "task_failed" and one.noticed_at >= since), None)
    when = f"{last.decided_at:%Y-%m-%d %H:%M} UTC"
    if failed:
        return Tile("Last night", BAD, "a task failed", f"{failed.subject}. The last verdict is of {when}.")
    newest = facts.batches[0] if facts.batches else None
    if newest and newest.judged_at and newest.judged_at > last.decided_at and newest.night != last.night:
        return Tile(
            "Last night",
            LOOK,
            "no verdict",
            f"Night {newest.night} has decided nothing; {newest.name} is {newest.state}. The last verdict is of {when}.",
        )
    if due and last.decided_at < due:
        return Tile(
            "Last night",
            LOOK,
            "no verdict",
            f"The night of {due:%Y-%m-%d %H:%M %Z} left no verdict: nothing new was accepted, or it failed or did not run. "
            f"The last verdict is of {when}.",
        )
    return _verdict_tile(last, f"{when}: version {last.challenger}.")


def _verdict_tile(last: NightRow, said: str) -> Tile:
    """A verdict is no promotion yet: a dry run changes nothing, and a person may have to agree."""
    if last.dry_run:
        return Tile("Last night", GOOD, f"{last.verdict} ({last.code}), dry run", f"{said} Nothing was changed.")
    if last.asked and last.answer is None:
        return Tile("Last night", LOOK, "waits for a person", f"{said} {last.verdict.capitalize()} ({last.code}).")
    if last.asked and last.answer != "approved":
        return Tile("Last night", GOOD, f"not promoted, {last.answer}", said)
    return Tile("Last night", GOOD, f"{_DONE[last.verdict]} ({last.code})", said)


def _intake_tile(facts: OverviewFacts) -> Tile:
    waiting = f" {counted(facts.waiting, 'file')} taken in and not judged yet." if facts.waiting else ""
    if not facts.batches:
        return Tile("Intake", UNMONITORED, "nothing arrived", f"No file was taken in yet.{waiting}")
    newest = facts.batches[0]
    if newest.state == "arrived":
        return Tile(
            "Intake",
            LOOK,
            "waits",
            f"{newest.name} arrived {newest.arrived_at:%Y-%m-%d %H:%M} UTC, and is not judged yet.",
        )
    if newest.state == "rejected":
        return Tile("Intake", BAD, "rejected", f"{newest.name}: {newest.reason or 'no reason is known.'}{waiting}")
    counts = f"{newest.arrived_rows or 0:,} rows arrived, {newest.accepted_rows or 0:,} accepted, {newest.quarantined_rows or 0:,} set aside"
    if newest.state == "withdrawn":
        return Tile("Intake", LOOK, "withdrawn", f"{newest.name} is withdrawn. {counts}.{waiting}")
    warned = f" {counted(len(newest.warnings or []), 'warning')}." if newest.warnings else ""
    return Tile(
        "Intake",
        LOOK if newest.warnings or facts.waiting else GOOD,
        "accepted",
        f"{newest.name}: {counts}.{warned}{waiting}",
    )


def _drift_tile(facts: OverviewFacts) -> Tile:
    if not facts.drift:
        rejected = bool(facts.batches) and facts.batches[0].state == "rejected"
        why = "was rejected before it was measured" if rejected else "had no accepted history to be held against"
        return Tile("Drift", UNMONITORED, UNMONITORED, f"The newest batch {why}.")
    drifted = [one.column for one in sorted(facts.drift, key=lambda one: -one.psi) if one.drifted]
    reference = f"against {facts.drift[0].reference_rows:,} accepted rows"
    if drifted:
        return Tile(
            "Drift", LOOK, f"{len(drifted)} of {len(facts.drift)} columns", f"{', '.join(drifted)}; {reference}."
        )
    return Tile("Drift", GOOD, "none", f"None of {len(facts.drift)} columns, {reference}.")


def _image_tile(current: Promotion | None, image: ImageRecord | None) -> Tile:
    if current is None or current.version is None:
        return Tile("Image", UNMONITORED, "none needed", "Nothing is in production.")
    if image is None:
        return Tile(
            "Image", LOOK, "no state yet", f"The image of version {current.version} is not built or verified yet."
        )
    state, answer, words = IMAGE_STATES[image.state]
    asked = f" {image.probes:,} rows were asked." if image.probes else ""
    return Tile("Image", state, answer, f"{words or image.detail}{asked}")


def _health_tile(current: Promotion | None, facts: OverviewFacts) -> Tile:
    name, last = "Champion's health", facts.last
    if current is None or current.version is None:
        return Tile(name, UNMONITORED, UNMONITORED, "There is no champion.")
    trained_on = [f"trained on withdrawn batch {flag.batch[:12]}" for flag in facts.flags]
    if trained_on:
        return Tile(name, BAD, "bad data", f"Version {current.version} was {' and '.join(trained_on)}.")
    if last is None or last.champion != current.version or not last.watch:
        return Tile(
            name,
            UNMONITORED,
            UNMONITORED,
            f"Version {current.version} was not scored on new customers since it is in production.",
        )
    failing = [rule for rule in last.watch if not rule["passed"]]
    if failing:
        return Tile(name, BAD, "below its floor", " ".join(rule["sentence"] for rule in failing))
    return Tile(
        name, GOOD, "well", f"Floor and calibration hold on the unseen customers of {last.decided_at:%Y-%m-%d}."
    )


def _freeze_tile(frozen: Promotion | None) -> Tile:
    if frozen:
        why = f"Version {frozen.previous} was {_FROZEN[frozen.kind]} by {frozen.actor or 'the pipeline'}: {frozen.reason} `churn unfreeze --reason ...` turns it on."
        return Tile("Automatic promotion", LOOK, "off", why)
    return Tile("Automatic promotion", GOOD, "on", "A challenger that meets the policy is promoted.")


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


_DONE = {"promote": "promoted", "hold": "held"}
_FROZEN = {"rollback": "rolled back", "take_back": "taken back"}
_FIRST_STEPS = [
    "Put a CSV file of the contract's columns into landing: `churn land FILE`, `make land FILE=...` on the stack, or any copy into the landing folder.",
    "Trigger a night here, or wait for the schedule. `make run` does both with the sample.",
    "Come back: this page says what was accepted, how the version fares and whether it was promoted.",
]
