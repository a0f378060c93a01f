"""The status strip of the first page: one answer a tile, and nothing good that was not looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from churn.decision.reasons import Reason
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
from churn.foundation.schedule import NEWS, UNFINISHED, due_nights
from churn.review.presentation import (
    BAD,
    DRY,
    GOOD,
    HELD,
    IMAGE_STATES,
    LOOK,
    NOT_CARRIED_OUT,
    OF_A_NIGHT,
    REFUSED,
    TAKEN_AWAY,
    UNDONE,
    UNMONITORED,
    WAITS,
    counted,
    fate_of,
    taken_away,
)
from churn.settings import Settings


@dataclass(frozen=True)
class Tile:
    """One answer: what was looked at, its state, the answer in a word or two, and more."""

    name: str
    state: str
    answer: str
    detail: str


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


def make_tiles(facts: OverviewFacts, settings: Settings, now: datetime) -> list[Tile]:
    """The strip, in the order in which a person asks."""
    current = facts.promotions[0] if facts.promotions else None
    return [
        _night_tile(facts, settings, now),
        _intake_tile(facts),
        _drift_tile(facts),
        _image_tile(current, facts.image),
        _health_tile(current, facts, settings, now),
        _freeze_tile(facts.frozen),
    ]


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
    due = next(due_nights(settings, now), None)
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
    held = GOOD if last.verdict == "promote" or Reason.implied_by(last.code).routine else LOOK
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
    if last.decided_at < next(due_nights(settings, now), now - NEWS):
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


_WORST_FIRST = ("rejected", "arrived", "withdrawn", "accepted")
_STATE_WORDS = {"arrived": "not judged yet"}
_UNMEASURED = {"arrived": "is not judged yet", "rejected": "was rejected before it was measured"}
