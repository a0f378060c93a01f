"""The status tiles of the first page. Each answers one question, and nothing that could not be checked is shown as good."""

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
    OutcomeLook,
    Promotion,
    VersionFlag,
)
from churn.foundation.schedule import NEWS, UNFINISHED, due_nights
from churn.foundation.wording import KIND_WORDS, REVERSALS, as_sentence_end, cause_of_rejection, why_not_built
from churn.outcomes.states import State
from churn.review.presentation import (
    BAD,
    DRY,
    GOOD,
    HELD,
    IMAGE_STATES,
    KINDS_OF_RUNS,
    LOOK,
    NOT_CARRIED_OUT,
    REFUSED,
    UNDONE,
    UNMONITORED,
    WAITS,
    counted,
    describe_answer,
    describe_reversal,
    find_fate,
)
from churn.settings import Settings


@dataclass(frozen=True)
class Tile:
    """One answer: the topic, its state, the answer in a few words, and the details."""

    name: str
    state: str
    answer: str
    detail: str


@dataclass(frozen=True)
class OverviewFacts:
    """What the first page needs from the ledger, newest first.

    `batches` are those of the newest run that validated any, and the newest that has arrived since. `waiting` is the number
    of all batches that are not validated yet. `failures` are tasks of churn_retraining whose last attempt failed.
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
    look: OutcomeLook | None = None


def make_tiles(facts: OverviewFacts, settings: Settings, now: datetime) -> list[Tile]:
    """Make the tiles, in the order in which people ask."""
    current = facts.promotions[0] if facts.promotions else None
    return [
        _last_run_tile(facts, settings, now),
        _intake_tile(facts),
        _drift_tile(facts),
        _image_tile(current, facts.image),
        _health_tile(current, facts, settings, now),
        _freeze_tile(facts.frozen),
    ]


def _last_run_tile(facts: OverviewFacts, settings: Settings, now: datetime) -> Tile:
    """Report a run without a verdict first, and only then the last verdict."""
    last = _last_run(facts)
    if without_verdict := find_run_without_verdict(facts, settings, now):
        return without_verdict
    if last is None:
        return Tile(_LAST_RUN, UNMONITORED, "none yet", "No run has reached a decision yet.")
    return _verdict_tile(last, facts)


def _last_run(facts: OverviewFacts) -> NightRow | None:
    """The last run that decided; a dry run only if there is no other."""
    return next((row for row in facts.nights if not row.dry_run), facts.nights[0] if facts.nights else None)


def find_run_without_verdict(facts: OverviewFacts, settings: Settings, now: datetime) -> Tile | None:
    """Report a failure first, then a run in progress, then a missing one; None if the last run reached a verdict."""
    last = _last_run(facts)
    last_verdict = (
        f" The last verdict was reached on {last.decided_at:%Y-%m-%d %H:%M} UTC."
        if last
        else " No run has reached a decision yet."
    )
    failure = next((alert for alert in facts.failures if not _is_repaired(alert, facts)), None)
    if failure:
        when = f"{failure.noticed_at:%Y-%m-%d %H:%M} UTC"
        return Tile(_LAST_RUN, BAD, "a task failed", f"{failure.subject}, {when}.{last_verdict}")
    undecided = _undecided_batches(facts, last)
    if undecided:
        run = undecided[0].night
        if _is_in_progress(undecided, facts.waiting, now):
            detail = f"Run {run} has ingested files and is still in progress.{last_verdict}"
            return Tile(_LAST_RUN, LOOK, "not decided yet", detail)
        detail = f"Run {run} ended without a decision: {_describe_states(undecided)}.{last_verdict}"
        return Tile(_LAST_RUN, LOOK, "no verdict", detail)
    due = next(due_nights(settings, now), None)
    has_history = facts.promotions or facts.nights or facts.batches
    if due and has_history and (last is None or last.dry_run or last.decided_at < due):
        detail = (
            f"The run due at {due.astimezone(UTC):%Y-%m-%d %H:%M} UTC recorded no verdict. "
            f"Nothing new was accepted, or the run failed or did not start.{last_verdict}"
        )
        return Tile(_LAST_RUN, LOOK, "no verdict", detail)
    return None


def _is_repaired(failure: Alert, facts: OverviewFacts) -> bool:
    """Whether a later run has decided, or the failed run has since decided and promoted where that follows."""
    run = failed_run(failure)
    if any(row.night != run and not row.dry_run and row.decided_at > failure.noticed_at for row in facts.nights):
        return True
    decision = next((row for row in facts.nights if row.night == run), None)
    if decision is None:
        return False
    promotion = _find_promotion(decision, facts.promotions)
    fate = find_fate(
        decision.verdict, decision.asked, decision.answer, decision.dry_run, promotion is not None, waits=True
    )
    finished_at = promotion.promoted_at if promotion else decision.decided_at
    return fate != UNDONE and finished_at >= failure.noticed_at


def _undecided_batches(facts: OverviewFacts, last: NightRow | None) -> list[Batch]:
    """Find the batches of the newest run that validated any, if that run has not decided."""
    decided = {row.night for row in facts.nights}
    return [
        batch
        for batch in facts.batches
        if batch.judged_at
        and batch.night not in decided
        and batch.state != "withdrawn"
        and (last is None or batch.judged_at > last.decided_at)
    ]


def _is_in_progress(batches: Sequence[Batch], waiting: int, now: datetime) -> bool:
    """Whether a run may still decide: it started recently, and still has something to validate or to decide."""
    newest = max(batch.judged_at for batch in batches if batch.judged_at)
    return now - newest < UNFINISHED and (waiting > 0 or any(batch.state == "accepted" for batch in batches))


def _describe_states(batches: Sequence[Batch]) -> str:
    if len(batches) == 1:
        return f"{batches[0].name} is {batches[0].state}"
    return f"{counted(len(batches), 'file')}, {_count_states(batches)}"


def _count_states(batches: Sequence[Batch]) -> str:
    """Count the batches in each state, the worst state first."""
    counts = [(state, sum(batch.state == state for batch in batches)) for state in _WORST_FIRST]
    return ", ".join(f"{count} {_STATE_WORDS.get(state, state)}" for state, count in counts if count)


def _find_promotion(row: NightRow, changes: Sequence[Promotion]) -> Promotion | None:
    return next((change for change in changes if change.night == row.night and change.kind in KINDS_OF_RUNS), None)


def _verdict_tile(last: NightRow, facts: OverviewFacts) -> Tile:
    """Report what became of the last verdict."""
    summary = f"{last.decided_at:%Y-%m-%d %H:%M} UTC: version {last.challenger}."
    promotion = _find_promotion(last, facts.promotions)
    fate = find_fate(last.verdict, last.asked, last.answer, last.dry_run, promotion is not None, waits=True)
    state_of_verdict = GOOD if last.verdict == "promote" or Reason.implied_by(last.code).routine else LOOK
    if promotion:
        following = next((change for change in facts.promotions if change.sequence == promotion.sequence + 1), None)
        if following and (reversal := describe_reversal(promotion, following)):
            return Tile(_LAST_RUN, LOOK, f"promoted, {REVERSALS[following.kind]}", f"{summary} {reversal}")
        approved = ", approved" if last.answer == "approved" else ""
        return Tile(_LAST_RUN, GOOD, f"promoted ({last.code}){approved}", summary)
    verdict = f"{last.verdict} ({last.code})"
    state, answer, more = {
        DRY: (state_of_verdict, f"{verdict}, dry run", " Nothing was changed."),
        WAITS: (LOOK, "waiting for approval", f" {last.verdict.capitalize()} ({last.code})."),
        REFUSED: (GOOD, f"not promoted, {describe_answer(last.answer or '')}", ""),
        UNDONE: (LOOK, f"{last.answer or verdict}, not carried out", f" {NOT_CARRIED_OUT}"),
        HELD: (state_of_verdict, f"held ({last.code})", "" if state_of_verdict == GOOD else f" {last.sentence}"),
    }[fate]
    return Tile(_LAST_RUN, state, answer, f"{summary}{more}")


def _intake_tile(facts: OverviewFacts) -> Tile:
    """Report all files of the newest run, the worst first, and how many wait for the next one."""
    name = "Intake"
    waiting = f" {counted(facts.waiting, 'file')} ingested and not validated yet." if facts.waiting else ""
    judged = [batch for batch in facts.batches if batch.state != "arrived"]
    if not judged:
        if not facts.batches:
            return Tile(name, UNMONITORED, "nothing arrived", f"No file has been ingested yet.{waiting}")
        newest = facts.batches[0]
        arrived_at = f"{newest.arrived_at:%Y-%m-%d %H:%M} UTC"
        return Tile(name, LOOK, "waiting", f"{newest.name} arrived {arrived_at} and has not been validated yet.")
    worst = min(judged, key=lambda batch: _WORST_FIRST.index(batch.state))
    warning_count = sum(len(batch.warnings or []) for batch in judged)
    warned = f" {counted(warning_count, 'warning')}." if warning_count else ""
    arrived, accepted, quarantined = (
        sum(getattr(batch, column) or 0 for batch in judged)
        for column in ("arrived_rows", "accepted_rows", "quarantined_rows")
    )
    rows = f"{arrived:,} rows arrived, {accepted:,} accepted, {quarantined:,} quarantined"
    answer = worst.state if len(judged) == 1 else _count_states(judged)
    if worst.state == "rejected":
        total = f" {counted(len(judged), 'file')}: {rows}." if len(judged) > 1 else ""
        return Tile(
            name,
            BAD,
            answer,
            f"{worst.name}: {cause_of_rejection(worst.reason or 'no reason was recorded.')}{total}{waiting}",
        )
    if worst.state == "withdrawn":
        return Tile(name, LOOK, answer, f"{worst.name} has been withdrawn. {rows}.{warned}{waiting}")
    subject = judged[0].name if len(judged) == 1 else counted(len(judged), "file")
    return Tile(name, LOOK if warned or waiting else GOOD, answer, f"{subject}: {rows}.{warned}{waiting}")


def _drift_tile(facts: OverviewFacts) -> Tile:
    if not facts.drift:
        state = facts.batches[0].state if facts.batches else ""
        why = _UNMEASURED.get(state, "had no earlier accepted rows to be compared with")
        detail = f"The newest batch {why}." if state else "No batch has been measured yet."
        return Tile("Drift", UNMONITORED, UNMONITORED, detail)
    drifted = [drift.column for drift in sorted(facts.drift, key=lambda drift: -drift.psi) if drift.drifted]
    reference = f"compared with {facts.drift[0].reference_rows:,} accepted rows"
    if drifted:
        answer = f"{len(drifted)} of {len(facts.drift)} columns"
        return Tile("Drift", LOOK, answer, f"{', '.join(drifted)}; {reference}.")
    return Tile("Drift", GOOD, "none", f"None of {len(facts.drift)} columns has drifted, {reference}.")


def _image_tile(current: Promotion | None, image: ImageRecord | None) -> Tile:
    if current is None or current.version is None:
        return Tile("Image", UNMONITORED, "none needed", "Nothing is in production.")
    if image is None:
        detail = f"The image of version {current.version} has not been built or verified yet."
        return Tile("Image", LOOK, "pending", detail)
    state, answer, words = IMAGE_STATES[image.state]
    if image.state == "not_built":
        words = f"It was not built, because {why_not_built(image.detail)}. The same service was verified against the model instead."
    probed = f" Verified on {image.probes:,} rows." if image.probes else ""
    return Tile("Image", state, answer, f"{words or image.detail}{probed}")


def _health_tile(current: Promotion | None, facts: OverviewFacts, settings: Settings, now: datetime) -> Tile:
    name = "Champion health"
    if current is None or current.version is None:
        return Tile(name, UNMONITORED, UNMONITORED, "There is no champion.")
    last = facts.last if facts.last and facts.last.champion == current.version else None
    if problem := _health_problem(current.version, facts, last):
        return Tile(name, BAD, *problem)
    if tile := _later_health(name, facts.look):
        return tile
    if last is None or not last.watch:
        how = KIND_WORDS.get(current.kind, current.kind)
        detail = (
            f"Version {current.version} has not been scored on new customers since it was {how}.{_missing(facts.look)}"
        )
        return Tile(name, UNMONITORED, UNMONITORED, detail)
    day = f"{last.decided_at:%Y-%m-%d}"
    if last.decided_at < next(due_nights(settings, now), now - NEWS):
        detail = f"Floor and calibration were met on the unseen customers of {day}. No run has checked since.{_missing(facts.look)}"
        return Tile(name, UNMONITORED, f"not monitored since {day}", detail)
    return Tile(name, GOOD, "healthy", f"Floor and calibration are met on the unseen customers of {day}.")


def _later_health(name: str, look: OutcomeLook | None) -> Tile | None:
    """What rows that came after the promotion say; None until there are enough of them."""
    health = look.figures.get("health", {}) if look else {}
    auc, ratio = health.get("roc_auc"), health.get("observed_expected")
    if look is None or not auc or not ratio:
        return None
    detail = (
        f"On {health['rows']:,} rows that came after the promotion: ROC AUC {auc['value']:.3f} ({auc['lower']:.3f} to {auc['upper']:.3f}), "
        f"observed/expected {ratio['value']:.2f} ({ratio['lower']:.2f} to {ratio['upper']:.2f})."
    )
    if look.state == State.REFUTED:
        return Tile(name, BAD, "refuted", f"Later rows say that the version before does better. {detail}")
    return Tile(name, GOOD, "confirmed" if look.state == State.CONFIRMED else "measured", detail)


def _missing(look: OutcomeLook | None) -> str:
    """How many later rows are missing until the health can be given."""
    missing = look.figures.get("health", {}).get("missing", {}) if look else {}
    if not missing:
        return ""
    return f" Figures on later rows follow with {missing['rows']:,} more of them, and {missing['events']:,} more of the rarer class."


def _health_problem(champion: int, facts: OverviewFacts, checked: DecisionRecord | None) -> tuple[str, str] | None:
    """What is wrong with the champion, in two words and in sentences; `checked` is the last decision that concerns it."""
    withdrawn = [f"batch {flag.batch[:12]}" for flag in facts.flags]
    if withdrawn:
        return "bad data", f"Version {champion} was trained on data withdrawn since: {', '.join(withdrawn)}."
    if checked and checked.code == Reason.CHAMPION_MISSING:
        return "missing in MLflow", checked.sentence
    failing = [rule["sentence"] for rule in checked.watch if not rule["passed"]] if checked else []
    return ("fails its checks", " ".join(failing)) if failing else None


def _freeze_tile(frozen: Promotion | None) -> Tile:
    if frozen:
        by = frozen.actor or "the pipeline"
        detail = (
            f"Version {frozen.previous} was {REVERSALS[frozen.kind]} by {by}: {as_sentence_end(frozen.reason)} "
            "Run `churn unfreeze --reason ...` to turn it on again."
        )
        return Tile("Automatic promotion", LOOK, "off", detail)
    return Tile("Automatic promotion", GOOD, "on", "A challenger that meets the policy is promoted.")


_LAST_RUN = "Last run"
_WORST_FIRST = ("rejected", "arrived", "withdrawn", "accepted")
_STATE_WORDS = {"arrived": "not validated yet"}
_UNMEASURED = {"arrived": "has not been validated yet", "rejected": "was rejected before drift was measured"}
