"""The first page: what is in production and since when, how last night went, and what waits for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter  # type: ignore[import-untyped]

from churn.decision.codes import ORDINARY_HOLDS
from churn.foundation.addresses import RETRAINING, ROLLBACK, approval_page, run_page
from churn.foundation.ledger import Ledger
from churn.foundation.ledger.alerts import failed_run
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
    DRY,
    GOOD,
    HELD,
    IMAGE_STATES,
    KIND_WORDS,
    LINEAGE,
    LOOK,
    NOT_CARRIED_OUT,
    OF_A_NIGHT,
    REFUSED,
    TAKEN_AWAY,
    UNDONE,
    UNMONITORED,
    WAITS,
    Interval,
    Link,
    Reign,
    counted,
    fate_of,
    interval,
    reigns,
    span_words,
    taken_away,
)
from churn.settings import Settings

NIGHTS, CHANGES = 30, 12
UNFINISHED = timedelta(hours=6)
"""A night that began so recently may still bring a verdict."""
NEWS = timedelta(days=3)
"""What is older says nothing of today."""


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
    """What the ledger says, newest first.

    `batches` are those of the newest night that judged any, and the newest that arrived since; `waiting` counts all that wait;
    `failures` are tasks of churn_retraining that have failed at their last try.
    """

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
    failures: Sequence[Alert]


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
        tiles=[
            _night_tile(facts, settings, now),
            _intake_tile(facts),
            _drift_tile(facts),
            _image_tile(current, facts.image),
            _health_tile(current, facts, settings, now),
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
    where = f" in night {current.night}" if current.kind in OF_A_NIGHT else ""
    reason = f" {current.reason}" if current.kind != "promotion" else ""
    return (
        f"Version {current.version} is in production since {since}.",
        f"It was {how}{rule}{where}, {span_words(now - current.promoted_at)} ago. Its image: {state}{digest}.{reason}",
    )


def _night_tile(facts: OverviewFacts, settings: Settings, now: datetime) -> Tile:
    """Failures first, then what is in the making, then what is missing, and only then the last verdict."""
    real = next((one for one in facts.nights if not one.dry_run), None)
    last = real or (facts.nights[0] if facts.nights else None)
    before = (
        f" The last verdict is of {last.decided_at:%Y-%m-%d %H:%M} UTC." if last else " No night has decided anything."
    )
    failed = next((one for one in facts.failures if not _repaired(one, facts)), None)
    if failed:
        return Tile(
            "Last night", BAD, "a task failed", f"{failed.subject}, {failed.noticed_at:%Y-%m-%d %H:%M} UTC.{before}"
        )
    judged = _judged_since(facts, last)
    if judged:
        night, running = judged[0].night, _in_the_making(judged, facts.waiting, now)
        if running:
            return Tile(
                "Last night", LOOK, "not decided yet", f"Night {night} has taken files in, and is at work.{before}"
            )
        return Tile("Last night", LOOK, "no verdict", f"Night {night} has decided nothing; {_said_of(judged)}.{before}")
    due = expected_night(settings, now)
    if due and (real is None or real.decided_at < due) and (facts.promotions or facts.nights or facts.batches):
        return Tile(
            "Last night",
            LOOK,
            "no verdict",
            f"The night of {due.astimezone(UTC):%Y-%m-%d %H:%M} UTC left no verdict: nothing new was accepted, or it failed or did not run.{before}",
        )
    if last is None:
        return Tile("Last night", UNMONITORED, "none yet", "No night has decided anything.")
    return _verdict_tile(last, facts)


def _repaired(failure: Alert, facts: OverviewFacts) -> bool:
    """Whether a later night has decided, or the run itself has since done what it was to do: decide, and promote where that follows."""
    run = failed_run(failure)
    if any(one.night != run and not one.dry_run and one.decided_at > failure.noticed_at for one in facts.nights):
        return True
    own = next((one for one in facts.nights if one.night == run), None)
    if own is None:
        return False
    change = _promotion_of(own, facts.promotions)
    fate = fate_of(own.verdict, own.asked, own.answer, own.dry_run, change is not None, waits=True)
    return fate != UNDONE and (change.promoted_at if change else own.decided_at) >= failure.noticed_at


def _judged_since(facts: OverviewFacts, last: NightRow | None) -> list[Batch]:
    """The batches of the newest night that judged any, if that night has decided nothing."""
    decided = {one.night for one in facts.nights}
    return [
        one
        for one in facts.batches
        if one.judged_at
        and one.night not in decided
        and one.state != "withdrawn"
        and (last is None or one.judged_at > last.decided_at)
    ]


def _in_the_making(judged: Sequence[Batch], waiting: int, now: datetime) -> bool:
    """Whether a night may still decide: it began a short time ago, and has something to decide on or to judge."""
    newest = max(one.judged_at for one in judged if one.judged_at)
    return now - newest < UNFINISHED and (waiting > 0 or any(one.state == "accepted" for one in judged))


def _said_of(batches: Sequence[Batch]) -> str:
    if len(batches) == 1:
        return f"{batches[0].name} is {batches[0].state}"
    return f"of its {counted(len(batches), 'file')} {_states(batches)}"


def _states(batches: Sequence[Batch]) -> str:
    """How many are in which state, the worst first."""
    found = [(state, sum(one.state == state for one in batches)) for state in _WORST_FIRST]
    return ", ".join(f"{count} {_STATE_WORDS.get(state, state)}" for state, count in found if count)


def _promotion_of(row: NightRow, changes: Sequence[Promotion]) -> Promotion | None:
    return next((one for one in changes if one.night == row.night and one.kind in OF_A_NIGHT), None)


def _verdict_tile(last: NightRow, facts: OverviewFacts) -> Tile:
    """What became of the last verdict."""
    name, said = "Last night", f"{last.decided_at:%Y-%m-%d %H:%M} UTC: version {last.challenger}."
    change = _promotion_of(last, facts.promotions)
    fate = fate_of(last.verdict, last.asked, last.answer, last.dry_run, change is not None, waits=True)
    held = GOOD if last.verdict == "promote" or last.code in ORDINARY_HOLDS else LOOK
    if change:
        after = next((one for one in facts.promotions if one.sequence == change.sequence + 1), None)
        if gone := taken_away(change, after):
            return Tile(name, LOOK, f"promoted, {TAKEN_AWAY[after.kind] if after else ''}", f"{said} {gone}")
        approved = ", approved" if last.answer == "approved" else ""
        return Tile(name, GOOD, f"promoted ({last.code}){approved}", said)
    verdict = f"{last.verdict} ({last.code})"
    state, answer, more = {
        DRY: (held, f"{verdict}, dry run", " Nothing was changed."),
        WAITS: (LOOK, "waits for a person", f" {last.verdict.capitalize()} ({last.code})."),
        REFUSED: (GOOD, f"not promoted, {last.answer}", ""),
        UNDONE: (LOOK, f"{last.answer or verdict}, not carried out", f" {NOT_CARRIED_OUT}"),
        HELD: (held, f"held ({last.code})", "" if held == GOOD else f" {last.sentence}"),
    }[fate]
    return Tile(name, state, answer, f"{said}{more}")


def _intake_tile(facts: OverviewFacts) -> Tile:
    """All files of the newest night, the worst first, and those that wait for the next one."""
    name = "Intake"
    waiting = f" {counted(facts.waiting, 'file')} taken in and not judged yet." if facts.waiting else ""
    judged = [one for one in facts.batches if one.state != "arrived"]
    if not judged:
        if not facts.batches:
            return Tile(name, UNMONITORED, "nothing arrived", f"No file was taken in yet.{waiting}")
        newest = facts.batches[0]
        at = f"{newest.arrived_at:%Y-%m-%d %H:%M} UTC"
        return Tile(name, LOOK, "waits", f"{newest.name} arrived {at}, and is not judged yet.")
    worst = min(judged, key=lambda one: _WORST_FIRST.index(one.state))
    warnings = sum(len(one.warnings or []) for one in judged)
    warned = f" {counted(warnings, 'warning')}." if warnings else ""
    arrived, accepted, aside = (
        sum(getattr(one, column) or 0 for one in judged)
        for column in ("arrived_rows", "accepted_rows", "quarantined_rows")
    )
    rows = f"{arrived:,} rows arrived, {accepted:,} accepted, {aside:,} set aside"
    answer = worst.state if len(judged) == 1 else _states(judged)
    if worst.state == "rejected":
        others = f" {counted(len(judged), 'file')}: {rows}." if len(judged) > 1 else ""
        return Tile(name, BAD, answer, f"{worst.name}: {worst.reason or 'no reason is known.'}{others}{waiting}")
    if worst.state == "withdrawn":
        return Tile(name, LOOK, answer, f"{worst.name} is withdrawn. {rows}.{warned}{waiting}")
    what = judged[0].name if len(judged) == 1 else counted(len(judged), "file")
    return Tile(name, LOOK if warned or waiting else GOOD, answer, f"{what}: {rows}.{warned}{waiting}")


def _drift_tile(facts: OverviewFacts) -> Tile:
    if not facts.drift:
        state = facts.batches[0].state if facts.batches else ""
        why = _UNMEASURED.get(state, "had no accepted history to be held against")
        return Tile(
            "Drift", UNMONITORED, UNMONITORED, f"The newest batch {why}." if state else "No batch was measured yet."
        )
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


def _health_tile(current: Promotion | None, facts: OverviewFacts, settings: Settings, now: datetime) -> Tile:
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
    if last.decided_at < (expected_night(settings, now) or now - NEWS):
        scored = f"Floor and calibration held on the unseen customers of {last.decided_at:%Y-%m-%d}; no night has looked since."
        return Tile(name, UNMONITORED, f"not monitored since {last.decided_at:%Y-%m-%d}", scored)
    return Tile(
        name, GOOD, "well", f"Floor and calibration hold on the unseen customers of {last.decided_at:%Y-%m-%d}."
    )


def _freeze_tile(frozen: Promotion | None) -> Tile:
    if frozen:
        why = f"Version {frozen.previous} was {TAKEN_AWAY[frozen.kind]} by {frozen.actor or 'the pipeline'}: {frozen.reason} `churn unfreeze --reason ...` turns it on."
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


_WORST_FIRST = ("rejected", "arrived", "withdrawn", "accepted")
_STATE_WORDS = {"arrived": "not judged yet"}
_UNMEASURED = {"arrived": "is not judged yet", "rejected": "was rejected before it was measured"}
_FIRST_STEPS = [
    "Put a CSV file of the contract's columns into landing: `churn land FILE`, `make land FILE=...` on the stack, or any copy into the landing folder.",
    "Trigger a night here, or wait for the schedule. `make run` does both with the sample.",
    "Come back: this page says what was accepted, how the version fares and whether it was promoted.",
]
