"""What the ledger says, as alerts. A message is for each event, so a key names the event and nothing of the try.

No text holds customer data: the ledger's own sentences are free of it, and of an error that is not ours only the kind is told.
"""

from __future__ import annotations

from datetime import datetime

from churn.decision.reasons import Reason
from churn.errors import ChurnError
from churn.foundation.ledger import Ledger
from churn.foundation.links import comparison_page, docs_page, run_page, version_page
from churn.foundation.records import Alert, Batch, DecisionRecord, ImageRecord, Promotion
from churn.foundation.schedule import NEWS
from churn.settings import Settings

PROMOTION, HOLD, BATCH, IMAGE = "promotion", "hold", "batch_rejected", "image_failed"
TASK, CHAMPION, SILENCE, TEST = "task_failed", "champion_below_floor", "silence", "test"
KINDS = (PROMOTION, HOLD, BATCH, IMAGE, TASK, CHAMPION, SILENCE)

UNTOLD_CHANGES = frozenset({"take_back"})
"""A promotion that is taken back is told by the image that made it so."""
FAILED_IMAGES = frozenset({"mismatch", "faulty", "failed"})

_SUBJECT, _TEXT = 100, 6000  # Amazon SNS takes subjects of 100 ASCII characters


def find_events(ledger: Ledger, settings: Settings, now: datetime) -> list[Alert]:
    """Everything of the last days that people are told of, as the ledger says it."""
    model, since = settings.model_name, now - NEWS
    decisions = ledger.decisions_since(model, since)
    rejected = [one for one in ledger.batches(state="rejected") if one.judged_at and one.judged_at >= since]
    changes = [one for one in ledger.promotions(model) if one.promoted_at >= since and one.kind not in UNTOLD_CHANGES]
    images = [one for one in ledger.images(model) if one.state in FAILED_IMAGES and one.recorded_at >= since]
    return [
        *(batch_rejected(one, settings, now) for one in rejected),
        *(held(one, settings, now) for one in decisions if _guardrail_failed(one)),
        *(champion_fell(one, settings, now) for one in decisions if _news_of_champion(one, ledger)),
        *(promoted(one, settings, now) for one in reversed(changes)),
        *(image_failed(one, settings, now) for one in images),
    ]


def batch_rejected(batch: Batch, settings: Settings, now: datetime) -> Alert:
    """A batch was rejected; judged again by another night, it is another event."""
    beginning = batch.batch[:12]
    return make_alert(
        f"{BATCH}:{batch.batch}:{batch.night}",
        f"Batch {beginning} ({batch.name}) is rejected",
        batch.reason or "No reason is known.",
        f"Mend the file and land it again. `churn batches show {beginning}` says more; `churn batches rejudge {beginning}` has it "
        "judged again where a limit was too strict.",
        docs_page(settings, batch.batch),
        now,
    )


def held(decision: DecisionRecord, settings: Settings, now: datetime) -> Alert:
    """A guardrail has failed, and the challenger is held."""
    return make_alert(
        f"{HOLD}:{decision.model}:{decision.night}",
        f"Version {decision.challenger} of {decision.model} is held: {decision.code}",
        f"{decision.sentence} Night {decision.night}; nothing was promoted.",
        Reason.implied_by(decision.code).next_step(decision.night),
        comparison_page(settings, decision.run_id),
        now,
    )


def champion_fell(decision: DecisionRecord, settings: Settings, now: datetime) -> Alert:
    """What is in production fails floor or calibration on the newest unseen customers."""
    return make_alert(
        f"{CHAMPION}:{decision.model}:{decision.champion}:{decision.night}",
        f"Champion {decision.champion} of {decision.model} is below its floor",
        " ".join(rule["sentence"] for rule in decision.watch if not rule["passed"]),
        f"Nothing has to be done: version {decision.challenger} takes its place."
        if decision.verdict == "promote" and not (decision.dry_run or decision.approval)
        else f"Look at the comparison of night {decision.night}. Where the new customers are right, a challenger that is better takes over "
        "by itself; where a batch is wrong, `churn batches withdraw`; an earlier version is back by `churn rollback --reason ...`.",
        comparison_page(settings, decision.run_id),
        now,
    )


def promoted(change: Promotion, settings: Settings, now: datetime) -> Alert:
    """Another version is in production."""
    instead = f" instead of version {change.previous}" if change.previous else ""
    return make_alert(
        f"{PROMOTION}:{change.model}:{change.sequence}",
        f"Version {change.version} of {change.model} is in production ({change.code})",
        f"Version {change.version} is in production{instead} ({change.kind} by {change.actor}, night {change.night}): {change.reason}",
        "Nothing has to be done. An earlier version is back by the DAG churn_rollback or `churn rollback --reason ...`.",
        version_page(settings, change.model, change.version),
        now,
    )


def image_failed(image: ImageRecord, settings: Settings, now: datetime) -> Alert:
    """A version has no image that may be run; the same fault of the same version is one event."""
    what = {"mismatch": "is not the model", "faulty": "is not what an image has to be", "failed": "could not be had"}
    return make_alert(
        f"{IMAGE}:{image.model}:{image.version}:{image.state}",
        f"The image of version {image.version} of {image.model} {what[image.state]}",
        image.detail,
        _AFTER_IMAGE[image.state].format(version=image.version),
        version_page(settings, image.model, image.version),
        now,
    )


def task_failed(
    dag: str, run: str, task: str, map_index: int, error: object, settings: Settings, now: datetime
) -> Alert:
    """A task has failed at its last try."""
    name = f"{task}[{map_index}]" if map_index >= 0 else task
    return make_alert(
        f"{TASK}:{dag}:{run}:{name}",
        f"Task {name} of {dag} failed",
        f"Task {name} of {dag} failed at its last try, in run {run}: {why_failed(error)}",
        "Open the run and the task's log, mend the cause, then clear the task: every task can be run again.",
        run_page(settings, dag, run),
        now,
    )


def run_failed(dag: str, run: str, reason: str, settings: Settings, now: datetime) -> Alert:
    """A run has failed, and none of its tasks could say why."""
    why = "its time was up" if reason == "timed_out" else why_failed(None)
    return make_alert(
        f"{TASK}:{dag}:{run}:",
        f"A run of {dag} failed",
        f"Run {run} of {dag} failed: {why}",
        "Open the run: the task that is red is where it ended. Its log and the worker's memory say more; then clear the task.",
        run_page(settings, dag, run),
        now,
    )


def why_failed(error: object) -> str:
    """What an error of a task says. The words of one that is not ours may quote data: only its kind is told."""
    cause = getattr(error, "__cause__", None)
    for ours in (cause, error):
        if isinstance(ours, ChurnError):
            return str(ours)
    if isinstance(error, BaseException):
        return f"{type(error).__name__}; the task's log has the rest."
    return "no error is known; it was killed, or its worker is gone."


def trial_alert(settings: Settings, now: datetime) -> Alert:
    """A message that says nothing but that messages arrive."""
    said = f"This is a test of the messages of {settings.model_name}: whoever reads it will be told of what happens."
    return make_alert(
        f"{TEST}:{now.isoformat()}",
        "Test message",
        said,
        "Nothing has to be done.",
        run_page(settings, "churn_watch"),
        now,
    )


def make_alert(key: str, subject: str, said: str, next_step: str, link: str, now: datetime) -> Alert:
    """An alert in the form that every channel takes: a short plain subject on one line, a text of bounded length."""
    plain = " ".join(subject.split()).encode("ascii", "replace").decode()
    return Alert(key, key.split(":", 1)[0], plain[:_SUBJECT], f"{said[:_TEXT]}\n\nNext: {next_step}", link, now)


def _guardrail_failed(decision: DecisionRecord) -> bool:
    return decision.verdict == "hold" and not decision.dry_run and not Reason.implied_by(decision.code).routine


def _news_of_champion(decision: DecisionRecord, ledger: Ledger) -> bool:
    """It fails what it did not fail in the night before: the fall is the event, not every night below."""
    failing = _failing(decision)
    before = ledger.decision_before(decision) if failing else None
    return bool(failing - (_failing(before) if before else set()))


def _failing(decision: DecisionRecord) -> set[str]:
    return {rule["name"] for rule in decision.watch if not rule["passed"]}


_AFTER_IMAGE = {
    "mismatch": "Its promotion is taken back if it was in production, and automatic promotion is then off: find out why they differ, "
    "then `churn unfreeze --reason ...`.",
    "faulty": "Nothing is taken back and nothing published. Mend the build, then `churn image build --version {version}`.",
    "failed": "Nothing is taken back. When engine and registry answer, `churn image build --version {version}`, or clear the run of churn_image_build.",
}
